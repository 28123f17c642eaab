"""One file for a network: its weights and the arguments that rebuild it."""

import json
import os
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from advaug.base.files import write_whole

__all__ = ["SavedModule"]

# A file of weights describes an architecture. It must not choose another file to read, or a server.
NOT_FROM_FILES = ("pretrained",)


class SavedModule(nn.Module):
    """A module that can be written to a file and read back.

    Attributes:
        arguments: The arguments of `__init__` that give the same architecture, in values that JSON
            can hold. A subclass sets it.
    """

    arguments: dict[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and architecture to one safetensors file, all of it or nothing.

        Args:
            path: The file; an older one is replaced. Its folder must exist.
        """
        path = Path(path)
        # safetensors refuses tensors that are not contiguous, such as channels-last weights.
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        data = save(
            tensors, {"format": _format(type(self)), "arguments": json.dumps(self.arguments)}
        )
        write_whole(path, data)

    @classmethod
    def load(cls, path: str | os.PathLike[str], map_location: str | torch.device = "cpu") -> Self:
        """Rebuild a network from a file of `save`, without touching the global random state.

        Args:
            path: A file that `save` wrote.
            map_location: The device for the network.

        Returns:
            The network in training mode, like a new one.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file was not written by `save`, or sets an argument that `save` never
                writes.
        """
        arguments, tensors = _read(Path(path), cls)
        try:
            network = cls._blank(arguments)
            network.load_state_dict(tensors, assign=True)
        except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
            raise _not_ours(path, cls, "weights that do not fit their architecture") from error
        return network.to(map_location)

    @classmethod
    def _blank(cls, arguments: dict[str, Any]) -> Self:
        """A network whose weights will be read later: no memory and no random numbers for them."""
        with torch.device("meta"):
            return cls(**arguments)


def _format(owner: type[SavedModule]) -> str:
    return f"advaug.{owner.__name__}/1"


def _read(path: Path, owner: type[SavedModule]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the architecture and the weights in a file of `save`."""
    if path.exists() and not path.is_file():
        raise _not_ours(path, owner, "a folder, a pipe or a device")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copied, since tensors within a file begin anywhere. On memory that is not aligned as
            # PyTorch's own is, matrix products choose other kernels, which round differently.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 # it is no dict
    except SafetensorError as error:
        raise _not_ours(path, owner, "no safetensors file") from error
    if metadata.get("format") != _format(owner):
        raise _not_ours(path, owner, f"the format {metadata.get('format')!r}")
    return _arguments(path, owner, metadata.get("arguments")), tensors


def _arguments(path: Path, owner: type[SavedModule], text: str | None) -> dict[str, Any]:
    """Arguments that describe an architecture, and do nothing else."""
    try:
        arguments: Any = json.loads(text or "")
    except (ValueError, RecursionError) as error:
        raise _not_ours(path, owner, "arguments that are not JSON") from error
    if not isinstance(arguments, dict):
        raise _not_ours(path, owner, "arguments that are not a dict")
    forbidden = [name for name in NOT_FROM_FILES if name in arguments]
    if forbidden:
        raise _not_ours(path, owner, f"the argument {forbidden[0]!r}, which no file may set,")
    return arguments


def _not_ours(path: str | os.PathLike[str], owner: type[SavedModule], fact: str) -> ValueError:
    return ValueError(
        f"`path` must be a file written by `{owner.__name__}.save`, but got {fact} in "
        f"{os.fspath(path)}. Save the network again, or read it with `safetensors.torch.load_file`."
    )

"""One file for a network: its weights and the arguments that rebuild it."""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from advaug.base.files import write_whole

__all__ = ["SavedModule"]

# A file of weights describes an architecture. It must not choose another file to read, or a server.
NOT_FROM_FILES = ("pretrained",)
LARGEST = 4096  # of numbers that no weight's shape shows: sides of pictures, steps, coordinates


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
            with no_larger_than(tensors):
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


@contextmanager
def no_larger_than(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Let this thread build about as many parameters as there are tensors, and no more.

    A file of a few bytes may describe a network of many gigabytes. Some slack is for parts that a
    network drops before it is saved, such as the classifier of a backbone.

    Raises:
        ValueError: At the first parameter too many.
    """
    counts = {
        "tensors": 2 * len(tensors) + 100,
        "values": 2 * sum(each.numel() for each in tensors.values()) + 2**25,
    }
    thread = threading.get_ident()

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        if parameter is None or threading.get_ident() != thread:
            return
        counts["tensors"] -= 1
        counts["values"] -= parameter.numel()
        if min(counts.values()) < 0:
            msg = "the network has more parameters than the file"
            raise ValueError(msg)

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _format(owner: type[SavedModule]) -> str:
    return f"advaug.{owner.__name__}/1"


def _read(path: Path, owner: type[SavedModule]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the architecture and the weights in a file of `save`."""
    if path.exists() and not path.is_file():
        raise _not_ours(path, owner, "a folder, a pipe or a device", tensors=False)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copied, since tensors within a file begin anywhere. On memory that is not aligned as
            # PyTorch's own is, matrix products choose other kernels, which round differently.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 # it is no dict
    except SafetensorError as error:
        raise _not_ours(path, owner, "no safetensors file", tensors=False) from error
    if metadata.get("format") != _format(owner):
        raise _not_ours(path, owner, f"the format {metadata.get('format')!r}")
    most = max(
        (side for each in tensors.values() if each.numel() for side in each.shape), default=0
    )
    return _arguments(path, owner, metadata.get("arguments"), most), tensors


def _arguments(path: Path, owner: type[SavedModule], text: str | None, most: int) -> dict[str, Any]:
    """Arguments that describe an architecture, and do nothing else."""
    try:
        arguments: Any = json.loads(text or "")
    except (ValueError, RecursionError) as error:
        raise _not_ours(path, owner, "arguments that are not JSON") from error
    if not isinstance(arguments, dict):
        raise _not_ours(path, owner, "arguments that are not a dict")
    if _largest(arguments) > max(LARGEST, most):
        raise _not_ours(path, owner, "a number that none of its weights is large enough for")
    forbidden = [name for name in NOT_FROM_FILES if name in arguments]
    if forbidden:
        raise _not_ours(path, owner, f"the argument {forbidden[0]!r}, which no file may set,")
    return arguments


def _largest(value: Any) -> float:  # noqa: ANN401 # any JSON
    """The largest number in arguments; 0 if there is none."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return max(map(_largest, value), default=0)
    return abs(value) if isinstance(value, int | float) else 0


def _not_ours(
    path: str | os.PathLike[str], owner: type[SavedModule], fact: str, *, tensors: bool = True
) -> ValueError:
    """The error for a file that is not `owner`'s; `tensors` is whether it holds any at all."""
    otherwise = ", or read it with `safetensors.torch.load_file`" if tensors else ""
    return ValueError(
        f"`path` must be a file written by `{owner.__name__}.save`, but got {fact} in "
        f"{os.fspath(path)}. Save the network again{otherwise}."
    )

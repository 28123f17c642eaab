"""Where an adversary learns: in the process of the training loop, and in no copy of it."""

import io
import os
from collections.abc import Callable
from multiprocessing.context import get_spawning_popen, set_spawning_popen
from typing import Any

import torch
from torch.utils.data import get_worker_info

from advaug.base.distributed import is_running

__all__ = ["Home", "reduced"]


class Home:
    """The process that an adversary belongs to.

    What a child process learns never returns to its parent, whose adversary would stay as it was
    without any error. The processes of a distributed run are different: each of them holds the
    whole adversary, and they learn together. A child that built, loaded or copied the adversary
    itself may learn, too.

    Args:
        process: Id of the process; None for this one.
    """

    def __init__(self, process: int | None = None) -> None:
        self._process = os.getpid() if process is None else process

    def __reduce__(self) -> tuple[type["Home"], tuple[int, ...]]:
        """A copy belongs to the process that copied or loaded it; a spawned one does not."""
        return Home, () if get_spawning_popen() is None else (self._process,)

    def check(self, call: str) -> None:
        """Raise where nothing that is learned would reach the training loop.

        Args:
            call: What the caller has called.

        Raises:
            RuntimeError: In a worker of a DataLoader, and in a child process that was handed the
                adversary, unless `torch.distributed` is running there.
        """
        if get_worker_info() is not None:
            msg = (
                f"`{call}` must be called in the training loop, where the backward is, but this is "
                "a worker of a DataLoader. Move the call to where the batch has arrived."
            )
            raise RuntimeError(msg)
        if os.getpid() != self._process and not is_running():
            msg = (
                f"`{call}` must be called in the process that built the adversary, but this is a "
                "child of it, whose parent would never see what is learned. If the whole training "
                "happens here, use a copy: `adversary = copy.deepcopy(adversary)`."
            )
            raise RuntimeError(msg)


def reduced(owner: Any, plain: Callable[[], Any]) -> Any:  # noqa: ANN401 # pickle's
    """How an adversary is pickled: a spawned process gets its own copy of the weights.

    PyTorch would share the parent's weights with all spawned processes, which would overwrite each
    other's steps. It also cannot pass tensors without elements to a process.

    Args:
        owner: What has a `Home` as `_home`.
        plain: How it is pickled otherwise.
    """
    spawning = get_spawning_popen()
    if spawning is None:
        return plain()
    file = io.BytesIO()
    set_spawning_popen(None)  # or tensors would be shared
    try:
        torch.save(owner, file)
    finally:
        set_spawning_popen(spawning)
    return _arrived, (file.getvalue(), owner._home)


def _arrived(data: bytes, home: Home) -> Any:  # noqa: ANN401 # the owner
    owner = torch.load(io.BytesIO(data), weights_only=False)  # not the parent's memory
    owner._home = home
    return owner

"""What became of the processes that read pictures."""

import time
from collections.abc import Callable
from typing import TypeVar

from advaug.errors import DatasetError

__all__ = ["heard", "survived"]

T = TypeVar("T")
_DEATH = "DataLoader worker (pid"  # how PyTorch's error begins
_PATIENCE = 1.0  # seconds until the news of a death has arrived


def heard(work: Callable[[], T]) -> T:
    """Do something with a DataLoader, whose workers may die.

    Raises:
        RuntimeError: PyTorch's own if a worker dies, also where a broken pipe is noticed first.
    """
    try:
        return work()
    except (OSError, EOFError):
        time.sleep(_PATIENCE)  # PyTorch's handler of the signal raises in here
        raise


def survived(work: Callable[[], T], go_on: str = "Run the same again to go on.") -> T:
    """Do something with a DataLoader, and say in one line what to do where a worker dies.

    It goes around the whole loop: PyTorch raises its error wherever the main process is then.

    Args:
        work: The loop.
        go_on: What to do.

    Raises:
        DatasetError: If a worker dies.
    """
    try:
        return heard(work)
    except RuntimeError as error:
        if not str(error).startswith(_DEATH):
            raise
        fact = str(error).splitlines()[0].strip().rstrip(".")
    # Out here nothing holds on to the frames of the loop, and with them to its other workers.
    message = (
        f"the processes that read pictures must live, but got: {fact}. {go_on} If it happens "
        "again, the machine is short of memory (or of /dev/shm) or a picture kills its reader: use "
        "fewer workers (`--workers`)."
    )
    raise DatasetError(message)

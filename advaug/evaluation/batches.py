"""Batches that shrink when memory does not hold them."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Batches"]

# How PyTorch's allocators, onnxruntime and C++ say that memory has run out.
PHRASES = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc")
ONNX_PHRASES = ("failed to allocate memory", "bad allocation")


class Batches:
    """Work on pictures batch by batch; a batch that does not fit in memory is halved.

    Args:
        size: Pictures at a time, initially.
        say: Called with one line each time that the size is halved.

    Attributes:
        size: Current number of pictures at a time.
        said: Every line that was said.
    """

    def __init__(self, size: int, say: Callable[[str], None]) -> None:
        self.size = size
        self.said: list[str] = []
        self._say = say

    def map(self, work: Callable[[slice], Tensor], count: int) -> Tensor:
        """Return the results for `count` pictures, one after the other.

        Args:
            work: From a slice of the pictures to their results.
            count: How many pictures there are.

        Raises:
            MemoryError: If not even one picture fits.
        """
        parts: list[Tensor] = []
        start = 0
        while start < count:
            part = self._try(work, slice(start, min(start + self.size, count)))
            if part is None:
                self._halve()
            else:
                parts.append(part)
                start += len(part)
        return torch.cat(parts)

    def _try(self, work: Callable[[slice], Tensor], part: slice) -> Tensor | None:
        """The results of a batch, or None if it did not fit."""
        try:
            return work(part)
        except Exception as error:  # each library has its own class for this
            if not _is_out_of_memory(error):
                raise
        # Outside the `except`, where the traceback no longer holds what the batch has allocated.
        return None

    def _halve(self) -> None:
        if self.size == 1:
            msg = (
                "a batch of one picture must fit in memory, but does not. Use smaller pictures or "
                "a device with more memory."
            )
            raise MemoryError(msg)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        line = f"a batch of {self.size} does not fit in memory: going on with {self.size // 2}"
        self.said.append(line)
        self._say(line)
        self.size //= 2


def _is_out_of_memory(error: Exception) -> bool:
    words = str(error).lower()
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(phrase in words for phrase in (*PHRASES, *ONNX_PHRASES))

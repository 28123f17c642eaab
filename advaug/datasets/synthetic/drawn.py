"""What the data sets that are drawn on access have in common."""

import operator
from typing import SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from advaug.base.checks import check_choice
from advaug.datasets.sample import LandmarkSample
from advaug.datasets.synthetic.faces.shape import Floats

__all__ = ["DrawnPictures"]


class DrawnPictures(Dataset[LandmarkSample]):
    """Pictures that depend only on `(seed, split, index)`, in every process.

    Args:
        count: Number of pictures.
        split: One of `splits`.
        image_size: Side of the pictures, in pixels.
        seed: Another seed gives other pictures.
        splits: The allowed names.
        least_size: Smallest `image_size`.

    Raises:
        TypeError: If a number is not a whole number.
        ValueError: If a number is too small or there is no such split.
    """

    def __init__(
        self,
        count: int,
        split: str,
        image_size: int,
        seed: int,
        *,
        splits: tuple[str, ...],
        least_size: int,
    ) -> None:
        check_choice("split", split, splits)
        self.count = _whole_number("count", count, 1)
        self.split = split
        self.image_size = _whole_number("image_size", image_size, least_size)
        self.seed = _whole_number("seed", seed, 0)
        self._split_number = splits.index(split)

    def __len__(self) -> int:
        return self.count

    def _generator(self, index: SupportsIndex) -> np.random.Generator:
        """Return the generator of one picture; negative indices count from the end.

        Raises:
            IndexError: If there is no such picture.
        """
        position = operator.index(index)
        if not -self.count <= position < self.count:
            message = (
                f"`index` must be below {self.count}, but got {position}. "
                "Pass a larger `count` for more pictures."
            )
            raise IndexError(message)
        entropy = (self.seed, self._split_number, position % self.count)
        return np.random.default_rng(np.random.SeedSequence(entropy))

    def _sample(self, image: NDArray[np.float32], landmarks: Floats) -> LandmarkSample:
        """Return a picture `(3, H, W)` and its landmarks, visible where inside, as a sample."""
        inside = ((landmarks >= -0.5) & (landmarks < self.image_size - 0.5)).all(axis=1)
        return LandmarkSample(
            torch.from_numpy(image),
            torch.from_numpy(landmarks.astype(np.float32)),
            torch.from_numpy(inside),
        )


def _whole_number(name: str, value: int, least: int) -> int:
    """Return `value` as an int.

    Raises:
        TypeError: If it is not a whole number.
        ValueError: If it is below `least`.
    """
    try:
        number = operator.index(value)
    except TypeError as error:
        message = f"`{name}` must be a whole number, but got {value!r}. Pass an int."
        raise TypeError(message) from error
    if number < least:
        message = f"`{name}` must be at least {least}, but got {number}. Pass {least} or more."
        raise ValueError(message)
    return number

"""What every dataset of the library gives."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["LandmarkSample"]


class LandmarkSample(NamedTuple):
    """One picture with its landmarks; PyTorch's default collation makes a batch of them.

    Attributes:
        image: `(3, H, W)` float32, RGB, or `(1, H, W)`, grey, where the reader is asked for it; in
            `[0, 1]`.
        landmarks: `(N, 2)` float32, x then y, in pixels of `image`; 0-based, integers at pixel
            centres.
        visible: `(N,)` bool; False where a landmark is not annotated or outside the picture.
    """

    image: Tensor
    landmarks: Tensor
    visible: Tensor

"""What a corruption is, and what it works on: pictures, the face's square, and random keys."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from advaug.augment._geometry import send
from advaug.augment._random import uniform

__all__ = ["NOISE_CELLS", "Corruption", "Scene", "Square"]

NOISE_CELLS = 128
"""Cells per side on which noise is defined."""


class Square(NamedTuple):
    """The square around a face, whose side is the unit of every strength.

    Attributes:
        left: Its left edge, in pixels counted from the picture's left edge.
        top: Its top edge, in pixels counted from the picture's top edge.
        side: Its side, pixels.
    """

    left: float
    top: float
    side: float

    @classmethod
    def inside(cls, height: int, width: int) -> "Square":
        """The largest square in the middle of a picture."""
        side = min(height, width)
        return cls((width - side) / 2, (height - side) / 2, side)


@dataclass(frozen=True)
class Scene:
    """A batch to corrupt.

    Attributes:
        images: `(B, 3, H, W)`, float32 or float64, in `[0, 1]`.
        keys: `(B,)` integers on the CPU; everything random follows from them.
        square: Where the face is, in all pictures.
        landmarks: `(B, 68, 2)` in pixels, of the dtype and on the device of `images`, or None.
    """

    images: Tensor
    keys: Tensor
    square: Square
    landmarks: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` of the pictures."""
        return self.images.shape[-2], self.images.shape[-1]

    def draw(self, count: int) -> Tensor:
        """`count` numbers in [0, 1) for each picture: `(count, B, 1, 1)`."""
        drawn = uniform(self.keys, count).T.double()
        return send(drawn, self.images)[..., None, None]

    def coordinates(self) -> tuple[Tensor, Tensor]:
        """Columns `(1, W)` and rows `(H, 1)`: 0 at the square's centre, in units of its side."""
        height, width = self.size
        x = torch.arange(width, dtype=self.images.dtype, device=self.images.device)
        y = torch.arange(height, dtype=self.images.dtype, device=self.images.device)
        left, top, side = self.square
        u = (x + 0.5 - left) / side - 0.5
        v = (y + 0.5 - top) / side - 0.5
        return u[None, :], v[:, None]

    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the pixels whose centres lie in the square."""
        height, width = self.size
        left, top, side = self.square
        return _pixels(top, side, height), _pixels(left, side, width)


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes:
        apply: From a scene and a strength to pictures, not yet clamped.
        strengths: Of severity 1 to 5, in `unit`.
        unit: What a strength is.
        face: Whether it needs the 68 landmarks of a face.
    """

    apply: Callable[[Scene, float], Tensor]
    strengths: tuple[float, float, float, float, float]
    unit: str
    face: bool = False


def _pixels(start: float, side: float, end: int) -> slice:
    # Not `round`, which maps 9.5 and 10.5 to the same number.
    first, last = math.floor(start + 0.5), math.floor(start + side + 0.5)
    return slice(max(0, first), min(end, last))

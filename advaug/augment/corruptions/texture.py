"""Random fields that depend on a picture's key and on a pixel's position in the square.

A value belongs to a point of a lattice, not to a pixel. It is the same at every size of a picture,
and around a face in a larger one.
"""

import torch
from torch import Tensor

from advaug.augment._random import hash_integers
from advaug.augment.corruptions.scene import Scene

__all__ = ["cells", "smooth_noise"]

_COLUMN, _ROW, _LAYER = 0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35  # odd and far apart


def cells(scene: Scene, x: Tensor, y: Tensor, layer: int) -> Tensor:
    """A number in [0, 1) for each unit square of the plane, constant within it.

    Args:
        scene: Its keys decide the numbers.
        x: Columns that broadcast with `y` to `(B, H, W)`, in unit squares.
        y: Rows.
        layer: Each layer has other numbers.

    Returns:
        `(B, H, W)`.
    """
    keys = scene.keys.to(x.device, non_blocking=True)[:, None, None] + layer * _LAYER
    places = x.floor().long() * _COLUMN + y.floor().long() * _ROW
    return (hash_integers(keys + places) >> 8).to(x.dtype) / 2**24


def smooth_noise(scene: Scene, x: Tensor, y: Tensor, layer: int) -> Tensor:
    """Numbers in [0, 1) at whole `x` and `y`, with a smooth step from each to the next.

    Arguments and result are those of `cells`.
    """
    right, below = (value - value.floor() for value in (x, y))
    right, below = (part * part * (3 - 2 * part) for part in (right, below))
    upper, lower = (
        torch.lerp(cells(scene, x, row, layer), cells(scene, x + 1, row, layer), right)
        for row in (y, y + 1)
    )
    return torch.lerp(upper, lower, below)

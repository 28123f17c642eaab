"""Blur of the lens and of movement. Every kernel is its own mirror image, so nothing shifts."""

import math

import torch
from kornia.filters import fft_conv
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from advaug.augment.corruptions.scene import Scene

__all__ = ["defocus_blur", "motion_blur", "zoom_blur"]

_LINE_WIDTH = 1.0  # pixels


def defocus_blur(scene: Scene, radius: float) -> Tensor:
    """Spread each point over a disk; `radius` is in units of the square's side."""
    pixels = radius * scene.square.side
    x, y = _offsets(scene, pixels)
    kernel = (pixels + 0.5 - torch.hypot(x, y)).clamp(0, 1)
    return _filtered(scene, kernel[None])


def motion_blur(scene: Scene, length: float) -> Tensor:
    """Spread each point over a line in a random direction; `length` in units of the side."""
    half = length * scene.square.side / 2
    x, y = _offsets(scene, half)
    (angle,) = math.pi * scene.draw(1)
    along = x * angle.cos() + y * angle.sin()
    across = y * angle.cos() - x * angle.sin()
    kernel = (half + 0.5 - along.abs()).clamp(0, 1)
    kernel = kernel * (_LINE_WIDTH / 2 + 0.5 - across.abs()).clamp(0, 1)
    return _filtered(scene, kernel)


def zoom_blur(scene: Scene, reach: float) -> Tensor:
    """Average magnifications from `1 - reach` to `1 + reach` about the centre of the square.

    Their mean is 1, and each weighs less by as much as it magnifies: a landmark is smeared along
    its ray from the centre, but its centre of mass stays where it is. Both signs of reach / 2,
    reach / 4, ... are summed, so that every binary fraction between the two ends occurs.
    """
    images = scene.images
    displacement = reach * scene.square.side / 2  # at the border, pixels
    for halving in range(1, 2 + max(1, math.ceil(math.log2(max(displacement, 1))))):
        step = reach / 2**halving
        share = (1 + step) ** -2 / ((1 + step) ** -2 + (1 - step) ** -2)
        larger, smaller = (_magnified(scene, images, 1 + sign * step) for sign in (1, -1))
        images = share * larger + (1 - share) * smaller
    return images


def _offsets(scene: Scene, reach: float) -> tuple[Tensor, Tensor]:
    """X `(1, k)` and y `(k, 1)` of a kernel's entries, in pixels from its centre."""
    entries = math.ceil(reach + 0.5)
    line = torch.arange(-entries, entries + 1, dtype=scene.images.dtype, device=scene.images.device)
    return line[None, :], line[:, None]


def _filtered(scene: Scene, kernel: Tensor) -> Tensor:
    return fft_conv(scene.images, kernel, border_type="replicate", normalized=True)


def _magnified(scene: Scene, images: Tensor, factor: float) -> Tensor:
    """Magnify about the centre of the square; outside the picture its border is repeated."""
    height, width = scene.size
    left, top, side = scene.square
    centre = ((2 * left + side) / width - 1, (2 * top + side) / height - 1)
    rows = [[1 / factor, 0, centre[0] * (1 - 1 / factor)]]
    rows += [[0, 1 / factor, centre[1] * (1 - 1 / factor)]]
    matrix = torch.tensor(rows, dtype=images.dtype).to(images.device, non_blocking=True)
    grid = affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)

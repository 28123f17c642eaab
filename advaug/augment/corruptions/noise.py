"""Noise of the sensor.

Noise has one value per cell. A cell is a whole number of pixels wide, as close to 1/128 of the
face's square as possible. The noise power in a part of the face does not depend on the number of
pixels: reduced to the same size, noisy pictures of 256 pixels and of 64 look alike.
"""

import math

from torch import Tensor

from advaug.augment._random import normal, uniform
from advaug.augment.corruptions.scene import NOISE_CELLS, Scene

__all__ = ["gaussian_noise", "impulse_noise", "low_light", "shot_noise"]


def gaussian_noise(scene: Scene, deviation: float) -> Tensor:
    """Add noise of a standard deviation."""
    _, area = _cell(scene)
    return scene.images + deviation / math.sqrt(area) * _normal_cells(scene)


def shot_noise(scene: Scene, photons: float) -> Tensor:
    """Count photons; white gives `photons` of them per cell."""
    return _counted(scene, scene.images, photons)


def impulse_noise(scene: Scene, share: float) -> Tensor:
    """Set a share of the values to 0 or 1, each colour separately."""
    _, area = _cell(scene)
    drawn = _uniform_cells(scene)
    share = min(share / area, 1.0)
    salted = scene.images.masked_fill(drawn < share / 2, 1.0)
    return salted.masked_fill(drawn > 1 - share / 2, 0.0)


def low_light(scene: Scene, light: float) -> Tensor:
    """Let a part of the light reach a sensor whose white is 400 photons per cell."""
    return _counted(scene, light * scene.images, 400.0)


def _counted(scene: Scene, images: Tensor, photons: float) -> Tensor:
    """Replace values by counts; a Poisson variable is nearly a squared normal one."""
    _, area = _cell(scene)
    white = photons * area
    root = (white * images.clamp(min=0)).sqrt() + _normal_cells(scene) / 2
    return (root.clamp(min=0).square() - 0.25) / white


def _cell(scene: Scene) -> tuple[int, float]:
    """Side of a cell in pixels, and its area in units of a 1/128 square."""
    pixels = max(1, round(scene.square.side / NOISE_CELLS))
    return pixels, (pixels * NOISE_CELLS / scene.square.side) ** 2


def _normal_cells(scene: Scene) -> Tensor:
    keys, shape = _layout(scene)
    return _spread(scene, normal(keys, math.prod(shape)).view(-1, *shape))


def _uniform_cells(scene: Scene) -> Tensor:
    keys, shape = _layout(scene)
    return _spread(scene, uniform(keys, math.prod(shape)).view(-1, *shape))


def _layout(scene: Scene) -> tuple[Tensor, tuple[int, int, int]]:
    """Keys on the device, and how many cells there are: `(3, rows, columns)`."""
    pixels, _ = _cell(scene)
    rows, columns = (-(-side // pixels) for side in scene.size)
    return scene.keys.to(scene.images.device, non_blocking=True), (3, rows, columns)


def _spread(scene: Scene, cells: Tensor) -> Tensor:
    """Spread the cells' values `(B, 3, rows, columns)` over their pixels `(B, 3, H, W)`."""
    pixels, _ = _cell(scene)
    height, width = scene.size
    spread = cells.to(scene.images.dtype)
    if pixels > 1:
        spread = spread.repeat_interleave(pixels, dim=3)[..., :width]
        spread = spread.repeat_interleave(pixels, dim=2)[..., :height, :]
    return spread

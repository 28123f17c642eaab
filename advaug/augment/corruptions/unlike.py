"""Corruptions that no augmentation of this library resembles, for a separate benchmark.

Snow, frost, spatter, glass blur and saturation after ImageNet-C (D. Hendrycks and T. Dietterich,
ICLR 2019); waves after ImageNet-C-bar (E. Mintun et al., NeurIPS 2021). Where we differ: lengths
are in units of the side of the face's square, so that a picture's size does not matter; frost is
drawn, not photographed; spatter is mud or water at every severity; saturation only rises.
"""

import math
from collections.abc import Mapping

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from advaug.augment._geometry import displace
from advaug.augment.corruptions.scene import Corruption, Scene
from advaug.augment.corruptions.texture import cells, smooth_noise

__all__ = ["UNLIKE", "frost", "glass_blur", "saturation", "snow", "spatter", "waves"]

_LUMA = (0.299, 0.587, 0.114)
_ICE = (0.86, 0.94, 1.0)
_MUD = (0.25, 0.165, 0.08)
_WATER = (0.69, 0.93, 0.93)
_CRYSTALS = (5, 10, 20, 40)  # per side, from the coarsest
_GRAINS = 64  # of rough glass, per side


def snow(scene: Scene, amount: float) -> Tensor:
    """Let flakes fall before a whitened scene, near ones and far ones, in one direction."""
    (lean,) = scene.draw(1)
    u, v = scene.coordinates()
    angle = math.pi * (0.25 + 0.5 * lean)  # steeply downwards
    along = u * angle.cos() + v * angle.sin()
    across = v * angle.cos() - u * angle.sin()
    flakes = torch.zeros_like(scene.images[:, 0])
    for layer, count in enumerate((20, 45)):
        drawn = smooth_noise(scene, across * count, along * count / 3, layer)
        flakes = torch.maximum(flakes, ((drawn - 1 + amount / 2) / 0.15).clamp(0, 1))
    haze = torch.maximum(scene.images, 1.5 * _grey(scene.images) + 0.5)
    return torch.lerp(scene.images, haze, 0.5 * amount) + flakes[:, None]


def frost(scene: Scene, share: float) -> Tensor:
    """Look through a frosted window: crystals of ice, thicker towards the border."""
    u, v = scene.coordinates()
    bend = smooth_noise(scene, 6 * u, 6 * v, len(_CRYSTALS)) - 0.5
    x, y = u + 0.15 * bend, v - 0.15 * bend
    crystals = torch.zeros_like(bend)
    for layer, count in enumerate(_CRYSTALS):
        drawn = smooth_noise(scene, count * x, count * y, layer)
        crystals += (1 - (2 * drawn - 1).abs()).square() / len(_CRYSTALS)  # bright at 1/2: ridges
    edge = (2 * torch.maximum(u.abs(), v.abs())).clamp(max=1)
    ice = (1.6 * crystals * (0.5 + 0.5 * edge)).clamp(0, 1)[:, None]
    return (1 - share / 2) * scene.images + share * ice * _colour(scene, _ICE)


def spatter(scene: Scene, coverage: float) -> Tensor:
    """Drops of mud or water on the lens, over a share of the square."""
    (kind,) = scene.draw(1)
    u, v = scene.coordinates()
    drops = smooth_noise(scene, 7 * u, 7 * v, 0) + 0.5 * smooth_noise(scene, 17 * u, 17 * v, 1)
    rows, columns = scene.window()
    inside = drops[:, rows, columns].flatten(1)
    dry = min(int((1 - coverage) * inside.shape[1]), inside.shape[1] - 1)
    level = inside.sort(dim=1).values[:, dry, None, None]
    # A drop's edge is about a pixel wide.
    cover = ((drops - level) * scene.square.side / 12 + 0.5).clamp(0, 1)
    muddy = kind < 0.5
    colour = torch.where(muddy[..., None], _colour(scene, _MUD), _colour(scene, _WATER))
    opacity = torch.where(muddy, 1.0, 0.6).to(cover.dtype) * cover
    return torch.lerp(scene.images, colour, opacity[:, None])


def glass_blur(scene: Scene, reach: float) -> Tensor:
    """Look through rough glass: each grain shows another position, up to `reach` sides away."""
    u, v = scene.coordinates()
    drawn = [cells(scene, _GRAINS * u, _GRAINS * v, layer) for layer in range(2)]
    offsets = reach * scene.square.side * (2 * torch.stack(drawn, dim=1) - 1)
    scattered = displace(scene.images, offsets)
    deviation = reach * scene.square.side / 4
    width = 2 * min(math.ceil(3 * deviation), min(scene.size) - 1) + 1
    return gaussian_blur2d(scattered, (width, width), (deviation, deviation), "replicate")


def saturation(scene: Scene, factor: float) -> Tensor:
    """Draw colours away from their grey; a grey picture stays as it is."""
    grey = _grey(scene.images)
    return grey + factor * (scene.images - grey)


def waves(scene: Scene, amplitude: float) -> Tensor:
    """Add bright and dark stripes of one wavelength in any direction."""
    angle, frequency, phase = scene.draw(3)
    u, v = scene.coordinates()
    angle = 2 * math.pi * angle
    stripes = (4 + 8 * frequency) * (u * angle.cos() + v * angle.sin())
    wave = (2 * math.pi * (stripes + phase)).sin()
    return scene.images + amplitude * wave[:, None]


def _grey(images: Tensor) -> Tensor:
    """Luminance, `(B, 1, H, W)`."""
    red, green, blue = images.split(1, dim=1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _colour(scene: Scene, colour: tuple[float, float, float]) -> Tensor:
    """`(3, 1, 1)`."""
    return scene.images.new_tensor(colour)[:, None, None]


UNLIKE: Mapping[str, Corruption] = {
    "snow": Corruption(snow, (0.3, 0.39, 0.46, 0.54, 0.61), "amount"),
    "frost": Corruption(frost, (0.45, 0.53, 0.6, 0.68, 0.76), "share"),
    "spatter": Corruption(spatter, (0.02, 0.045, 0.075, 0.11, 0.15), "share of the area"),
    "glass_blur": Corruption(glass_blur, (0.01, 0.015, 0.02, 0.026, 0.034), "reach"),
    "saturation": Corruption(saturation, (2, 2.6, 3.3, 4.2, 5.5), "factor"),
    "waves": Corruption(waves, (0.08, 0.14, 0.2, 0.27, 0.35), "amplitude"),
}
"""Every kind by its name. Lengths are in units of the side of the face's square.

By root mean square, the strengths change real faces about as much as ImageNet-C's do at 224 pixels.
"""

"""Exposure, light from one side, shadow, haze and colour."""

import math

import torch
from torch import Tensor

from advaug.augment.corruptions.scene import Scene

__all__ = ["brightness", "cast_shadow", "colour_cast", "contrast", "fog", "side_light"]

_LUMA = (0.299, 0.587, 0.114)
_AIRLIGHT = (0.86, 0.88, 0.9)
_WAVES = 6


def brightness(scene: Scene, share: float) -> Tensor:
    """Overexpose: move the square's mean grey a share of its way to white, and clip what is above.

    So a dark picture is multiplied by a larger factor than a light one.
    """
    mean = _mean_grey(scene).clamp(min=0.05)
    return scene.images * (mean + share * (1 - mean)) / mean


def contrast(scene: Scene, factor: float) -> Tensor:
    """Move all values towards the mean grey of the square."""
    mean = _mean_grey(scene)
    return mean + factor * (scene.images - mean)


def side_light(scene: Scene, depth: float) -> Tensor:
    """Light the face from the left or the right: `1 - depth` on the dark side.

    The lit side gains half of what the dark side loses.
    """
    side, slope = scene.draw(2)
    direction = torch.where(side < 0.5, 0.0, math.pi) + (slope - 0.5) * math.pi / 2
    u, v = scene.coordinates()
    along = u * direction.cos() + v * direction.sin()
    lit = _smooth_step(along / 0.6 + 0.5)
    return scene.images * (1 - depth + 1.5 * depth * lit)[:, None]


def cast_shadow(scene: Scene, depth: float) -> Tensor:
    """Cast a shadow over about half of the face: `1 - depth` of the light remains there.

    The shadow's edge is a wave through the middle of the face, with a narrow penumbra.
    """
    angle, offset, phase, frequency, height = scene.draw(5)
    u, v = scene.coordinates()
    angle = 2 * math.pi * angle
    along = u * angle.cos() + v * angle.sin()
    across = v * angle.cos() - u * angle.sin() + 0.2 * (offset - 0.5)
    wave = (2 * math.pi * ((1 + 2 * frequency) * along + phase)).sin()
    shadow = _smooth_step((across + (0.03 + 0.05 * height) * wave) / 0.04 + 0.5)
    return scene.images * (1 - depth * shadow)[:, None]


def fog(scene: Scene, density: float) -> Tensor:
    """Mix with the light of the air, in drifts of a third more or less than `density`."""
    drawn = scene.draw(3 * _WAVES)
    u, v = scene.coordinates()
    drift = torch.zeros_like(scene.images[:, 0])
    for angle, frequency, phase in zip(*drawn.chunk(3), strict=True):
        waves = 2 * math.pi * (0.5 + 2 * frequency)
        angle = 2 * math.pi * angle
        drift += (waves * (u * angle.cos() + v * angle.sin()) + 2 * math.pi * phase).sin()
    veil = (density * (1 + drift / _WAVES)).clamp(0, 1)[:, None]
    air = scene.images.new_tensor(_AIRLIGHT)[:, None, None]
    return scene.images + veil * (air - scene.images)


def colour_cast(scene: Scene, strength: float) -> Tensor:
    """Multiply red, green and blue by gains about 1, towards a random hue."""
    (hue,) = scene.draw(1)
    thirds = torch.arange(3, dtype=scene.images.dtype, device=scene.images.device)
    turn = 2 * math.pi * (hue[:, None] + thirds[:, None, None] / 3)
    return scene.images * (1 + strength * turn.cos())


def _mean_grey(scene: Scene) -> Tensor:
    """Mean luminance of the square in each picture, `(B, 1, 1, 1)`."""
    rows, columns = scene.window()
    red, green, blue = scene.images[..., rows, columns].mean((2, 3)).unbind(1)
    grey = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return grey[:, None, None, None]


def _smooth_step(value: Tensor) -> Tensor:
    value = value.clamp(0, 1)
    return value * value * (3 - 2 * value)

"""The light of a picture, as a mask in it would catch it."""

from typing import NamedTuple

import numpy as np

from advaug.augment.masks.shape import Array, Sheet

__all__ = ["Grain", "Light", "form_shading", "measure_grain", "measure_light"]


_SAMPLES = 24  # per side, of the face
_ENTRIES = 256


class Light(NamedTuple):
    """The light on a face.

    Attributes:
        gain: `(3, 1, 1)`, factor on the cloth's colour: exposure and a little of the cast.
        sideways: How much brighter the right cheek is, per unit of `Sheet.turn`.
        downwards: How much brighter the chin is, per unit of `Sheet.down`.
    """

    gain: Array
    sideways: float
    downwards: float


class Grain(NamedTuple):
    """How sharp a picture is.

    Attributes:
        blur: Standard deviation of a Gaussian, pixels.
        noise: Standard deviation, in units of the picture.
    """

    blur: float
    noise: float


def measure_light(overall: Array, luma: Array, sheet: Sheet, alpha: Array) -> Light:
    """Read the light from a picture.

    Args:
        overall: `(K, 3)`, pixels from all over the picture, in `[0, 1]`.
        luma: `(H, W)`, luminance of the part of it under the mask.
        sheet: Coordinates of the cloth there.
        alpha: `(H, W)`, coverage by the mask there.
    """
    step = max(1, max(alpha.shape) // _SAMPLES)
    thin = (slice(None, None, step), slice(None, None, step))
    on_face = alpha[thin] > 0.5
    face = luma[thin][on_face]
    if len(face) == 0:  # only a soft edge is in the picture
        return Light(_gain(overall, luma), 0.0, 0.0)
    slopes = _slopes(face, sheet.turn[thin][on_face], sheet.down[thin][on_face])
    return Light(_gain(overall, face), *slopes)


def _gain(overall: Array, luma: Array) -> Array:
    """Follow the picture's mean value and the brightness of the face itself."""
    mean = float(overall.max(axis=1).mean())
    bright = float(np.quantile(luma, 0.8))
    exposure = np.clip(0.6 + 0.42 * mean + 0.38 * (bright - 0.45), 0.2, 1.1)
    cast = overall.mean(axis=0) + 0.05  # black pictures have no cast
    cast = np.clip((cast / cast.mean()) ** 0.35, 0.8, 1.2)
    return (exposure * cast).astype(np.float32)[:, None, None]


def _slopes(luma: Array, turn: Array, down: Array) -> tuple[float, float]:
    """Relative slopes of the face's own shading: least squares on a plane."""
    basis = np.stack([np.ones_like(turn), turn, down - 0.5], axis=1)
    normal = basis.T @ basis + 0.5 * np.eye(3, dtype=np.float32)
    level, sideways, downwards = np.linalg.solve(normal, basis.T @ luma)
    level = max(float(level), 0.02)
    # Lips and beards darken a face downwards without any light; trust only half of that slope.
    return (
        float(np.clip(sideways / level, -0.5, 0.5)),
        float(np.clip(0.5 * downwards / level, -0.25, 0.1)),
    )


def form_shading(sheet: Sheet, light: Light, curvature: float) -> Array:
    """Light on the mask's form, `(H, W)`: a cylinder with a tent over the nose.

    Args:
        sheet: Coordinates of the cloth.
        light: The light on the face.
        curvature: How much darker the cheeks are than the middle.
    """
    rows = np.linspace(0, 1, _ENTRIES, dtype=np.float32)
    # Light mostly comes from above: bright above the nose's tip, dark under the chin.
    fall = 0.05 * np.exp(-(((rows - 0.27) / 0.16) ** 2)) - 0.1 * rows - 0.16 * rows**6
    height = 0.3 * np.exp(-(((rows - 0.22) / 0.3) ** 2))
    flanks = np.linspace(-1, 1, _ENTRIES, dtype=np.float32)
    slope = 5.75 * flanks * np.exp(-((flanks / 0.4) ** 2))

    row = (sheet.down * (_ENTRIES - 1)).astype(np.intp)
    column = ((sheet.across + 1) * ((_ENTRIES - 1) / 2)).astype(np.intp)
    # Even flat light leaves one side of the tent a little darker, or it would be invisible.
    on_flanks = np.copysign(max(abs(light.sideways), 0.06), light.sideways)
    square = sheet.turn * sheet.turn
    lit = 1.04 - square * (0.12 + curvature * square) + light.sideways * sheet.turn
    lit += (fall + light.downwards * (rows - 0.5))[row]
    lit += np.float32(on_flanks) * slope[column] * height[row]
    return np.maximum(lit, 0.15)


def measure_grain(luma: Array) -> Grain:
    """Blur and noise of a part of a picture, from its luminance `(H, W)`."""
    luma = luma[::3]
    if min(luma.shape) < 4:
        return Grain(blur=0.5, noise=0.0)
    near, far = np.diff(luma, axis=1), luma[:, 2:] - luma[:, :-2]
    # The flattest quarter shows only noise; 0.78 is that quantile of a second difference.
    noise = float(np.quantile(np.abs(np.diff(near, axis=1)), 0.25)) / 0.78
    rise = max(float((near * near).mean()) - 2 * noise**2, 0.0)
    reach = max(float((far * far).mean()) - 2 * noise**2, 1e-7)
    # At twice the distance a sharp edge changes as much, a blurred one four times (squares).
    blur = np.interp(rise / reach, [0.27, 0.3, 0.36, 0.45], [1.6, 1.1, 0.7, 0.45])
    return Grain(float(blur), float(np.clip(noise, 0.003, 0.02)))

"""The styles of masks: how each is cut, coloured and sewn."""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from advaug.augment.masks import cloth
from advaug.augment.masks.shape import Array, Cut, Sheet

__all__ = ["STYLES", "Cloth", "Style"]

Rng = np.random.Generator
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Cloth:
    """A mask's surface before light falls on it.

    Attributes:
        colour: RGB in `[0, 1]`, `(3, H, W)` or, for one colour, `(3, 1, 1)`.
        relief: `(H, W)`, factor on the light: folds, seams and gathers.
        loops: `(3, 1, 1)`, colour of the ear loops.
        curvature: How much darker the form is at the cheeks.
    """

    colour: Array
    relief: Array
    loops: Array
    curvature: float


@dataclass(frozen=True)
class Style:
    """One kind of mask.

    Attributes:
        cut: Tailors it, at random within the kind.
        weave: Makes its surface for a window of the cloth; the number is the size of a pixel as a
            fraction of the mask's width.
    """

    cut: Callable[[Rng], Cut]
    weave: Callable[[Sheet, float, Rng], Cloth]


def _surgical_cut(rng: Rng) -> Cut:
    return Cut(
        top=rng.uniform(0.43, 0.68),
        upper=rng.uniform(1.7, 2.4),
        lower=rng.uniform(4.3, 5.1),
        inset=_left_and_right(rng, -0.09, 0.05),
        chin=rng.uniform(-0.035, 0.055),
        arch=rng.uniform(0.3, 0.42),
        rounding=0.04,
    )


def _cloth_cut(rng: Rng) -> Cut:
    return Cut(
        top=rng.uniform(0.43, 0.68),
        upper=rng.uniform(1.6, 2.2),
        lower=rng.uniform(3.7, 4.5),
        inset=_left_and_right(rng, -0.08, 0.05),
        chin=rng.uniform(-0.03, 0.06),
        arch=rng.uniform(0.35, 0.5),
        rounding=0.05,
    )


def _n95_cut(rng: Rng) -> Cut:
    return Cut(
        top=rng.uniform(0.43, 0.6),
        upper=rng.uniform(2.0, 2.6),
        lower=rng.uniform(4.2, 4.9),
        inset=_left_and_right(rng, -0.07, 0.07),
        chin=rng.uniform(-0.02, 0.06),
        arch=rng.uniform(0.3, 0.4),
        rounding=0.08,
    )


def _left_and_right(rng: Rng, low: float, high: float) -> tuple[float, float]:
    """Two values near each other: masks are worn slightly askew."""
    both = rng.uniform(low, high)
    return both + rng.uniform(-0.02, 0.02), both + rng.uniform(-0.02, 0.02)


def _surgical(base: Colour, *, trim: Colour) -> Style:
    """Pleated, with a binding and ear loops of another colour."""

    def weave(sheet: Sheet, pixel: float, rng: Rng) -> Cloth:
        colour = _varied(base, rng, hue=0.012, saturation=0.12, value=0.06)
        binding, stitches = cloth.hems(sheet, pixel)
        relief = cloth.pleats(sheet, pixel, rng) * cloth.gathers(sheet, rng)
        relief *= cloth.nose_wire(sheet, pixel) * (1 - 0.12 * stitches)
        return Cloth(_mixed(colour, _column(trim), binding), relief, _column(trim), 0.36)

    return Style(_surgical_cut, weave)


def _weave_cloth(sheet: Sheet, pixel: float, rng: Rng) -> Cloth:
    """Home-made: two random colours, any print, pleated or with a seam."""
    colour = _random_colour(rng)
    loops = 0.9 * colour if rng.random() < 0.5 else _column((0.9, 0.9, 0.88))
    share = cloth.PRINTS[rng.integers(len(cloth.PRINTS))](sheet, pixel, rng)
    binding, stitches = cloth.hems(sheet, pixel)
    relief = (1 - 0.15 * stitches) * (1 - 0.1 * binding) * cloth.gathers(sheet, rng)
    sewn = rng.random() < 0.6
    relief *= cloth.seam(sheet, pixel, 0.3) if sewn else cloth.pleats(sheet, pixel, rng)
    return Cloth(_mixed(colour, _random_colour(rng), share), relief, loops, 0.36)


def _weave_n95(sheet: Sheet, pixel: float, rng: Rng) -> Cloth:
    """A cup of two welded halves, white or black, sometimes with a valve."""
    dark = rng.random() < 0.3
    base = (0.13, 0.13, 0.14) if dark else (0.93, 0.93, 0.91)
    metal = (0.3, 0.3, 0.31) if dark else (0.74, 0.75, 0.77)
    colour = _varied(base, rng, hue=0.0, saturation=0.3, value=0.04)
    clip = cloth.nose_clip(sheet, pixel)
    whole = _mixed(colour, _column(metal), 0.8 * clip)

    rim = np.minimum(np.minimum(sheet.below_top, sheet.above_bottom), sheet.within_sides) * pixel
    relief = cloth.seam(sheet, pixel, 0.35 if dark else 0.22)
    relief *= 1 - 0.16 * cloth.bump(rim, 0.035, 0.008, pixel)
    relief *= 1 + (0.5 if dark else 0.04) * cloth.bump(rim, 0.05, 0.008, pixel)
    relief *= 1 + 0.12 * clip * cloth.bump(sheet.below_top * pixel, 0.055, 0.012, pixel)
    if rng.random() < 0.35:
        disc, moulded = cloth.valve(sheet, pixel, rng)
        whole = _mixed(whole, 0.9 * colour + 0.04, disc)
        relief *= moulded
    return Cloth(whole, relief, _column((0.12, 0.12, 0.12) if dark else (0.92, 0.91, 0.86)), 0.46)


def _mixed(colour: Array, other: Array, share: Array) -> Array:
    """`colour` where `share` is 0, `other` where it is 1."""
    return colour + share * (other - colour)


def _varied(base: Colour, rng: Rng, *, hue: float, saturation: float, value: float) -> Array:
    """A colour near `base`; hue is shifted, saturation and value are scaled."""
    h, s, v = colorsys.rgb_to_hsv(*base)
    h += rng.uniform(-hue, hue)
    s *= 1 + rng.uniform(-saturation, saturation)
    v *= 1 + rng.uniform(-value, value)
    return _column(colorsys.hsv_to_rgb(h % 1, min(s, 1), min(v, 1)))


def _random_colour(rng: Rng) -> Array:
    """Colours that people wear: any hue, more often dull or dark than bright."""
    return _column(colorsys.hsv_to_rgb(rng.random(), rng.beta(1.5, 2.2), rng.uniform(0.12, 0.95)))


def _column(colour: Colour) -> Array:
    return np.array(colour, np.float32)[:, None, None]


_WHITE = (0.93, 0.93, 0.92)

STYLES: dict[str, Style] = {
    "surgical_blue": _surgical((0.49, 0.72, 0.95), trim=_WHITE),
    "surgical_green": _surgical((0.59, 0.83, 0.71), trim=_WHITE),
    "surgical_white": _surgical((0.94, 0.945, 0.94), trim=_WHITE),
    "cloth": Style(_cloth_cut, _weave_cloth),
    "n95": Style(_n95_cut, _weave_n95),
    "black": _surgical((0.13, 0.13, 0.145), trim=(0.2, 0.2, 0.21)),
}
"""Every style by its name; the order is what a seed draws from."""

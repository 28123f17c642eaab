"""Folds, seams, hems and prints of cloth, as functions of its coordinates.

Lengths are fractions of the mask's width; `pixel` is the size of a pixel in that unit, and no line
is drawn finer. Most of these are functions of one coordinate, so they are computed for a short
table of its values and looked up.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from advaug.augment.masks.shape import Array, Sheet

__all__ = ["PRINTS", "bump", "gathers", "hems", "nose_clip", "nose_wire", "pleats", "seam", "valve"]

Rng = np.random.Generator

_ENTRIES = 512


def pleats(sheet: Sheet, pixel: float, rng: Rng) -> Array:
    """Three horizontal folds: a crease, the lip above it in the light, the shadow below it.

    They are sewn down at the sides and drawn open over the nose and the mouth, where they fade.
    """
    places = np.linspace(0.36, 0.74, 3) + rng.uniform(-0.025, 0.025, 3)
    width = max(0.012, 1.1 * pixel)
    faint = 0.012 / width

    def profile(down: Array) -> Array:
        light = np.zeros_like(down)
        for place in places:
            below = down - np.float32(place)
            light -= 0.26 * faint * _bell(below, width)
            light += 0.07 * _bell(below + 3 * width, 2 * width)
            light -= 0.13 * np.exp(-np.maximum(below, 0) / 0.045) * (below > 0)
            light += 0.05 * np.exp(-np.maximum(-below, 0) / 0.08) * (below < 0)
        return light

    depth, slant, sag = rng.uniform([0.75, -0.02, -0.01], [1.15, 0.02, 0.035]).tolist()
    side = sheet.across * sheet.across
    folds = _looked_up(profile, sheet.down - slant * sheet.across - sag * (1 - side), 0, 1)
    return 1 + depth * (0.55 + 0.45 * side) * folds


def gathers(sheet: Sheet, rng: Rng) -> Array:
    """Soft wrinkles that run from the ear loops inwards."""
    waves, left, right = rng.uniform([9, 0, 0], [20, 2 * np.pi, 2 * np.pi]).tolist()
    fan = np.abs(sheet.across)
    phase = np.where(sheet.across > 0, np.float32(right), np.float32(left))
    ripple = np.sin(waves * (sheet.down + 0.35 * fan * (0.5 - sheet.down)) + phase)
    return 1 + 0.05 * fan * fan * ripple


def hems(sheet: Sheet, pixel: float) -> tuple[Array, Array]:
    """The binding along the edges, and the stitches inside it; each in `[0, 1]`."""
    edge = np.minimum(sheet.below_top, sheet.above_bottom) * pixel
    sides = sheet.within_sides * pixel
    soft = max(pixel, 0.006)

    def covered(inside: Array) -> Array:
        return 0.85 * np.clip((0.02 - inside) / soft + 0.5, 0, 1)

    binding = _looked_up(covered, np.minimum(edge, sides), 0, 0.1)
    stitches = np.maximum(bump(edge, 0.045, 0.006, pixel), bump(sides, 0.05, 0.006, pixel))
    if pixel > 0.008:  # single stitches would alias
        return binding, 0.6 * stitches
    dashes = _looked_up(lambda s: 0.6 + 0.4 * np.sign(np.sin(110 * s)), sheet.across, -1, 1)
    return binding, dashes * stitches


def nose_wire(sheet: Sheet, pixel: float) -> Array:
    """The wire under the upper hem: a faint ridge with light above and shadow below it."""
    top = sheet.below_top * pixel
    ridge = bump(top, 0.027, 0.012, pixel) - bump(top, 0.06, 0.014, pixel)
    return 1 + 0.08 * ridge * _looked_up(lambda s: _bell(s, 0.5), sheet.across, -1, 1)


def seam(sheet: Sheet, pixel: float, depth: float) -> Array:
    """The seam from nose to chin that shapes a cup: a dark line between two lit flanks."""
    width = max(0.014, 2 * pixel)
    faint = 0.014 / width

    def profile(across: Array) -> Array:
        flanks = _bell(across - 3 * width, 2 * width) + _bell(across + 3 * width, 2 * width)
        return 1 - depth * faint * _bell(across, width) + 0.05 * flanks

    return _looked_up(profile, sheet.across, -1, 1)


def nose_clip(sheet: Sheet, pixel: float) -> Array:
    """Coverage by the metal strip over the nose."""
    soft = max(pixel, 0.004)

    def band(below: Array) -> Array:
        return np.clip((below - 0.04) / soft, 0, 1) * np.clip((0.085 - below) / soft, 0, 1)

    ends = _looked_up(lambda s: np.clip((0.42 - np.abs(s)) / 0.03, 0, 1), sheet.across, -1, 1)
    return ends * _looked_up(band, sheet.below_top * pixel, 0, 0.2)


def valve(sheet: Sheet, pixel: float, rng: Rng) -> tuple[Array, Array]:
    """A round exhalation valve beside the seam: its coverage, and its relief with the shadow."""
    side = (1 if rng.random() < 0.5 else -1) * rng.uniform(0.36, 0.46)
    x = (sheet.across - side) * 0.5
    y = (sheet.down - rng.uniform(0.5, 0.6)) * 0.62
    radius = np.hypot(x, y)
    soft = max(pixel, 0.006)
    disc = np.clip((0.105 - radius) / soft, 0, 1)
    rim = _bell(radius - 0.1, max(0.012, pixel))
    shadow = _bell(np.hypot(x, y - 0.012), 0.12) * (1 - disc)
    grille = np.sin(260 * y) * np.clip((0.07 - radius) / soft, 0, 1)
    slats = 0.14 if pixel < 0.01 else 0.05
    return disc, (1 - 0.25 * shadow) * (1 - 0.2 * rim) * (1 - slats * grille)


def bump(field: Array, centre: float, width: float, pixel: float) -> Array:
    """A soft line where `field` is `centre`; never finer than a pixel, but fainter instead."""
    seen = float(np.hypot(width, pixel))

    def profile(value: Array) -> Array:
        return width / seen * _bell(value - centre, seen)

    return _looked_up(profile, field, centre - 4 * seen, centre + 4 * seen)


def _plain(sheet: Sheet, pixel: float, rng: Rng) -> Array:
    del pixel, rng
    return np.zeros_like(sheet.down)


def _stripes(sheet: Sheet, pixel: float, rng: Rng) -> Array:
    return _bands(sheet.down, int(rng.integers(5, 10)), pixel)


def _checks(sheet: Sheet, pixel: float, rng: Rng) -> Array:
    count = int(rng.integers(5, 9))
    return 0.5 * (_bands(sheet.down, count, pixel) + _bands(sheet.across, 0.7 * count, pixel))


def _dots(sheet: Sheet, pixel: float, rng: Rng) -> Array:
    count = int(rng.integers(5, 8))
    turn = 2 * np.pi * count
    rows = _looked_up(lambda v: np.cos(turn * v), sheet.down, 0, 1)
    columns = _looked_up(lambda s: np.cos(0.75 * turn * s), sheet.across, -1, 1)
    # The product is positive on every other field of a chessboard.
    return np.clip((rows * columns - 0.55) / max(0.1, 1.5 * pixel * count) + 0.5, 0, 1)


def _blotches(sheet: Sheet, pixel: float, rng: Rng) -> Array:
    """A print of no particular kind: a few waves that cross."""
    field = np.zeros_like(sheet.down)
    for _ in range(4):
        turn, tilt, phase = rng.uniform([8, -12, 0], [26, 12, 2 * np.pi]).tolist()
        field += np.sin(turn * sheet.down + tilt * sheet.across + phase)
    return np.clip((field - 0.6) / max(0.5, 30 * pixel) + 0.5, 0, 1)


PRINTS = (_plain, _stripes, _checks, _dots, _blotches)
"""Each gives the share of a second colour, `(H, W)` in `[0, 1]`."""


def _bands(field: Array, count: float, pixel: float) -> Array:
    """Alternating bands with soft borders, `count` in each unit of `field`."""
    sharp = 1 / max(0.15, 3 * pixel * count)

    def profile(value: Array) -> Array:
        return np.clip(0.5 + sharp * np.sin(2 * np.pi * count * value), 0, 1)

    return _looked_up(profile, field, -1, 1)


def _bell(value: Array, width: float) -> Array:
    return np.exp(-((value / width) ** 2))


def _looked_up(profile: Callable[[Array], Array], field: Array, low: float, high: float) -> Array:
    """`profile(field)`; outside `low` and `high` the value at the nearer end."""
    values = profile(low + (high - low) * _ramp()).astype(np.float32)
    index = ((field - low) * ((_ENTRIES - 1) / (high - low)) + 0.5).astype(np.intp)
    return np.take(values, index, mode="clip")


@cache
def _ramp() -> Array:
    return np.linspace(0, 1, _ENTRIES, dtype=np.float32)

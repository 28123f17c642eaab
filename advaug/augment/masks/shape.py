"""Where a mask lies on a face: its outline, its ear loops and the coordinates of its cloth.

Everything is laid out in the face's own frame (origin at the top of the nose, x along the eyes, y
towards the chin, in pixels) and mapped back to the picture at the end, so roll costs nothing. Yaw
enters through the nose: the cloth's middle follows the nose, the lips and the chin, and its sides
follow the jaw. So the half between a far cheek and the nose is as narrow as it looks.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Cut", "MaskShape", "Sheet"]

Array = NDArray[np.floating]

_ENTRIES = 1024  # of the look-up tables: finer than a quarter pixel on a mask of 256 pixels
_CHIN = 8


@dataclass(frozen=True)
class Cut:
    """How a mask is tailored, and how its wearer put it on.

    Attributes:
        top: Height of the upper edge on the nose line, 0 at landmark 27 and 1 at 30.
        upper: Index on the jaw, counted from the ear, level with the upper corners.
        lower: The same for the lower corners.
        inset: How far the left and the right edge stay off the jaw, as a fraction of their half.
        chin: How far the lower edge passes the chin, as a fraction of the mask's height.
        arch: Width of the bow over the nose, as a fraction of a half.
        rounding: Rounding of the corners, as a fraction of the outline's length.
    """

    top: float
    upper: float
    lower: float
    inset: tuple[float, float]
    chin: float
    arch: float
    rounding: float

    def worn_at(self, top: float) -> "Cut":
        """The same mask with its upper edge at `top`; its upper corners sink with it."""
        return replace(self, top=top, upper=self.upper + 1.5 * max(0.0, top - 0.6))


class Sheet(NamedTuple):
    """Coordinates of the cloth for every pixel of a window, each `(H, W)` float32.

    Attributes:
        across: -1 at the left edge, 0 on the nose line, 1 at the right edge.
        down: 0 at the upper edge, 1 at the lower one.
        below_top: Distance to the upper edge along the face's axis, pixels.
        above_bottom: Distance to the lower edge along the face's axis, pixels.
        within_sides: Distance to the nearer side edge along the eyes' axis, pixels.
        turn: -1 and 1 where the face turns away from the camera, 0 where it looks at it.
    """

    across: Array
    down: Array
    below_top: Array
    above_bottom: Array
    within_sides: Array
    turn: Array


class MaskShape:
    """One mask laid over one face.

    Args:
        landmarks: `(68, 2)` float64, 300W order, x then y, pixels.
        cut: The mask's tailoring.

    Attributes:
        outline: `(K, 2)`, closed polygon of the cloth, in pixels of the picture.
        face: `(L, 2)`, closed polygon of the face from brows to chin; ear loops end at its border.
        loops: The visible ear loops, `(P, 2)` each.
        size: Width of the mask, pixels.
    """

    def __init__(self, landmarks: Array, cut: Cut) -> None:
        self._origin = landmarks[27]
        self._axes = _face_axes(landmarks)
        local = (landmarks - self._origin) @ self._axes.T
        self._middle = _middle_line(local, cut)
        sides = [_Side(local, self._middle, cut, sign) for sign in (-1, 1)]
        self._sides = sides
        top = _upper_edge(local, sides, cut)
        bottom = np.concatenate([sides[0].edge[sides[0].lower :], sides[1].edge[::-1]])
        bottom = bottom[: len(bottom) - sides[1].lower]
        self._tabulate(top, bottom)

        ring = np.concatenate([top, sides[1].edge[1:], sides[0].edge[-2:0:-1]])
        self.outline = self._to_picture(_rounded(ring, cut.rounding))
        self.face = self._to_picture(np.concatenate([local[:17], local[26:16:-1]]))
        loops = [loop for side in sides for loop in side.loops()]
        self.loops = [self._to_picture(loop) for loop in loops]
        self._centre = ring[:, 0].mean()
        self.size = max(float(np.ptp(ring[:, 0])), 1.0)

    def _to_picture(self, local: Array) -> Array:
        return local @ self._axes + self._origin

    def _tabulate(self, top: Array, bottom: Array) -> None:
        """Fill the look-up tables behind `sheet`: a read costs a tenth of an interpolation."""
        low = float(top[:, 1].min())
        # At least a pixel, whatever the landmarks say.
        high = max(float(bottom[:, 1].max()), low + 1)
        y = np.linspace(low, high, _ENTRIES)
        middle = self._middle(y)
        # No half may vanish: in profile a far cheek would divide by zero.
        narrowest = 0.04 * (high - low)
        left = np.minimum(self._sides[0].limit(y), middle - narrowest)
        right = np.maximum(self._sides[1].limit(y), middle + narrowest)
        self._rows = _Table(low, high, np.stack([middle, left, right]))

        across = np.linspace(-1, 1, _ENTRIES)
        edges = [_smooth(np.interp(across, *self._ordered(edge))) for edge in (top, bottom)]
        # The two edges may not cross, whatever the landmarks say.
        edges[1] = np.maximum(edges[1], edges[0] + narrowest)
        self._columns = _Table(-1, 1, np.stack(edges))

    def _ordered(self, edge: Array) -> tuple[Array, Array]:
        """`across` and y of an edge's points, from left to right."""
        across = self._across(edge[:, 0], *self._rows(edge[:, 1]))
        order = np.argsort(across, kind="stable")
        return across[order], edge[order, 1]

    @staticmethod
    def _across(x: Array, middle: Array, left: Array, right: Array) -> Array:
        offset = x - middle
        return np.clip(offset / np.where(offset > 0, right - middle, middle - left), -1, 1)

    def sheet(self, x: Array, y: Array) -> Sheet:
        """Coordinates of the cloth at the pixels of columns `x` `(W,)` and rows `y` `(H,)`."""
        local_x, local_y = self._local(x, y)
        middle, left, right = self._rows(local_y)
        across = self._across(local_x, middle, left, right)
        top, bottom = self._columns(across)
        return Sheet(
            across=across,
            down=np.clip((local_y - top) / (bottom - top), 0, 1),
            below_top=local_y - top,
            above_bottom=bottom - local_y,
            within_sides=np.minimum(local_x - left, right - local_x),
            turn=np.clip((2 * local_x - left - right) / (right - left), -1, 1),
        )

    def turn(self, x: Array, y: Array) -> Array:
        """`Sheet.turn`, roughly, also beside the cloth."""
        local_x, _ = self._local(x, y)
        return (local_x - np.float32(self._centre)) * np.float32(2 / self.size)

    def _local(self, x: Array, y: Array) -> tuple[Array, Array]:
        """The pixels of columns `x` and rows `y` in the frame of the face, `(H, W)` each."""
        (xx, xy), (yx, yy) = self._axes.astype(np.float32)
        columns = (x - self._origin[0]).astype(np.float32)
        rows = (y - self._origin[1]).astype(np.float32)[:, None]
        return xx * columns + xy * rows, yx * columns + yy * rows


class _Table:
    """Several functions of one variable, sampled evenly: `(K, _ENTRIES)`."""

    def __init__(self, low: float, high: float, values: Array) -> None:
        self._low, self._scale = low, (_ENTRIES - 1) / (high - low)
        self._values = values.astype(np.float32)

    def __call__(self, at: Array) -> list[Array]:
        index = ((at - self._low) * self._scale + 0.5).astype(np.intp)
        return [np.take(row, index, mode="clip") for row in self._values]


class _Side:
    """The half of the mask between the nose line and one ear (`sign` -1: the picture's left)."""

    def __init__(self, local: Array, middle: "_Line", cut: Cut, sign: int) -> None:
        jaw = local[:9] if sign < 0 else local[16:7:-1]
        self._jaw, self._sign = jaw, sign
        inset, share = _seen_inset(local, cut.inset[sign > 0], sign)
        self._share = share

        at = np.linspace(cut.upper, _CHIN, 25)
        # Held off the cheek between its corners; below them it follows the jaw, just outside.
        keep = 1 - np.interp(at, [cut.lower, 0.4 * cut.lower + 0.6 * _CHIN], [inset, -cut.chin])
        x, y = _along(jaw, at).T
        centre = middle(y)
        x = centre + (x - centre) * keep
        # In profile the nose, the lips and the chin are the far contour, and the mask bulges on it.
        bulge = 0.06 * (1 - share) * (jaw[_CHIN, 1] - local[30, 1])
        x = sign * np.maximum(sign * x, sign * centre + bulge * (_CHIN - at) / _CHIN)
        reach = np.interp(at, [cut.lower, _CHIN], [0, cut.chin])
        y = np.maximum.accumulate(y + reach * (y[-1] - local[30, 1]) * 1.5)
        self.edge = np.stack([x, y], axis=1)
        self.lower = int(np.searchsorted(at, cut.lower))

    def limit(self, y: Array) -> Array:
        """X of the side edge at height `y`, continued straight above and below its corners."""
        edge = self.edge[: self.lower + 1]
        return np.interp(y, edge[:, 1], edge[:, 0])

    def loops(self) -> list[Array]:
        """Both strands of the ear loop, from the corners to the ear; none on a far cheek."""
        if self._share < 0.7:
            return []
        ends = _along(self._jaw, np.array([0.35, 1.25]))
        starts = self.edge[[0, self.lower]]
        strands = []
        for start, end, sag in zip(starts, ends, (-0.06, 0.1), strict=True):
            way = end - start
            bend = (start + end) / 2 + sag * self._sign * np.array([-way[1], way[0]])
            t = np.linspace(-0.1, 1.15, 14)[:, None]
            strands.append((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end)
        return strands


class _Line:
    """X of the cloth's middle as a function of y."""

    def __init__(self, points: Array) -> None:
        self._y = np.maximum.accumulate(points[:, 1]) + 1e-3 * np.arange(len(points))
        self._x = points[:, 0]

    def __call__(self, y: Array) -> Array:
        return np.interp(y, self._y, self._x)


def _face_axes(landmarks: Array) -> Array:
    """Unit vectors along the eyes and towards the chin, as rows.

    The eyes give the roll of a frontal face well and that of a profile badly; for the line from
    nose to chin it is the opposite. Adding the two vectors weighs each by its reliability.
    """
    eyes = landmarks[42:48].mean(axis=0) - landmarks[36:42].mean(axis=0)
    down = landmarks[_CHIN] - landmarks[27]
    across = 2 * eyes + np.array([down[1], -down[0]])
    length = np.hypot(*across)
    across = across / length if length > 0 else np.array([1.0, 0.0])
    return np.array([across, [-across[1], across[0]]])


def _middle_line(local: Array, cut: Cut) -> _Line:
    bridge = cut.top * local[30]
    return _Line(np.stack([bridge, local[30], local[_CHIN]]))


def _seen_inset(local: Array, inset: float, sign: int) -> tuple[float, float]:
    """How far this edge stays off the jaw as seen, and the share of the half that is seen.

    A mask ends on the flat of the cheek. Seen from the front that is near the contour. The more a
    cheek turns to the camera, the further from the ear it looks; on a far cheek the edge is hidden.
    """
    nose = local[28:31, 0].mean()
    halves = np.maximum([nose - local[1:4, 0].mean(), local[13:16, 0].mean() - nose], 1e-3)
    share = 2 * halves[int(sign > 0)] / halves.sum()
    seen = inset * min(share, 1.0) ** 2 + 0.3 * max(share - 1.1, 0.0)
    return float(seen), float(share)


def _upper_edge(local: Array, sides: list[_Side], cut: Cut) -> Array:
    """From the left corner over the nose to the right one: `(65, 2)`."""
    bridge = cut.top * local[30]
    halves = []
    for side in sides:
        away = np.linspace(0, 1, 33)
        bow = 1 - np.exp(-((away / cut.arch) ** 2))
        fall = 0.5 * bow + 0.5 * away**1.3
        corner = side.edge[0]
        x = bridge[0] + away * (corner[0] - bridge[0])
        halves.append(np.stack([x, bridge[1] + fall * (corner[1] - bridge[1])], axis=1))
    return np.concatenate([halves[0][:0:-1], halves[1]])


def _along(line: Array, at: Array) -> Array:
    """Points of a polyline at fractional indices."""
    index = np.arange(len(line))
    return np.stack([np.interp(at, index, line[:, 0]), np.interp(at, index, line[:, 1])], axis=1)


def _smooth(values: Array, reach: int = 60) -> Array:
    """Running mean: the jaw's 17 points are corners, which folds and hems would repeat."""
    padded = np.pad(values, reach, mode="reflect", reflect_type="odd")
    total = np.concatenate([[0.0], np.cumsum(padded)])
    window = 2 * reach + 1
    return (total[window:] - total[:-window]) / window


def _rounded(ring: Array, rounding: float, count: int = 160) -> Array:
    """The closed polygon, resampled evenly and averaged over `rounding` of its length."""
    closed = np.concatenate([ring, ring[:1]])
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    at = np.linspace(0, length[-1], count, endpoint=False)
    even = np.stack([np.interp(at, length, axis) for axis in closed.T], axis=1)
    reach = round(rounding * count / 2)
    return np.mean([np.roll(even, shift, axis=0) for shift in range(-reach, reach + 1)], axis=0)

"""From meshes to pixels: which piece of surface a pixel shows, and how brightly.

Pillow draws the quadrilaterals of all parts, far ones first, each in its own number, so the picture
of numbers says what every pixel sees. Texels and light vary linearly inside a quadrilateral and are
computed only for those pixels.
"""

from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from advaug.datasets.synthetic.faces.head import Pose
from advaug.datasets.synthetic.faces.look import Conditions
from advaug.datasets.synthetic.faces.parts import Part
from advaug.datasets.synthetic.faces.shape import Floats

__all__ = ["View", "render_parts"]

# Skin lets light bleed around to the dark side, so the terminator is soft.
_WRAP = 0.25
_SHININESS = 14


class View:
    """From the head's space to the raster, for one pose and one crop.

    Args:
        pose: The head's pose.
        corner: `(2,)`, top left corner of the picture in the picture plane.
        pixels: Raster pixels per unit of the picture plane.
    """

    def __init__(self, pose: Pose, corner: Floats, pixels: float) -> None:
        self._pose = pose
        self._corner = corner
        self._pixels = pixels
        self.turn = pose.rotation().astype(np.float32)
        # Shoulders follow the head slightly.
        self.body_turn = Pose(0.3 * pose.yaw, 0.0, 0.0, pose.distance).rotation().astype(np.float32)

    def raster(self, turned: Floats) -> Floats:
        """Raster position of turned points `(..., 3)`; integers at pixel centres."""
        return self.flat_to_raster(self._pose.rolled(self._pose.project(turned)))

    def flat_to_raster(self, flat: Floats) -> Floats:
        """Raster position of points `(..., 2)` of the picture plane."""
        return (flat - self._corner) * self._pixels - 0.5


def render_parts(
    canvas: NDArray[np.uint8],
    parts: list[Part],
    atlas: NDArray[np.uint8],
    view: View,
    conditions: Conditions,
) -> None:
    """Paint the parts over `canvas`, in place.

    Args:
        canvas: `(raster, raster, 4)`; the fourth channel is unused.
        parts: The meshes.
        atlas: `(texels, texels, 3)`.
        view: Where they appear.
        conditions: The light.
    """
    raster = canvas.shape[0]
    corners, values = _visible_quads(parts, view, conditions, raster)
    numbers = _draw_numbers(corners, raster).ravel()
    covered = np.flatnonzero(numbers)
    shown = numbers[covered].astype(np.intp) - 1
    x, y = (axis[covered] for axis in _pixel_grid(raster))
    texel_x, texel_y, light, highlight = (
        start.take(shown) + slope_x.take(shown) * x + slope_y.take(shown) * y
        for start, slope_x, slope_y in _linear_values(corners, values)
    )
    height, width, _ = atlas.shape
    columns = np.minimum(np.maximum(texel_x, 0), width - 1).astype(np.intp)
    rows = np.minimum(np.maximum(texel_y, 0), height - 1).astype(np.intp)
    albedo = atlas.reshape(-1, 3).take(rows * width + columns, axis=0)
    colours = np.empty((len(covered), 4), np.uint8)
    for channel in range(3):
        colour = albedo[:, channel] * light + highlight
        colours[:, channel] = np.minimum(np.maximum(colour, 0), 255)
    # One 32-bit number per pixel moves several times as fast as its bytes.
    canvas.view(np.uint32).reshape(-1)[covered] = colours.view(np.uint32)[:, 0]


@cache
def _pixel_grid(raster: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return x and y of every pixel of the raster, row by row."""
    axis = np.arange(raster, dtype=np.float32)
    return np.tile(axis, raster), np.repeat(axis, raster)


_Indices = NDArray[np.intp]


# A person has one of some dozens of sets of parts; only the points differ from one to the next.
@lru_cache(maxsize=256)
def _topology(shapes: tuple[tuple[int, ...], ...]) -> tuple[_Indices, _Indices, _Indices]:
    """Index the points of several grids, one after the other.

    Returns:
        The corners of their cells, in order around each, `(4, cells)`; each point's neighbours
        left, right, above and below, at the margin the point itself, `(4, points)`; and the number
        of each cell's grid, `(cells,)`.
    """
    all_corners, all_neighbours, owners = [], [], []
    start = 0
    for owner, (rows, columns) in enumerate(shapes):
        index = np.arange(start, start + rows * columns).reshape(rows, columns)
        start += rows * columns
        corners = (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1])
        across, down = (np.pad(index, pad, "edge") for pad in (((0, 0), (1, 1)), ((1, 1), (0, 0))))
        neighbours = (across[:, :-2], across[:, 2:], down[:-2], down[2:])
        all_corners.append(np.stack([array.ravel() for array in corners]))
        all_neighbours.append(np.stack([array.ravel() for array in neighbours]))
        owners.append(np.full(corners[0].size, owner))
    return (
        np.concatenate(all_corners, axis=1),
        np.concatenate(all_neighbours, axis=1),
        np.concatenate(owners),
    )


def _visible_quads(
    parts: list[Part], view: View, conditions: Conditions, raster: int
) -> tuple[Floats, Floats]:
    """Turn, light and project all parts; keep what faces the camera inside the picture.

    Returns:
        Corners `(2, 4, quads)` in raster pixels and their attributes `(4, 4, quads)`,
        the farthest first.
    """
    quads, neighbours, owner = _topology(tuple(part.mesh.shape[:2] for part in parts))
    space = _turned(parts, view)
    flat = np.ascontiguousarray(view.raster(space.T).T)
    x, y = flat[0][quads], flat[1][quads]
    area = (x[2] - x[0]) * (y[3] - y[1]) - (y[2] - y[0]) * (x[3] - x[1])
    seen = np.all((flat > -1) & (flat < raster), axis=0)
    inside = np.any(seen[quads], axis=0)
    two_sided = np.array([part.two_sided for part in parts])[owner]
    keep = np.flatnonzero(inside & ((area > 0) | two_sided))
    nearer = np.array([part.nearer for part in parts], np.float32)[owner[keep]]
    depth = space[2][quads[:, keep]].sum(axis=0) / 4 + nearer
    quads = quads[:, keep[np.argsort(depth)]]
    values = _attributes(parts, _normals(space, neighbours), conditions)
    return flat[:, quads], values[:, quads]


def _turned(parts: list[Part], view: View) -> Floats:
    """Turn the points of all parts with the head or with the body, `(3, points)`."""
    turned = [
        part.mesh.reshape(-1, 3).astype(np.float32) @ (view.body_turn if part.body else view.turn)
        for part in parts
    ]
    return np.ascontiguousarray(np.concatenate(turned).T)


def _attributes(parts: list[Part], normals: Floats, conditions: Conditions) -> Floats:
    """Texel, light and highlight (0 to 255) of each point of all parts, `(4, points)`."""
    counts = [part.shade.size for part in parts]
    two_sided = np.repeat([part.two_sided for part in parts], counts)
    normals = normals * np.where(two_sided & (normals[2] < 0), np.float32(-1), np.float32(1))
    light = conditions.light.astype(np.float32)
    direct = np.maximum((light @ normals + _WRAP) / (1 + _WRAP), 0)
    # The eye looks along z, so the highlight's normal lies between z and the lamp.
    halfway = light + np.array([0, 0, 1], np.float32)
    halfway /= np.linalg.norm(halfway)
    highlight = np.maximum(halfway @ normals, 0) ** _SHININESS
    # More of the ambient light comes from above than from below.
    ambient = conditions.ambient * (0.88 - 0.14 * normals[1])
    values = np.empty((4, normals.shape[1]), np.float32)
    values[:2] = np.concatenate([part.texels.reshape(-1, 2) for part in parts]).T
    values[2] = ambient + conditions.lamp * direct
    values[3] = 255 * conditions.lamp * highlight * np.repeat([p.gloss for p in parts], counts)
    values[2:] *= np.concatenate([part.shade.ravel() for part in parts])
    return values


def _normals(points: Floats, neighbours: NDArray[np.intp]) -> Floats:
    """Unit normals `(3, points)` that point out of the meshes."""
    left, right, above, below = neighbours
    ax, ay, az = points[:, right] - points[:, left]
    dx, dy, dz = points[:, below] - points[:, above]
    normals = np.stack([ay * dz - az * dy, az * dx - ax * dz, ax * dy - ay * dx])
    return normals / np.sqrt((normals * normals).sum(axis=0) + np.float32(1e-18))


def _draw_numbers(corners: Floats, raster: int) -> NDArray[np.int32]:
    """Draw each quadrilateral in its number, from 1, later over earlier; 0 is background."""
    numbers = Image.new("I", (raster, raster))
    # Pillow truncates coordinates to whole pixels; with half a pixel more they are rounded.
    # The drawing core itself: ImageDraw.polygon spends more time on its colour than on its pixels.
    polygon = ImageDraw.Draw(numbers).draw.draw_polygon
    for number, points in enumerate((corners + 0.5).T.reshape(-1, 8).tolist(), start=1):
        polygon(points, number, 1)
    return np.asarray(numbers)


def _linear_values(corners: Floats, values: Floats) -> NDArray[np.float32]:
    """For each attribute and number, its value at pixel (0, 0) and its slopes along x and y.

    Returns:
        `(attributes, 3, quads)`.
    """
    middle, mean = corners.sum(axis=1) / 4, values.sum(axis=1) / 4
    along = corners[:, 1] + corners[:, 2] - corners[:, 0] - corners[:, 3]
    down = corners[:, 3] + corners[:, 2] - corners[:, 0] - corners[:, 1]
    rise_along = values[:, 1] + values[:, 2] - values[:, 0] - values[:, 3]
    rise_down = values[:, 3] + values[:, 2] - values[:, 0] - values[:, 1]
    area = along[0] * down[1] - along[1] * down[0]
    # Seen edge on, a quadrilateral has no reliable slope.
    inverse = np.where(np.abs(area) > 0.5, 1 / np.where(area == 0, 1, area), 0)
    slope_x = (rise_along * down[1] - rise_down * along[1]) * inverse
    slope_y = (rise_down * along[0] - rise_along * down[0]) * inverse
    start = mean - slope_x * middle[0] - slope_y * middle[1]
    return np.stack([start, slope_x, slope_y], axis=1).astype(np.float32)

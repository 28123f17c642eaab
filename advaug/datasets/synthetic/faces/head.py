"""The head as a surface in space, built around the landmarks of its frontal view.

The surface is a stack of horizontal ellipses ("parallels"), from the crown to the chin. The lower
ones are as wide as the jaw line, so that seen from the front the outline of the surface *is* the
jaw line. Nose, eye sockets, lips and the rest are heights added towards the viewer. Units and axes
as in `shape`, with z towards the viewer and 0 at the root of the nose.
"""

from dataclasses import dataclass

import numpy as np

from advaug.datasets.synthetic.faces.shape import EYES, JAW, LIPS, Floats

__all__ = ["Head", "Pose", "build_head", "project_landmarks"]

# Parallels above the ears, from the crown down: y, half width, z of the sides, z of the front.
_SKULL = np.array(
    [
        (-1.36, 0.0, -0.8, -0.8),
        (-1.31, 0.33, -0.78, -0.45),
        (-1.18, 0.53, -0.74, -0.22),
        (-0.95, 0.69, -0.72, -0.06),
        (-0.65, 0.785, -0.72, 0.02),
        (-0.3, 0.825, -0.75, 0.055),
    ]
)
# The same along the jaw, points 0 to 8: z of the sides and of the front.
_JAW_SIDE = np.array([-0.78, -0.8, -0.79, -0.74, -0.66, -0.54, -0.41, -0.28, -0.13])
_JAW_FRONT = np.array([0.0, 0.02, 0.04, 0.07, 0.07, 0.045, 0.045, 0.0, -0.13])
# How far each parallel bulges behind its sides: the skull does, the jaw hardly.
_BACK = np.array([0.0, 0.4, 0.65, 0.85, 0.98, 1.0, 0.9, 0.6, 0.3, 0.15, 0.1, 0.1, 0.1, 0.08, 0.0])
# Rows of the mesh between two neighbouring parallels; finest where the features are.
_ROWS_BETWEEN = [1, 1, 1, 1, 2, 4, 4, 4, 4, 3, 3, 2, 2, 1]
# Columns of the mesh: sines of the angle from the front; finest at the nose.
_FRONT_SINES = np.array(
    [0.045, 0.09, 0.135, 0.19, 0.26, 0.35, 0.45, 0.56, 0.67, 0.78, 0.88, 0.965, 1.0]
)
_BACK_ANGLES = np.deg2rad([105.0, 125.0, 150.0, 180.0])
_OUTLINE_ANGLES = np.linspace(0, np.pi / 2, 37)


def _columns() -> Floats:
    """Angles of the mesh's columns, from the back through the left side to the back again."""
    half = np.concatenate([np.arcsin(_FRONT_SINES), _BACK_ANGLES])
    return np.concatenate([-half[::-1], [0.0], half])


def _row_weights() -> Floats:
    """Catmull-Rom weights `(rows, parallels)` that interpolate the parallels smoothly."""
    count = len(_BACK)
    rows: list[Floats] = []
    for start, steps in enumerate(_ROWS_BETWEEN):
        for t in np.arange(steps) / steps:
            row = np.zeros(count)
            basis = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3)
            for offset, weight in zip(range(-1, 3), (*basis, t**3 - t**2), strict=True):
                row[np.clip(start + offset, 0, count - 1)] += weight / 2
            rows.append(row)
    return np.stack([*rows, np.eye(count)[-1]])


_COLUMNS = _columns()
_ROW_WEIGHTS = _row_weights()


@dataclass(frozen=True)
class Pose:
    """How the head is posed before the camera.

    Attributes:
        yaw: Degrees; positive: the nose points to the right of the picture.
        pitch: Degrees; positive: the head looks up.
        roll: Degrees; positive: clockwise in the picture.
        distance: From the camera, in outer eye-corner distances; sets the perspective.
    """

    yaw: float
    pitch: float
    roll: float
    distance: float

    def rotation(self) -> Floats:
        """The matrix `(3, 3)` that turns row vectors of the head, without the roll."""
        yaw, pitch = np.deg2rad([self.yaw, self.pitch])
        turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
        nod = np.array(
            [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
        )
        return turn @ nod

    def project(self, turned: Floats) -> Floats:
        """Project turned points `(..., 3)` to the upright picture plane, `(..., 2)`."""
        return turned[..., :2] * (self.distance / (self.distance - turned[..., 2:]))

    def rolled(self, flat: Floats) -> Floats:
        """Turn points `(..., 2)` of the upright picture plane by the roll."""
        cosine, sine = np.cos(np.deg2rad(self.roll)), np.sin(np.deg2rad(self.roll))
        return flat @ np.array([[cosine, sine], [-sine, cosine]])


@dataclass(frozen=True)
class Head:
    """The surface of one head.

    Attributes:
        frontal: `(68, 2)`, the landmarks seen from the front.
        rows: `(rows, 5)`: y, half width, z of the sides, z of the front, bulge behind.
        angles: `(columns,)`, radians from the front, of the mesh.
        mesh: `(rows, columns, 3)`.
        shade: `(rows, columns)`, light that hollows keep out, 1 in the open.
    """

    frontal: Floats
    rows: Floats
    angles: Floats
    mesh: Floats
    shade: Floats
    _bumps: "_Bumps"

    def parallel(self, y: Floats | float) -> tuple[Floats, ...]:
        """Half width, z of the sides, z of the front and bulge behind, at given heights."""
        return tuple(np.interp(y, self.rows[:, 0], column) for column in self.rows[:, 1:].T)

    def at(self, points: Floats) -> Floats:
        """Lift points `(N, 2)` of the frontal view onto the surface, `(N, 3)`."""
        x, y = points.T
        width, side, front, _ = self.parallel(y)
        cosine = np.sqrt(np.clip(1 - (x / np.maximum(width, 1e-6)) ** 2, 0, None))
        z = side + (front - side) * cosine + self._bumps.height(x, y)
        return np.stack([x, y, z], axis=1)

    def jaw_parallels(self) -> Floats:
        """The front halves of the parallels of the jaw points, `(17, angles, 3)`, middle first."""
        y = self.frontal[JAW, 1:]
        # The jaw points are knots of the rows, so the interpolation passes through them.
        sines = np.sign(self.frontal[JAW, :1]) * np.sin(_OUTLINE_ANGLES)
        _, side, front, _ = self.parallel(y)
        x = np.abs(self.frontal[JAW, :1]) * sines
        z = side + (front - side) * np.cos(_OUTLINE_ANGLES)
        z = z + self._bumps.height(x, np.broadcast_to(y, x.shape))
        return np.stack([x, np.broadcast_to(y, x.shape), z], axis=2)


@dataclass(frozen=True)
class _Bumps:
    """Heights and hollows of the face: round ones, and the ridge of the nose.

    Attributes:
        centres: `(K, 2)` x and y.
        radii: `(K, 2)` along x and y.
        heights: `(K,)`, towards the viewer.
        shades: `(K,)`, how much light a hollow absorbs.
        ridge: `(J, 3)` y, height and half width of the nose, from the brows to the lip.
    """

    centres: Floats
    radii: Floats
    heights: Floats
    shades: Floats
    ridge: Floats

    def height(self, x: Floats, y: Floats) -> Floats:
        """Height above the plain surface at points of any shape."""
        return self.height_and_shade(x, y)[0]

    def height_and_shade(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Height above the plain surface, and the light that hollows absorb."""
        # Single precision: a third of the time, and still accurate to a millionth of a pixel.
        points = np.stack([x.ravel(), y.ravel()]).astype(np.float32)[:, None]
        centres = self.centres.T[..., None].astype(np.float32)
        inverse = (1 / self.radii.T[..., None]).astype(np.float32)
        offsets = (points - centres) * inverse
        offsets *= offsets
        falloff = np.exp(-(offsets[0] + offsets[1]))
        factors = np.stack([self.heights, self.shades]).astype(np.float32)
        height, shade = (factors @ falloff).astype(np.float64).reshape(2, *x.shape)
        return height + self._nose(x, y), shade

    def _nose(self, x: Floats, y: Floats) -> Floats:
        levels, heights, widths = self.ridge.T
        q = np.abs(x) / np.interp(y, levels, widths)
        # q * q * q is several times as fast as q**3.
        return np.interp(y, levels, heights) / (1 + q * q * q)


def build_head(frontal: Floats, rng: np.random.Generator) -> Head:
    """Build the surface whose frontal view has the given landmarks; depths are random."""
    parallels = _parallels(frontal, rng)
    rows = _ROW_WEIGHTS @ parallels
    bumps = _sample_bumps(frontal, rng)
    y, width, side, front, back = (column[:, None] for column in rows.T)
    sines, cosines = np.sin(_COLUMNS), np.cos(_COLUMNS)
    x = width * sines
    y = np.broadcast_to(y, x.shape)
    z = side + np.where(cosines > 0, front - side, back) * cosines
    facing = cosines > 0
    shade = np.ones_like(x)
    height, swallowed = bumps.height_and_shade(x[:, facing], y[:, facing])
    z[:, facing] += height
    shade[:, facing] -= swallowed
    return Head(frontal, rows, _COLUMNS, np.stack([x, y, z], axis=2), shade, bumps)


def project_landmarks(head: Head, pose: Pose) -> Floats:
    """Project the 68 landmarks to the picture plane, `(68, 2)`, including the roll.

    A jaw point is the outermost point of its parallel, so on the side turned away it slides to the
    visible outline. Every other point is where it is, visible or hidden.
    """
    rotation = pose.rotation()
    flat = pose.project(head.at(head.frontal) @ rotation)
    outlines = pose.project(head.jaw_parallels() @ rotation)
    outward = np.sign(head.frontal[JAW, :1]) * outlines[..., 0]
    flat[JAW] = outlines[np.arange(17), outward.argmax(axis=1)]
    return pose.rolled(flat)


def _parallels(frontal: Floats, rng: np.random.Generator) -> Floats:
    """Stack skull and jaw, `(parallels, 5)`; the skull is as wide as this jaw's upper end."""
    left, right = frontal[:9], frontal[16:7:-1]
    jaw = np.column_stack(
        [(left[:, 1] + right[:, 1]) / 2, (right[:, 0] - left[:, 0]) / 2, _JAW_SIDE, _JAW_FRONT]
    )
    skull = _SKULL.copy()
    skull[:, 1] *= jaw[0, 1] / 0.83
    profile = np.concatenate([skull, jaw])
    forehead, cheeks, chin = rng.normal(0, [0.025, 0.025, 0.03])
    profile[2:6, 3] += forehead
    profile[8:11, 3] += cheeks
    profile[11:14, 3] += chin
    return np.column_stack([profile, _BACK])


def _sample_bumps(frontal: Floats, rng: np.random.Generator) -> _Bumps:
    """Place the features' heights at the landmarks of this face."""
    nose, tip = frontal[27:36], frontal[30]
    wing = nose[8, 0]
    lips_y = frontal[LIPS, 1]
    seam = frontal[[62, 66], 1].mean()
    lips = (lips_y.min() + seam) / 2, (lips_y.max() + seam) / 2
    corner, chin = frontal[54], frontal[8]
    full, bony, deep, pointed = rng.normal(1.0, [0.25, 0.4, 0.2, 0.4])
    rows = [(0.0, lips[0], 0.17, 0.055, 0.045 * full, 0.0)]
    rows += [(0.0, lips[1], 0.14, 0.06, 0.05 * full, 0.0)]
    rows += [(0.0, frontal[57, 1] + 0.06, 0.16, 0.05, -0.02, 0.12)]
    rows += [(0.0, chin[1] - 0.15, 0.15, 0.1, 0.045 * pointed, 0.0)]
    rows += [(0.0, nose[6, 1] + 0.05, 0.16, 0.045, 0.0, 0.22)]
    for side, eye in zip((-1, 1), EYES, strict=True):
        x, y = frontal[eye].mean(axis=0)
        inner = frontal[39] if side < 0 else frontal[42]
        rows += [
            (x - side * 0.02, y - 0.03, 0.2, 0.11, -0.075 * deep, 0.14 * deep),
            (x, y, 0.11, 0.075, 0.05, 0.0),
            (inner[0] - side * 0.03, inner[1] - 0.02, 0.07, 0.09, -0.03, 0.16),
            (x, y - 0.2, 0.2, 0.06, 0.03 * bony, 0.0),
            (side * 0.5, 0.3, 0.2, 0.14, 0.045 * bony, 0.0),
            (side * corner[0] * 1.15, corner[1], 0.07, 0.08, -0.012, 0.08),
            (side * wing * 0.85, nose[4, 1] - 0.025, 0.06, 0.065, 0.09, 0.0),
            (side * (wing + 0.06), nose[4, 1], 0.04, 0.07, -0.015, 0.14),
        ]
    table = np.array(rows)
    height, hump = rng.normal(1.0, [0.13, 0.25])
    levels = [nose[0, 1] - 0.12, nose[0, 1], nose[1, 1], nose[2, 1], tip[1] - 0.03]
    levels += [tip[1] + 0.03, nose[6, 1], nose[6, 1] + 0.05]
    heights = [0.0, 0.05, 0.12 * hump, 0.19, 0.25, 0.24, 0.07, 0.0]
    slim = wing / 0.14
    widths = [0.1, 0.08, 0.075, 0.085, 0.1 * slim, 0.11 * slim, 0.13 * slim, 0.12]
    ridge = np.column_stack([levels, np.array(heights) * np.clip(height, 0.75, 1.25), widths])
    return _Bumps(table[:, :2], table[:, 2:4], table[:, 4], table[:, 5], ridge)

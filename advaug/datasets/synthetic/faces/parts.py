"""The meshes of a person: head, ears, neck, clothes, hair, glasses, and what covers a face.

Every part is a grid of points with a texel of the atlas for each; units and axes are those of
`head`. Parts may overlap: the renderer decides by depth what is seen.
"""

from typing import NamedTuple

import numpy as np

from advaug.datasets.synthetic.faces.atlas import AtlasScale
from advaug.datasets.synthetic.faces.head import Head
from advaug.datasets.synthetic.faces.look import Look
from advaug.datasets.synthetic.faces.shape import EYES, Floats

__all__ = ["Part", "build_parts"]


class Part(NamedTuple):
    """A piece of surface.

    Attributes:
        mesh: `(rows, columns, 3)` points.
        texels: `(rows, columns, 2)` positions in the atlas.
        shade: `(rows, columns)`, 1 in the open, 0 where no light comes.
        gloss: Strength of the highlight.
        two_sided: Whether its inside can be seen too.
        nearer: Added to its depth when parts are sorted, so that the skin does not swallow what
            lies on it.
        body: Whether it stays with the body instead of turning with the head.
    """

    mesh: Floats
    texels: Floats
    shade: Floats
    gloss: float = 0.0
    two_sided: bool = False
    nearer: float = 0.0
    body: bool = False


# Angles of a ring around the head or neck, from the back through the front to the back.
_RING = np.deg2rad(np.linspace(-180, 180, 27))
_BODY_AXIS = -0.72


def build_parts(
    head: Head, look: Look, scale: AtlasScale, covers: tuple[str, ...], rng: np.random.Generator
) -> list[Part]:
    """Build all meshes of one person."""
    parts = [_head(head, scale, look), _neck(head, scale), _clothes(head, scale)]
    parts += [_ear(head, scale, side) for side in (-1, 1)]
    if look.style != "bald":
        parts.append(_hair(head, look, scale, rng))
    if look.cap:
        parts += _cap(head, look, scale)
    if look.glasses:
        parts += _glasses(head, scale, dark=look.glasses == "dark")
    if "mask" in covers:
        parts += _mask(head, scale)
    if "scarf" in covers:
        parts.append(_scarf(head, scale, rng))
    return parts


def _hairline(sines: Floats, height: float) -> Floats:
    """Where the hair begins, y, by the sine of the angle from the front.

    Args:
        sines: Any shape; 0 in front, 1 at the ears.
        height: y of the hairline in front.
    """
    sines = np.abs(sines)
    temples = _step((sines - 0.5) / 0.38)
    burns = _step((sines - 0.93) / 0.06)
    return height + (-0.18 - height) * temples + 0.3 * burns


def _step(t: Floats) -> Floats:
    """Rise smoothly from 0 to 1."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _plain(mesh: Floats, scale: AtlasScale, swatch: str) -> Floats:
    """Texels of a single plain colour for a whole mesh."""
    return np.broadcast_to(scale.swatch(swatch), (*mesh.shape[:2], 2))


def _head(head: Head, scale: AtlasScale, look: Look) -> Part:
    """The skull and face."""
    plane = head.mesh[..., :2].copy()
    # Behind the ears the frontal picture would repeat: stretch its margin instead.
    behind = np.cos(head.angles) < 0
    margin = np.sign(head.angles[behind]) * head.rows[:, 1:2]
    plane[:, behind, 0] = margin
    gloss = 0.16 + 0.2 * (look.style == "bald")
    return Part(head.mesh, scale.face(plane), head.shade, gloss=gloss)


def _ring_mesh(angles: Floats, y: Floats, half_x: Floats, half_z: Floats, axis: float) -> Floats:
    """Rings around the vertical; all but `angles` are `(rows, 1)` or `(rows, columns)`."""
    x = half_x * np.sin(angles)
    z = axis + half_z * np.cos(angles)
    return np.stack(np.broadcast_arrays(x, y, z), axis=2)


def _neck(head: Head, scale: AtlasScale) -> Part:
    """A column from inside the head down into the collar, in the head's shadow."""
    y = np.array([0.6, 0.95, 1.25, 1.6, 2.2])[:, None]
    radius = np.array([0.97, 0.97, 1.0, 1.1, 1.6])[:, None] * _neck_width(head)
    mesh = _ring_mesh(_RING, y, radius, 0.46 + 0 * y, _BODY_AXIS)
    shade = np.broadcast_to(np.array([0.4, 0.45, 0.6, 0.78, 0.9])[:, None], mesh.shape[:2])
    return Part(mesh, _plain(mesh, scale, "skin"), shade, gloss=0.05)


def _neck_width(head: Head) -> float:
    """Half the width of the neck: a broad jaw goes with a broad neck."""
    jaw = head.frontal[13, 0] - head.frontal[3, 0]
    return 0.38 * float(np.clip(jaw, 1.25, 1.75))


def _clothes(head: Head, scale: AtlasScale) -> Part:
    """Collar and shoulders."""
    top = head.frontal[8, 1] + 0.15
    y = top + np.array([0.02, 0.0, 0.1, 0.25, 0.5, 1.6])[:, None]
    wide = _neck_width(head) + np.array([0.03, 0.07, 0.2, 0.7, 1.3, 1.6])[:, None]
    deep = np.array([0.52, 0.56, 0.62, 0.68, 0.72, 0.72])[:, None]
    # The collar is lower in front than behind.
    y = y + 0.14 * np.cos(_RING) * np.array([1, 1, 1, 0, 0, 0])[:, None]
    mesh = _ring_mesh(_RING, y, wide, deep, _BODY_AXIS)
    texels = _plain(mesh, scale, "clothes").copy()
    texels[:3] = scale.swatch("collar")
    return Part(mesh, texels, np.full(mesh.shape[:2], 0.9), nearer=0.1, body=True)


def _ear_template() -> Floats:
    """An ear on the right of the picture, beside the point where it is attached."""
    turns = np.linspace(0, 2 * np.pi, 13)
    radius = np.array([0.0, 0.55, 0.85, 1.0])[:, None]
    raised = np.array([-0.02, -0.01, 0.045, 0.02])[:, None]
    back = 0.15 * radius * np.cos(turns)
    down = 0.26 * radius * np.sin(turns) * np.where(np.sin(turns) > 0, 0.85, 1.0)
    x = raised - 0.015 + 0.5 * (back + 0.1)
    return np.stack([x, 0.13 + down, -0.17 - 0.85 * back - 0.2 * down], axis=2)


_EAR = _ear_template()


def _ear(head: Head, scale: AtlasScale, side: int) -> Part:
    """A cupped disc behind the upper end of the jaw line."""
    width, depth, *_ = head.parallel(head.frontal[1, 1])
    mesh = np.add(_EAR * [side, 1, 1], [side * float(width), 0, float(depth)])
    texels = _plain(mesh, scale, "skin").copy()
    texels[:2] = scale.swatch("inner_ear")
    return Part(mesh, texels, np.full(mesh.shape[:2], 0.85), gloss=0.1, two_sided=True)


def _shell(
    head: Head, angles: Floats, y: Floats, thickness: Floats, *, waist: float | None = None
) -> Floats:
    """A mesh around the head: at height y, outside the plain surface by `thickness`.

    Args:
        head: The head inside.
        angles: `(columns,)`.
        y: `(rows, columns)`.
        thickness: `(rows, columns)`.
        waist: Height below which the shell hangs straight down instead of following the jaw.
    """
    level = y if waist is None else np.minimum(y, waist)
    width, side, front, back = head.parallel(level)
    cosines = np.cos(angles)
    x = (width + thickness) * np.sin(angles)
    z = side + np.where(cosines > 0, front - side + thickness, back + thickness) * cosines
    return np.stack([x, y, z], axis=2)


def _hair(head: Head, look: Look, scale: AtlasScale, rng: np.random.Generator) -> Part:
    """A shell from the crown to the hairline, and down the sides where the hair is long."""
    angles = _RING
    sines = np.where(np.cos(angles) > 0, np.sin(angles), 1.0)
    fringe = look.style == "fringe" or (look.style in ("bob", "long") and look.volume > 0.11)
    height = -0.37 - 0.5 * (look.volume - 0.05) if fringe else look.hairline
    end = _hairline(sines, height) + rng.normal(0, 0.02, angles.shape)
    thickness = {"cropped": 0.02, "curly": 0.2 + look.volume}.get(look.style, look.volume)
    length = {"bob": 0.85, "long": 1.9, "curly": 0.25}.get(look.style, 0.1)
    length += float(rng.normal(0, 0.08)) * (length > 0.3)
    side = _step((np.abs(angles) - np.deg2rad(52 if length > 0.3 else 72)) / np.deg2rad(22))
    end = end + (np.maximum(length, end) - end) * side
    fraction = np.array([0.0, 0.06, 0.14, 0.24, 0.36, 0.5, 0.64, 0.78, 0.9, 1.0])[:, None]
    crown = -1.36
    y = crown + (end - crown) * fraction
    bulk = thickness * (1 - (1 - side) * 0.75 * fraction**2)
    bulk = bulk * (1 + rng.normal(0, 0.07, y.shape))
    if look.style == "curly":
        bulk = bulk * (1 + rng.normal(0, 0.12, y.shape))
    mesh = _shell(head, angles, y, bulk, waist=0.1)
    mesh[..., 1] -= thickness * (1 - fraction) ** 2 * 0.8
    unit = np.broadcast_arrays((angles + np.pi) / (2 * np.pi), fraction)
    shade = np.broadcast_to(1.0 - 0.25 * fraction**3, y.shape)
    return Part(mesh, scale.hair(np.stack(unit, axis=2)), shade, 0.22, length > 0.3, nearer=0.06)


def _cap(head: Head, look: Look, scale: AtlasScale) -> list[Part]:
    """A cap with its visor."""
    fraction = np.linspace(0, 1, 7)[:, None]
    end = np.where(np.cos(_RING) > 0, -0.5, -0.4)
    y = -1.36 + (end + 1.36) * fraction
    dome = _shell(head, _RING, y, np.full(y.shape, 0.12 + 0.5 * look.volume))
    dome[..., 1] -= 0.1 * (1 - fraction)
    front = np.deg2rad(np.linspace(-65, 65, 15))
    out = np.array([0.12, 0.3, 0.5])[:, None]
    level = np.full((3, 15), -0.5) + 0.12 * (out - 0.12)
    visor = _shell(head, front, level, out * np.cos(front) ** 0.5 + 0.1)
    texels = [_plain(mesh, scale, "cap") for mesh in (dome, visor)]
    shades = [np.full(mesh.shape[:2], value) for mesh, value in ((dome, 0.95), (visor, 0.7))]
    return [
        Part(mesh, texel, shade, two_sided=True)
        for mesh, texel, shade in zip((dome, visor), texels, shades, strict=True)
    ]


def _glasses(head: Head, scale: AtlasScale, *, dark: bool) -> list[Part]:
    """Two rims, a bridge and two arms; dark ones have lenses that hide the eyes."""
    turns = np.linspace(0, 2 * np.pi, 21)
    bridge_z = float(head.at(head.frontal[27:28])[0, 2]) + 0.03
    meshes: list[tuple[Floats, str]] = []
    hinges: list[Floats] = []
    for eye, side in zip(EYES, (-1, 1), strict=True):
        x, y = np.add(head.frontal[eye].mean(axis=0), [side * 0.01, 0.035])
        # Between ellipse and box.
        circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
        rim = np.sign(circle) * np.abs(circle) ** 0.75 * [0.225, 0.165]
        radius = np.array([0.0, 0.9, 1.03] if dark else [0.9, 1.03])[:, None, None]
        flat = [x, y] + radius * rim
        z = bridge_z - 0.16 * np.abs(flat[..., :1])
        ring = np.concatenate([flat, z], axis=2)
        meshes.append((ring[-2:], "frame"))
        if dark:
            meshes.append((ring[:2], "lens"))
        hinges.append(np.array([x + side * 0.225, y - 0.05, bridge_z - 0.16 * abs(x) - 0.04]))
        width, depth, *_ = head.parallel(y)
        ear = np.array([side * (float(width) + 0.05), y - 0.06, float(depth) - 0.15])
        meshes.append((_bar(hinges[-1], ear, 0.035), "frame"))
    inner = [hinges[0] * [0, 1, 1] + [side * 0.1, 0, 0.1] for side in (-1, 1)]
    meshes.append((_bar(inner[0], inner[1], 0.025), "frame"))
    return [
        Part(
            mesh,
            _plain(mesh, scale, swatch),
            np.ones(mesh.shape[:2]),
            gloss=0.6,
            two_sided=True,
            nearer=0.08,
        )
        for mesh, swatch in meshes
    ]


def _bar(start: Floats, end: Floats, height: float) -> Floats:
    """A flat bar, `(2, 5, 3)`."""
    line = start + (end - start) * np.linspace(0, 1, 5)[:, None]
    return line + np.array([-1, 1])[:, None, None] * [0, height / 2, 0]


def _mask(head: Head, scale: AtlasScale) -> list[Part]:
    """A mask over nose, mouth and chin, with its bands to the ears."""
    angles = np.deg2rad(np.linspace(-82, 82, 21))
    fraction = np.linspace(0, 1, 10)[:, None]
    top = 0.3 - 0.15 * np.exp(-((np.sin(angles) / 0.25) ** 2))
    bottom = head.frontal[8, 1] - 0.01
    y = top + (bottom - 0.35 * np.abs(np.sin(angles)) ** 3 - top) * fraction
    mesh = _shell(head, angles, y, np.full(y.shape, 0.045))
    # One soft tent over nose and lips, higher than either.
    tent = np.exp(-((mesh[..., 0] / 0.3) ** 2) - ((y - head.frontal[33, 1] + 0.05) / 0.33) ** 2)
    mesh[..., 2] += 0.34 * tent
    pleats = 1 - 0.12 * (np.arange(10) % 3 == 1)[:, None]
    shade = np.broadcast_to(0.95 * pleats, y.shape)
    parts = [Part(mesh, _plain(mesh, scale, "cloth"), shade, nearer=0.08)]
    width, depth, *_ = head.parallel(0.1)
    for column, side in ((0, -1), (-1, 1)):
        ear = np.array([side * (float(width) + 0.06), 0.1, float(depth) - 0.15])
        for row in (1, -3):
            band = _bar(mesh[row, column], ear, 0.025)
            parts.append(
                Part(band, _plain(band, scale, "cloth"), np.ones((2, 5)), 0.0, True, nearer=0.08)
            )
    return parts


def _scarf(head: Head, scale: AtlasScale, rng: np.random.Generator) -> Part:
    """A scarf wound around neck, chin and mouth."""
    fraction = np.linspace(0, 1, 8)[:, None]
    top = (
        head.frontal[33, 1]
        + 0.06
        + 0.08 * np.abs(np.sin(_RING))
        + rng.normal(0, 0.015, _RING.shape)
    )
    y = top + (head.frontal[8, 1] + 0.6 - top) * fraction
    folds = 0.16 + 0.05 * np.sin(6.5 * fraction + rng.uniform(0, 6) + np.sin(2 * _RING))
    mesh = _shell(head, _RING, y, folds, waist=float(head.frontal[4, 1]))
    shade = np.broadcast_to(0.75 + 1.8 * (folds - 0.16), y.shape)
    return Part(mesh, _plain(mesh, scale, "cloth"), shade, nearer=0.05)

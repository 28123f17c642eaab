"""The 68 landmarks of a face seen from the front: its identity and its expression.

The unit of length is the distance of the outer eye corners; x points to the right of the picture, y
down, and the origin is between the eyes. The template is symmetric and has the proportions of an
average adult. Everything that distinguishes two people is a random deviation from it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advaug.schemes import FACE_68

__all__ = [
    "BROWS",
    "EYES",
    "JAW",
    "LIPS",
    "Expression",
    "Floats",
    "sample_expression",
    "sample_frontal_landmarks",
]

Floats = NDArray[np.floating]

JAW = slice(0, 17)
BROWS = (slice(17, 22), slice(22, 27))
_NOSE = slice(27, 36)
_NOSE_BASE = slice(31, 36)
EYES = (slice(36, 42), slice(42, 48))
LIPS = slice(48, 68)

_UPPER_LIP = [49, 50, 51, 52, 53, 61, 62, 63]
_LOWER_LIP = [55, 56, 57, 58, 59, 65, 66, 67]
_UPPER_LIDS = ([37, 38], [43, 44])
_LOWER_LIDS = ([40, 41], [46, 47])
# Along each brow, 0 at the end beside the temple and 1 at the end beside the nose.
_INWARD = (np.linspace(0, 1, 5), np.linspace(1, 0, 5))

# The half on the left of the picture and the middle line; the other half is their mirror image.
_HALF = {
    **dict(enumerate([(-0.83, 0.02), (-0.82, 0.23), (-0.785, 0.43), (-0.74, 0.63)])),
    **dict(enumerate([(-0.672, 0.83), (-0.565, 1.0), (-0.43, 1.135), (-0.26, 1.235)], 4)),
    **dict(enumerate([(0.0, 1.285)], 8)),
    **dict(enumerate([(-0.67, -0.165), (-0.56, -0.24), (-0.43, -0.262), (-0.31, -0.25)], 17)),
    **dict(enumerate([(-0.2, -0.218)], 21)),
    **dict(enumerate([(0.0, 0.01), (0.0, 0.15), (0.0, 0.285), (0.0, 0.41)], 27)),
    **dict(enumerate([(-0.14, 0.49), (-0.075, 0.512), (0.0, 0.528)], 31)),
    **dict(enumerate([(-0.5, 0.0), (-0.418, -0.044), (-0.312, -0.044)], 36)),
    **dict(enumerate([(-0.222, 0.012), (-0.31, 0.042), (-0.415, 0.042)], 39)),
    **dict(enumerate([(-0.288, 0.768), (-0.19, 0.706), (-0.066, 0.668), (0.0, 0.68)], 48)),
    **dict(enumerate([(0.0, 0.905), (-0.1, 0.895), (-0.19, 0.85)], 57)),
    **dict(enumerate([(-0.262, 0.766), (-0.087, 0.752), (0.0, 0.752)], 60)),
    **dict(enumerate([(0.0, 0.764), (-0.085, 0.764)], 66)),
}


def _template() -> Floats:
    """Complete the half face to `(68, 2)`."""
    points = np.zeros((68, 2))
    for index, (x, y) in _HALF.items():
        points[FACE_68.flip_permutation[index]] = -x, y
        points[index] = x, y
    return points


_TEMPLATE = _template()
# 0 at the ears, 1 at the chin: how much a jaw point follows what happens to the chin.
_CHIN_SHARE = np.clip(_TEMPLATE[JAW, 1] / _TEMPLATE[8, 1], 0, 1)


@dataclass(frozen=True)
class Expression:
    """What the face does; each number is 0 at rest and about 1 at its strongest.

    Attributes:
        smile: Corners of the mouth out and up; negative: down.
        mouth: Opening of the mouth, with the jaw.
        pucker: Lips narrow and full.
        brows: Brows up; negative: down and together.
        lids: Opening of the eyes relative to rest, a factor; near 0 they are closed.
        skew: Left and right of the mouth differ.
        gaze: Where the irises look, as fractions of the eye's width and height.
    """

    smile: float
    mouth: float
    pucker: float
    brows: float
    lids: float
    skew: float
    gaze: tuple[float, float]


def sample_expression(rng: np.random.Generator) -> Expression:
    """Draw an expression: calm, smiling, talking, shouting, frowning, blinking."""
    kind = rng.random()
    smile = rng.uniform(0.4, 1.1) if kind < 0.35 else rng.normal(0, 0.2)
    mouth = rng.uniform(0.15, 1.0) if rng.random() < 0.4 else 0.0
    pucker = rng.uniform(0.3, 1.0) if kind > 0.9 else 0.0
    closed = rng.random() < 0.06
    lids = rng.uniform(0.0, 0.15) if closed else rng.normal(1.0, 0.16) - 0.2 * max(smile, 0)
    return Expression(
        smile=float(smile),
        mouth=float(mouth * (0.6 if smile > 0.4 else 1.0)),
        pucker=float(pucker),
        brows=float(rng.normal(0, 0.5)),
        lids=float(max(lids, 0.0)),
        skew=float(rng.normal(0, 0.2)),
        gaze=(float(rng.normal(0, 0.12)), float(rng.normal(0, 0.12))),
    )


def sample_frontal_landmarks(rng: np.random.Generator, expression: Expression) -> Floats:
    """Draw a person and let the person make an expression.

    Returns:
        `(68, 2)`, in outer eye-corner distances (of the average face).
    """
    points = _TEMPLATE.copy()
    _vary_outline(points, rng)
    _vary_eyes(points, rng)
    _vary_brows(points, rng)
    _vary_nose_and_mouth(points, rng)
    _express_eyes_and_brows(points, expression)
    _express_mouth(points, expression)
    return points


def _vary_outline(points: Floats, rng: np.random.Generator) -> None:
    """Make the face wide or narrow, the jaw square or pointed, the chin long or short."""
    width, jaw, chin, length = rng.normal(0, [0.045, 0.09, 0.09, 0.04])
    outline = points[JAW]
    outline[:, 0] *= 1 + width + jaw * _CHIN_SHARE
    outline[[6, 7, 9, 10], 0] *= 1 + chin
    outline[:, 1] += length * _CHIN_SHARE**2 * 1.3


def _vary_eyes(points: Floats, rng: np.random.Generator) -> None:
    """Vary size, slant, spacing, height and rest opening of the eyes, the same on both sides."""
    size = rng.normal(1.0, 0.06)
    slant, apart, lower = rng.normal(0, [0.055, 0.018, 0.015])
    opening = max(rng.normal(1.05, 0.16), 0.55)
    for eye, side in zip(EYES, (-1, 1), strict=True):
        centre = points[eye].mean(axis=0)
        offset = (points[eye] - centre) * [size, size * opening]
        offset[:, 1] += side * offset[:, 0] * -slant
        points[eye] = centre + offset + [side * apart, lower]


def _vary_brows(points: Floats, rng: np.random.Generator) -> None:
    """Vary height, slant, arch and length of the brows."""
    lower, slant, arch, apart = rng.normal(0, [0.028, 0.03, 0.018, 0.018])
    for brow, inward, side in zip(BROWS, _INWARD, (-1, 1), strict=True):
        points[brow, 0] += side * apart
        points[brow, 1] += lower + slant * (inward - 0.5) - arch * 4 * inward * (1 - inward)


def _vary_nose_and_mouth(points: Floats, rng: np.random.Generator) -> None:
    """Vary length and width of the nose; width, height and fullness of the lips."""
    length, width = rng.normal(1.0, [0.055, 0.13])
    nasion = points[27, 1]
    points[_NOSE, 1] = nasion + (points[_NOSE, 1] - nasion) * length
    points[_NOSE_BASE, 0] *= np.clip(width, 0.75, 1.4)
    points[LIPS, 0] *= rng.normal(1.0, 0.075)
    seam = points[62, 1]
    upper, lower = np.clip(rng.normal(1.0, 0.22, 2), 0.5, 1.6)
    points[_UPPER_LIP, 1] = seam + (points[_UPPER_LIP, 1] - seam) * upper
    points[_LOWER_LIP, 1] = seam + (points[_LOWER_LIP, 1] - seam) * lower
    points[LIPS, 1] += rng.normal(0, 0.018) + 0.5 * (length - 1) * 0.5


def _express_eyes_and_brows(points: Floats, expression: Expression) -> None:
    """Open or close the lids, raise or knit the brows."""
    for eye, upper, lower in zip(EYES, _UPPER_LIDS, _LOWER_LIDS, strict=True):
        # Closed lids meet low, at the lower lid: the upper one moves most of the way.
        corners = points[[eye.start, eye.start + 3], 1].mean()
        meeting = corners + 0.7 * (points[lower, 1].mean() - corners)
        for lid in (upper, lower):
            points[lid, 1] = meeting + (points[lid, 1] - meeting) * min(expression.lids, 1.4)
    for brow, inward, side in zip(BROWS, _INWARD, (-1, 1), strict=True):
        frown = max(-expression.brows, 0.0)
        points[brow, 1] += -0.05 * expression.brows + 0.03 * frown * inward
        points[brow, 0] -= side * 0.03 * frown * inward


def _express_mouth(points: Floats, expression: Expression) -> None:
    """Smile, open, pucker and skew the mouth; the jaw follows its opening."""
    lips = points[LIPS]
    centre = lips[:, 1].mean()
    half_width = np.abs(lips[:, 0]).max()
    outward = (lips[:, 0] / half_width) ** 2
    smile, opening = expression.smile, expression.mouth
    lips[:, 0] *= (1 + 0.2 * smile - 0.1 * opening) * (1 - 0.28 * expression.pucker)
    lips[:, 1] -= 0.085 * smile * (outward - 0.25)
    lips[:, 1] += (lips[:, 1] - centre) * 0.25 * expression.pucker
    tilt = 0.05 * expression.skew * lips[:, 0] / half_width
    lips[:, 1] += tilt * (1 + smile)
    # Corners stay while the middle of the lower lip drops with the chin.
    drop = opening * 0.22
    part = drop + 0.035 * max(smile - 0.3, 0)
    middle = 1 - outward**2
    points[_UPPER_LIP, 1] -= (0.12 * part) * middle[np.array(_UPPER_LIP) - 48]
    points[_LOWER_LIP, 1] += part * middle[np.array(_LOWER_LIP) - 48]
    points[[48, 54, 60, 64], 1] += 0.35 * drop
    points[JAW, 1] += 0.85 * drop * _CHIN_SHARE**2

"""Landmark schemes: which index is what, what a mirror swaps, and which pair normalises."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = [
    "COCO_17",
    "COCO_NAMES",
    "FACE_29",
    "FACE_68",
    "FACE_98",
    "MPII_16",
    "SCHEMES",
    "LandmarkScheme",
    "scheme_from_names",
]


@dataclass(frozen=True)
class LandmarkScheme:
    """Facts about one way of annotating landmarks.

    Attributes:
        name: The name by which tables and files call it.
        num_landmarks: N.
        flip_permutation: After a mirror, `landmarks[:, flip_permutation]` puts left and right back
            under their labels. An involution.
        eye_corners: The two outer eye corners, whose distance is the inter-ocular normaliser.
        pupils: Two groups of landmarks whose centres are the pupils (inter-pupil normaliser).
    """

    name: str
    num_landmarks: int
    flip_permutation: tuple[int, ...] = field(repr=False)
    eye_corners: tuple[int, int] | None = None
    pupils: tuple[tuple[int, ...], tuple[int, ...]] | None = None


def _mirror(count: int, *pairs: tuple[int, int]) -> tuple[int, ...]:
    """Permutation of `count` landmarks that swaps each of `pairs` and keeps the rest."""
    permutation = list(range(count))
    for left, right in pairs:
        permutation[left], permutation[right] = right, left
    return tuple(permutation)


def _facing(left: range, right: range) -> list[tuple[int, int]]:
    """Pair the first of `left` with the last of `right`, and so on inwards."""
    return list(zip(left, reversed(right), strict=True))


FACE_68 = LandmarkScheme(
    "face-68",
    68,
    _mirror(
        68,
        *_facing(range(8), range(9, 17)),  # jaw
        *_facing(range(17, 22), range(22, 27)),  # brows
        *_facing(range(31, 33), range(34, 36)),  # nostrils
        *_facing(range(36, 40), range(42, 46)),  # upper lids and corners
        *_facing(range(40, 42), range(46, 48)),  # lower lids
        *_facing(range(48, 51), range(52, 55)),  # outer lip, top
        *_facing(range(55, 57), range(58, 60)),  # outer lip, bottom
        *_facing(range(60, 62), range(63, 65)),  # inner lip, top
        (65, 67),
    ),
    eye_corners=(36, 45),
    pupils=(tuple(range(36, 42)), tuple(range(42, 48))),
)
"""300W: 0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 mouth."""

FACE_98 = LandmarkScheme(
    "face-98",
    98,
    _mirror(
        98,
        *_facing(range(16), range(17, 33)),  # jaw
        *_facing(range(33, 38), range(42, 47)),  # brows, top
        *_facing(range(38, 42), range(47, 51)),  # brows, bottom
        *_facing(range(55, 57), range(58, 60)),  # nostrils
        *_facing(range(60, 65), range(68, 73)),  # upper lids and corners
        *_facing(range(65, 68), range(73, 76)),  # lower lids
        *_facing(range(76, 79), range(80, 83)),  # outer lip, top
        *_facing(range(83, 85), range(86, 88)),  # outer lip, bottom
        *_facing(range(88, 90), range(91, 93)),  # inner lip, top
        (93, 95),
        (96, 97),
    ),
    eye_corners=(60, 72),
    pupils=((96,), (97,)),
)
"""WFLW."""

FACE_29 = LandmarkScheme(
    "face-29",
    29,
    _mirror(
        29,
        *((0, 1), (2, 3), (4, 6), (5, 7), (8, 9), (10, 11), (12, 14), (13, 15)),
        *((16, 17), (18, 19), (22, 23)),
    ),
    eye_corners=(8, 9),
    pupils=((16,), (17,)),
)
"""COFW."""

COCO_17 = LandmarkScheme(
    "coco-17", 17, _mirror(17, *((left, left + 1) for left in range(1, 17, 2)))
)
"""Nose, then left and right eye, ear, shoulder, elbow, wrist, hip, knee, ankle."""

COCO_NAMES = (
    "nose",
    *(
        f"{side}_{part}"
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)
"""What COCO's json calls the landmarks of `COCO_17`."""

MPII_16 = LandmarkScheme(
    "mpii-16", 16, _mirror(16, (0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13))
)
"""Right ankle to left ankle, pelvis, thorax, neck, head, right wrist to left wrist."""

SCHEMES = {scheme.name: scheme for scheme in (FACE_68, FACE_98, FACE_29, COCO_17, MPII_16)}


def scheme_from_names(names: Sequence[str]) -> LandmarkScheme:
    """Derive a scheme from what its landmarks are called, as COCO's categories name them.

    A mirror swaps the names that differ in "left" and "right" alone ("left_ear" and "right_ear",
    "earLeft" and "earRight"), or in a leading "l_" and "r_" ("L_Eye" and "R_Eye").

    Args:
        names: One a landmark, in order.

    Returns:
        `COCO_17` for its names, else a scheme of its own.

    Raises:
        ValueError: If a name occurs twice, or a left or right one has no counterpart.
    """
    if tuple(names) == COCO_NAMES:
        return COCO_17
    lowered = [name.lower() for name in names]
    if len(set(lowered)) < len(lowered):
        msg = f"`names` must differ from each other, but got {list(names)}. Rename the repeated."
        raise ValueError(msg)
    pairs = [
        (lowered.index(name), _counterpart(name, lowered))
        for name in lowered
        if _other_side(name) != name
    ]
    return LandmarkScheme(f"keypoints-{len(lowered)}", len(lowered), _mirror(len(lowered), *pairs))


def _other_side(name: str) -> str:
    """The name with left and right exchanged; the same where it has no side."""
    swap = {"left": "right", "right": "left", "l_": "r_", "r_": "l_"}
    pattern = "left|right" if re.search("left|right", name) else "^[lr]_"
    return re.sub(pattern, lambda found: swap[found.group()], name, count=1)


def _counterpart(name: str, names: Sequence[str]) -> int:
    other = _other_side(name)
    if other not in names:
        msg = (
            f"`names` must hold {other!r} beside {name!r}, which a mirror swaps, but got "
            f"{list(names)}. Add it or rename {name!r}."
        )
        raise ValueError(msg)
    return names.index(other)

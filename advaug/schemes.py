"""Landmark schemes: what each index means, what a mirror swaps, and which pair normalises."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = [
    "COCO_17",
    "COCO_NAMES",
    "FACE_21",
    "FACE_29",
    "FACE_68",
    "FACE_98",
    "FACE_98_TO_68",
    "MPII_16",
    "SCHEMES",
    "LandmarkScheme",
    "scheme_from_names",
]


@dataclass(frozen=True)
class LandmarkScheme:
    """Facts about one way of annotating landmarks.

    Attributes:
        name: The name used in tables and files.
        num_landmarks: N.
        flip_permutation: After a mirror, `landmarks[:, flip_permutation]` restores left and right
            to their labels. An involution.
        eye_corners: The two outer eye corners, whose distance is the inter-ocular normaliser.
        pupils: Two groups of landmarks whose centres are the pupils (inter-pupil normaliser).
        names: What each landmark is, in order. Left and right are the person's own sides, so
            "right_eye_outer" is on the left of a picture of someone who faces the viewer. Empty if
            the scheme has no names.
        regions: Parts of the face or body, each with its landmarks; a landmark is in one region.
    """

    name: str
    num_landmarks: int
    flip_permutation: tuple[int, ...] = field(repr=False)
    eye_corners: tuple[int, int] | None = None
    pupils: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    names: tuple[str, ...] = field(default=(), repr=False)
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False, hash=False)


def _mirror(count: int, *pairs: tuple[int, int]) -> tuple[int, ...]:
    """Permutation of `count` landmarks that swaps each of `pairs` and keeps the rest."""
    permutation = list(range(count))
    for left, right in pairs:
        permutation[left], permutation[right] = right, left
    return tuple(permutation)


def _facing(left: range, right: range) -> list[tuple[int, int]]:
    """Pair the first of `left` with the last of `right`, and so on inwards."""
    return list(zip(left, reversed(right), strict=True))


def _sides(*names: str) -> list[str]:
    """Names of landmarks that come in pairs, the right one first."""
    return [f"{side}_{name}" for name in names for side in ("right", "left")]


def _line(name: str, count: int) -> list[str]:
    """Number the landmarks of a line: the first is 1."""
    return [f"{name}_{number}" for number in range(1, count + 1)]


def _across(right_half: Sequence[str], *middle: str) -> list[str]:
    """Names of a line across the face: its right half, the middle, and the half mirrored."""
    right = [f"right_{name}" for name in right_half]
    left = [f"left_{name}" for name in reversed(right_half)]
    return [*right, *middle, *left]


def _eyes(lid: int) -> list[str]:
    """Names of both eyes' outlines, with as many landmarks between the corners of each lid."""
    upper, lower = _line("upper_lid", lid), _line("lower_lid", lid)
    right = ["eye_outer", *upper, "eye_inner", *reversed(lower)]
    left = ["eye_inner", *reversed(upper), "eye_outer", *lower]
    return [f"right_{name}" for name in right] + [f"left_{name}" for name in left]


def _mouth() -> list[str]:
    """Names of the 20 landmarks of the lips, which 68 and 98 share."""
    upper = _across(["mouth_corner", *_line("upper_lip", 2)], "upper_lip")
    lower = _across(_line("lower_lip", 2), "lower_lip")[::-1]
    inner_upper = _across(["inner_mouth_corner", "inner_upper_lip"], "inner_upper_lip")
    inner_lower = _across(["inner_lower_lip"], "inner_lower_lip")[::-1]
    return upper + lower + inner_upper + inner_lower


_NOSE = [*_line("nose_bridge", 4), *_across(_line("nostril", 2), "nose_base")]


def _regions(**parts: Sequence[int]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(indices) for name, indices in parts.items()}


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
    names=(
        *_across(_line("jaw", 8), "chin"),
        *_across(_line("brow", 5)),
        *_NOSE,
        *_eyes(2),
        *_mouth(),
    ),
    regions=_regions(
        jaw=range(17),
        right_brow=range(17, 22),
        left_brow=range(22, 27),
        nose=range(27, 36),
        right_eye=range(36, 42),
        left_eye=range(42, 48),
        mouth=range(48, 68),
    ),
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
    names=(
        *_across(_line("jaw", 16), "chin"),
        *(f"right_{name}" for name in (*_line("upper_brow", 5), *_line("lower_brow", 4)[::-1])),
        *(f"left_{name}" for name in (*_line("upper_brow", 5)[::-1], *_line("lower_brow", 4))),
        *_NOSE,
        *_eyes(3),
        *_mouth(),
        *_sides("pupil"),
    ),
    regions=_regions(
        jaw=range(33),
        right_brow=range(33, 42),
        left_brow=range(42, 51),
        nose=range(51, 60),
        right_eye=(*range(60, 68), 96),
        left_eye=(*range(68, 76), 97),
        mouth=range(76, 96),
    ),
)
"""WFLW: 0-32 jaw, 33-50 brows, 51-59 nose, 60-75 eyes, 76-95 mouth, 96 and 97 pupils."""

FACE_98_TO_68 = (
    *range(0, 33, 2),  # every other one of the jaw
    *range(33, 38),  # the upper lines of the brows
    *range(42, 47),
    *range(51, 60),
    *(60, 61, 63, 64, 65, 67),  # the lids without their middles
    *(68, 69, 71, 72, 73, 75),
    *range(76, 96),
)
"""Which landmarks of `FACE_98` are nearest to `FACE_68`: `landmarks[..., FACE_98_TO_68, :]`.

The two sets of rules differ: 68 marks the middle of the brows, 98 their outline, and a point
between two landmarks of a lid is not a landmark. Errors across the two have a floor.
"""

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
    names=(
        *_sides("brow_outer", "brow_inner"),
        *(f"{side}_brow_{edge}" for side in ("right", "left") for edge in ("top", "bottom")),
        *_sides("eye_outer", "eye_inner"),
        *(f"{side}_{lid}_lid" for side in ("right", "left") for lid in ("upper", "lower")),
        *_sides("pupil", "nostril"),
        *("nose_tip", "nose_base", "right_mouth_corner", "left_mouth_corner"),
        *("upper_lip_top", "upper_lip_bottom", "lower_lip_top", "lower_lip_bottom", "chin"),
    ),
    regions=_regions(
        jaw=(28,),
        right_brow=(0, 2, 4, 5),
        left_brow=(1, 3, 6, 7),
        nose=range(18, 22),
        right_eye=(8, 10, 12, 13, 16),
        left_eye=(9, 11, 14, 15, 17),
        mouth=range(22, 28),
    ),
)
"""COFW: 0-7 brows, 8-15 eyes, 16 and 17 pupils, 18-21 nose, 22-27 mouth, 28 chin."""

FACE_21 = LandmarkScheme(
    "face-21",
    21,
    _mirror(
        21,
        *_facing(range(3), range(3, 6)),  # brows
        *_facing(range(6, 9), range(9, 12)),  # eyes
        *((12, 16), (13, 15), (17, 19)),  # ears, nostrils, corners of the mouth
    ),
    eye_corners=(6, 11),
    pupils=((7,), (10,)),
    names=(
        *_across(["brow_outer", "brow_center", "brow_inner"]),
        *_across(["eye_outer", "eye_center", "eye_inner"]),
        *_across(["ear", "nostril"], "nose_tip"),
        *_across(["mouth_corner"], "mouth_center"),
        "chin",
    ),
    regions=_regions(
        jaw=(12, 16, 20),
        right_brow=range(3),
        left_brow=range(3, 6),
        nose=range(13, 16),
        right_eye=range(6, 9),
        left_eye=range(9, 12),
        mouth=range(17, 20),
    ),
)
"""AFLW: 0-5 brows, 6-11 eyes, 12 and 16 ears, 13-15 nose, 17-19 mouth, 20 chin."""

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

SCHEMES = {scheme.name: scheme for scheme in (FACE_68, FACE_98, FACE_29, FACE_21, COCO_17, MPII_16)}


def scheme_from_names(
    names: Sequence[str], *, pairs: Sequence[tuple[str, str]] | None = None
) -> LandmarkScheme:
    """Derive a scheme from its landmarks' names, as COCO's categories list them.

    A mirror swaps names that differ only in the word for their side: left and right ("left_ear",
    "earLeft", "leftear"), L and R ("L_Eye", "hip_l", "LEye", "eyeL", "r ankle"), or a pair of
    letters of a quadruped ("lf_paw" and "rf_paw"). A syllable such as that in "bright_spot" or
    "upright_post", or the first letter of "lip", is not a side unless the list has its counterpart.

    Args:
        names: One per landmark, in order.
        pairs: The names that a mirror swaps, if the names do not say so or say something else.

    Returns:
        `COCO_17` for its names, otherwise a new scheme; with a warning if no name has a side.

    Raises:
        ValueError: If a name occurs twice, a left or right one has no counterpart, or `pairs` has a
            name that is not in `names`.
    """
    if tuple(names) == COCO_NAMES and pairs is None:
        return COCO_17
    lowered = [name.lower() for name in names]
    if len(set(lowered)) < len(lowered):
        msg = (
            f"`names` must differ from each other, but got {list(names)}. Rename the repeated ones."
        )
        raise ValueError(msg)
    found = _pairs_by_name(names) if pairs is None else _pairs_given(names, pairs)
    if pairs is None and not found and len(names) > 1:
        msg = (
            f"`names` has no left and right: {list(names)}. A mirror will keep every label. Give "
            "`pairs=[(name, name), ...]` (`pairs=[]` if there are none), or turn mirrors off with "
            "`HandcraftedAugmentation(flip=0)`."
        )
        warnings.warn(msg, stacklevel=2)
    return LandmarkScheme(f"keypoints-{len(lowered)}", len(lowered), _mirror(len(lowered), *found))


# From the most to the least certain: words, letters, pairs of letters (left front, hind right).
_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}
_OTHER |= {f"{side}{end}": f"{_OTHER[side]}{end}" for side in "lr" for end in "fhbm"}
_OTHER |= {f"{end}{side}": f"{end}{_OTHER[side]}" for side in "lr" for end in "fhbm"}
_WORDS = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def _pairs_given(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    unknown = [name for pair in pairs for name in pair if name not in names]
    flat = [name for pair in pairs for name in pair]
    if unknown or len(set(flat)) < len(flat):
        msg = (
            f"`pairs` must hold each of the `names` at most once, but got {list(pairs)} for "
            f"{list(names)}. Correct {unknown or 'the repeated ones'}."
        )
        raise ValueError(msg)
    return [(names.index(left), names.index(right)) for left, right in pairs]


def _pairs_by_name(names: Sequence[str]) -> list[tuple[int, int]]:
    """Pair every name with a side with its counterpart."""
    places = {name.lower(): index for index, name in enumerate(names)}
    pairs: list[tuple[int, int]] = []
    for index, name in enumerate(names):
        sure, candidates = _counterparts(name)
        found = [places[other] for other in candidates if other in places]
        if found:
            pairs.append((index, found[0]))
        elif sure:
            msg = (
                f"`names` must hold {candidates[0]!r} beside {name!r}, which a mirror swaps, but "
                f"got {list(names)}. Add it, rename {name!r}, or give `pairs`."
            )
            raise ValueError(msg)
    return pairs


def _counterparts(name: str) -> tuple[bool, list[str]]:
    """What a name's mirror image may be called, and whether the name certainly has a side."""
    lowered = name.lower()
    words = list(_WORDS.finditer(name))
    sides = [word for word in words if word.group().lower() in ("left", "right")]
    if sides:  # all of them: the left corner of the left eye faces the right one of the right eye
        for word in reversed(sides):
            lowered = _swapped(lowered, word.span(), _OTHER[word.group().lower()])
        return True, [lowered]
    letters = [word for word in words if word.group().lower() in _OTHER]
    candidates = [_swapped(lowered, word.span(), _OTHER[word.group().lower()]) for word in letters]
    sure = any(_stands_apart(name, word) for word in letters if len(word.group()) == 1)
    syllables = [(found.span(), found.group()) for found in re.finditer("left|right", lowered)]
    ends = [((0, 1), lowered[:1]), ((len(lowered) - 1, len(lowered)), lowered[-1:])]
    syllables += [end for end in ends if end[1] in ("l", "r")]  # "lhip", "eyer"
    candidates += [_swapped(lowered, span, _OTHER[side]) for span, side in syllables]
    # "leftear": at the start it is the word, elsewhere it may be part of another one.
    return sure or lowered.startswith(("left", "right")), candidates


def _swapped(name: str, span: tuple[int, int], other: str) -> str:
    return name[: span[0]] + other + name[span[1] :]


def _stands_apart(name: str, word: re.Match[str]) -> bool:
    """Whether a letter is a name's first or last word, separated from the rest by a mark."""
    start, end = word.span()
    first = start == 0 and end < len(name) and not name[end].isalnum()
    last = end == len(name) and start > 0 and not name[start - 1].isalnum()
    return first or last

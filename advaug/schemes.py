"""Landmark schemes: which index is what, what a mirror swaps, and which pair normalises."""

import re
import warnings
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


def scheme_from_names(
    names: Sequence[str], *, pairs: Sequence[tuple[str, str]] | None = None
) -> LandmarkScheme:
    """Derive a scheme from what its landmarks are called, as COCO's categories name them.

    A mirror swaps names that differ only in the word for their side: left and right ("left_ear",
    "earLeft", "leftear"), L and R ("L_Eye", "hip_l", "LEye", "eyeL", "r ankle"), or a pair of
    letters of a quadruped ("lf_paw" and "rf_paw"). A syllable such as that of "bright_spot" or
    "upright_post", or the first letter of "lip", is no side unless the list has its counterpart.

    Args:
        names: One a landmark, in order.
        pairs: The names that a mirror swaps, where they say nothing of it or something else.

    Returns:
        `COCO_17` for its names, else a scheme of its own; with a warning where no name has a side.

    Raises:
        ValueError: If a name occurs twice, a left or right one has no counterpart, or `pairs` has a
            name that is not among `names`.
    """
    if tuple(names) == COCO_NAMES and pairs is None:
        return COCO_17
    lowered = [name.lower() for name in names]
    if len(set(lowered)) < len(lowered):
        msg = f"`names` must differ from each other, but got {list(names)}. Rename the repeated."
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


# From the surest to the least sure: words, letters, pairs of letters (left front, hind right).
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
            f"{list(names)}. Correct {unknown or 'the repeated'}."
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
    """What a name's mirror image may be called, and whether the name surely has a side."""
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
    # "leftear": at the start it is the word, elsewhere it may be a part of one.
    return sure or lowered.startswith(("left", "right")), candidates


def _swapped(name: str, span: tuple[int, int], other: str) -> str:
    return name[: span[0]] + other + name[span[1] :]


def _stands_apart(name: str, word: re.Match[str]) -> bool:
    """Whether a letter is a name's first or last word, with a mark between it and the rest."""
    start, end = word.span()
    first = start == 0 and end < len(name) and not name[end].isalnum()
    last = end == len(name) and start > 0 and not name[start - 1].isalnum()
    return first or last

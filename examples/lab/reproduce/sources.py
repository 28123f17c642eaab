"""Where the pictures of the paper's sets come from: drawn, a folder at hand, or the real sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

from advaug.datasets import LandmarkSample, PtsFolder, SyntheticFaces
from advaug.errors import DatasetError
from advaug.evaluation.hardness import turn_of_head
from advaug.schemes import FACE_68, FACE_98, LandmarkScheme
from lab.faces import hold_back

__all__ = [
    "HELEN",
    "SOURCES",
    "W300",
    "W300_LP",
    "W300_OF_TABLE_2",
    "W300_OF_TABLE_9",
    "W300_VW",
    "WFLW",
    "Source",
    "TestPictures",
    "TestSet",
    "TrainingSet",
    "occluded_of",
    "open_source",
]

# Keys of the training sets. Real sets have one 300W; data at hand must leave something to add to it
# where a table compares sizes.
W300, W300_VW, WFLW, HELEN, W300_LP = "300w", "300w+300vw", "wflw", "helen", "300w+300w-lp"
W300_OF_TABLE_2, W300_OF_TABLE_9 = "300w of table 2", "300w of table 9"
DRAWN = 2000  # faces, where the budget sets no limit
TURNED = 0.2  # the part of a folder's faces that counts as challenging

Pictures = Dataset[LandmarkSample]


class TestPictures(NamedTuple):
    """Pictures to measure on, and which of them are in which subset."""

    __test__ = False  # pytest takes the name for that of a test

    dataset: Pictures
    subsets: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class TrainingSet:
    """Pictures to train on; `name` goes into the names of runs, so equal names are shared."""

    name: str
    label: str
    open: Callable[[], Pictures]
    scheme: LandmarkScheme = FACE_68


@dataclass(frozen=True)
class TestSet:
    """Pictures to measure on, under a condition of `CONDITIONS`."""

    __test__ = False

    name: str
    label: str
    open: Callable[[], TestPictures]
    scheme: LandmarkScheme = FACE_68
    condition: str = "clean"


@dataclass(frozen=True)
class Source:
    """All sets of the paper, or what stands in for them.

    Attributes:
        trains: Training sets by key.
        tests: Test sets by key.
        stands_in: Whether these are other pictures than the paper's.
    """

    trains: Mapping[str, TrainingSet]
    tests: Mapping[str, TestSet]
    stands_in: bool = field(default=True)


def open_source(name: str, root: Path | None, side: int, limit: int | None) -> Source:
    """Find the sets; their files are read later.

    Args:
        name: One of `SOURCES`.
        root: Folder of the pictures; not for drawn ones.
        side: Of the pictures, in pixels.
        limit: At most how many pictures of the basic training set, and half as many of each test
            set, evenly spread; None for all.

    Raises:
        ValueError: If a root is missing or superfluous.
    """
    if name == "synthetic":
        if root is not None:
            msg = f"`--root` must be left out for drawn faces, but got {root}. Or choose `--data`."
            raise ValueError(msg)
        return _synthetic(side, limit or DRAWN)
    if root is None:
        msg = f"`--root` must name the folder of the pictures for `--data {name}`, but is missing."
        raise ValueError(msg)
    return (_pts if name == "pts" else _real)(root, side, limit)


def _synthetic(side: int, count: int) -> Source:
    """Drawn faces: other people for other sets, the hard split for the challenging subsets."""

    def faces(split: str, share: float = 1.0, seed: int = 0) -> Pictures:
        size = max(4, int(share * count))
        return SyntheticFaces(size, split=split, image_size=side, seed=seed)  # pyright: ignore[reportArgumentType] # a known split

    def more() -> Pictures:
        return ConcatDataset([faces("train"), faces("train", seed=1)])

    def tests(names: Sequence[str], splits: Sequence[str], seed: int) -> TestPictures:
        parts = {
            name: faces(split, 0.25, seed + number)
            for number, (name, split) in enumerate(zip(names, splits, strict=True))
        }
        return _joined(parts)

    w300 = partial(_with_full, partial(tests, ("common", "challenging"), ("val", "hard"), 0))
    categories = partial(
        tests, [f"category-{number}" for number in (1, 2, 3)], ("val", "val", "hard"), 10
    )
    base = TrainingSet("drawn", f"{count} drawn faces", partial(faces, "train"))
    twice = TrainingSet("drawn-2x", f"{2 * count} drawn faces", more)
    third = TrainingSet(
        "drawn-third", f"a third of {count} drawn faces", partial(faces, "train", 1 / 3)
    )
    other = TrainingSet(
        "drawn-other", f"{count} other drawn faces", partial(faces, "train", seed=2)
    )
    return _stand_in(
        (base, base, twice, other, third, base, twice),
        {
            "300w": ("drawn faces; Challenging is the hard split", w300),
            "300vw": ("drawn faces, single pictures; Cate-3 is the hard split", categories),
            "wflw": ("drawn faces with 68 landmarks", partial(tests, ["test"], ["hard"], 20)),
            "cofw68": ("drawn faces, occluded", partial(tests, ["test"], ["val"], 30)),
        },
    )


def _pts(root: Path, side: int, limit: int | None) -> Source:
    """A folder of pictures with `.pts` files: parts of it for the smaller training sets."""
    split = (root / "train").is_dir() and (root / "val").is_dir()

    def halves() -> tuple[Pictures, Pictures]:
        if split:
            return tuple(PtsFolder(root / part, image_size=side) for part in ("train", "val"))  # pyright: ignore[reportReturnType] # two of them
        return hold_back(PtsFolder(root, image_size=side))

    def train(share: float) -> Pictures:
        return _spread(_spread(halves()[0], limit), None, share)

    def test(parts: Mapping[str, tuple[float, float]]) -> TestPictures:
        pictures = _spread(halves()[1], None if limit is None else max(limit // 2, 1))
        order = _by_turn(pictures)
        between = {
            name: order[round(low * len(order)) : round(high * len(order))]
            for name, (low, high) in parts.items()
        }
        return TestPictures(pictures, between)

    def part(name: str, label: str, share: float) -> TrainingSet:
        return TrainingSet(name, f"{label}{_thinning(limit)}", partial(train, share))

    whole, half = part("all", "all of the folder", 1), part("half", "half of the folder", 0.5)
    quarter = part("quarter", "a quarter of the folder", 0.25)
    w300 = {"common": (0, 1 - TURNED), "challenging": (1 - TURNED, 1), "full": (0, 1)}
    thirds = {f"category-{number}": ((number - 1) / 3, number / 3) for number in (1, 2, 3)}
    everything = {"test": (0.0, 1.0)}
    turned = "Challenging is the fifth that is turned farthest to a side"
    return _stand_in(
        (whole, half, whole, whole, quarter, half, whole),
        {
            "300w": (f"the folder's faces; {turned}", partial(test, w300)),
            "300vw": (
                "thirds of the folder's faces, by the turn of the head",
                partial(test, thirds),
            ),
            "wflw": ("the folder's faces, 68 landmarks", partial(test, everything)),
            "cofw68": ("the folder's faces, occluded", partial(test, everything)),
        },
    )


def _stand_in(
    trains: Sequence[TrainingSet], tests: Mapping[str, tuple[str, Callable[[], TestPictures]]]
) -> Source:
    """A source whose WFLW has 68 landmarks and whose COFW68 is occluded by us."""
    keys = (W300, W300_OF_TABLE_2, W300_VW, WFLW, HELEN, W300_OF_TABLE_9, W300_LP)
    sets = {
        name: TestSet(name, label, opened, condition="occluded" if name == "cofw68" else "clean")
        for name, (label, opened) in tests.items()
    }
    return Source(dict(zip(keys, trains, strict=True)), sets | {"masked-300w": _masked(sets)})


def _masked(sets: Mapping[str, TestSet]) -> TestSet:
    """300W's test pictures, with masks drawn on them."""
    bare = sets["300w"]
    return TestSet("masked-300w", f"{bare.label}; masks drawn on", bare.open, condition="masked")


def _real(root: Path, side: int, limit: int | None) -> Source:
    """The sets themselves, each in a folder of `root` that has its name."""
    from advaug.datasets.known import find_known

    def folder(name: str) -> Path:
        known, place = find_known(name), root / name.removesuffix("-every-10th")
        if not place.is_dir():
            msg = (
                f"`--root` {root} must hold a folder {place.name!r} with {known.title}, but has "
                f"none. Ask for the set at {known.ask}, and unpack it there."
            )
            raise DatasetError(msg)
        return place

    def train(*parts: tuple[str, str]) -> Pictures:
        opened = [
            find_known(name).open(folder(name), subset, image_size=side) for name, subset in parts
        ]
        return _spread(opened[0] if len(opened) == 1 else ConcatDataset(opened), limit)

    def test(name: str) -> TestPictures:
        found = find_known(name).open_tests(folder(name), image_size=side)
        return _thinned(TestPictures(found.dataset, found.subsets), limit)

    def trains(name: str, label: str, *parts: tuple[str, str], **more: Any) -> TrainingSet:  # noqa: ANN401 # the reader's
        return TrainingSet(name, f"{label}{_thinning(limit)}", partial(train, *parts), **more)

    w300 = ("300w", "train")
    still = trains("300w", "300W, 3148 pictures", w300)
    sets = {
        "300w": TestSet("300w", "300W", partial(test, "300w")),
        "300vw": TestSet("300vw", "300VW, every 10th frame", partial(test, "300vw-every-10th")),
        "wflw": TestSet("wflw", "WFLW", partial(test, "wflw"), FACE_98),
        "cofw68": TestSet("cofw68", "COFW68", partial(test, "cofw68")),
    }
    return Source(
        {
            W300: still,
            W300_OF_TABLE_2: still,
            W300_OF_TABLE_9: still,
            W300_VW: trains("300w+300vw", "300W and 300VW", w300, ("300vw", "train")),
            WFLW: trains("wflw", "WFLW", ("wflw", "train"), scheme=FACE_98),
            HELEN: trains("helen-811", "811 pictures of HELEN", ("300w", "helen-811")),
            W300_LP: trains("300w+300w-lp", "300W and 300W-LP", w300, ("300w-lp", "all")),
        },
        sets | {"masked-300w": _masked(sets)},
        stands_in=False,
    )


SOURCES = ("synthetic", "pts", "real")


def occluded_of(pictures: Any) -> torch.Tensor | None:  # noqa: ANN401 # nested subsets
    """Which landmarks of each picture something covers, `(B, N)` bool; None if it is not known."""
    if isinstance(pictures, Subset):
        known = occluded_of(pictures.dataset)
        return None if known is None else known[torch.as_tensor(pictures.indices)]
    if isinstance(pictures, ConcatDataset):
        parts = [known for part in pictures.datasets if (known := occluded_of(part)) is not None]
        return torch.cat(parts) if len(parts) == len(pictures.datasets) else None
    return getattr(pictures, "occluded", None)


def _thinning(limit: int | None) -> str:
    return "" if limit is None else f", of at most {limit} pictures spread over it"


def _joined(parts: Mapping[str, Pictures]) -> TestPictures:
    subsets: dict[str, Sequence[int]] = {}
    start = 0
    for name, part in parts.items():
        subsets[name] = range(start, start + _count(part))
        start += _count(part)
    return TestPictures(ConcatDataset(list(parts.values())), subsets)


def _with_full(opened: Callable[[], TestPictures]) -> TestPictures:
    pictures = opened()
    everything = range(_count(pictures.dataset))
    return TestPictures(pictures.dataset, {**pictures.subsets, "full": everything})


def _thinned(pictures: TestPictures, limit: int | None) -> TestPictures:
    """At most half of the limit of each subset, or of what they are made of."""
    if limit is None:
        return pictures
    kept = {name: _evenly(places, limit // 2) for name, places in pictures.subsets.items()}
    places = sorted({place for each in kept.values() for place in each})
    number = {place: index for index, place in enumerate(places)}
    subsets = {name: [number[place] for place in each] for name, each in kept.items()}
    return TestPictures(Subset(pictures.dataset, places), subsets)


def _spread(pictures: Pictures, limit: int | None, share: float = 1.0) -> Pictures:
    """Some of the pictures, evenly spread."""
    total = _count(pictures)
    count = max(1, int(share * min(total, limit or total)))
    return pictures if count == total else Subset(pictures, _evenly(range(total), count))


def _evenly(places: Sequence[int], count: int) -> list[int]:
    count = min(max(count, 1), len(places))
    return [places[number * len(places) // count] for number in range(count)]


def _by_turn(pictures: Pictures) -> list[int]:
    """Places of the pictures, from the face that looks ahead to the one turned farthest."""
    landmarks = torch.stack([_landmarks(pictures, place) for place in range(_count(pictures))])
    return turn_of_head(landmarks).argsort(stable=True).tolist()


def _landmarks(pictures: Any, place: int) -> torch.Tensor:  # noqa: ANN401 # nested subsets
    """Those of a picture of a folder, which is not read for it."""
    while isinstance(pictures, Subset):
        pictures, place = pictures.dataset, pictures.indices[place]
    return pictures.annotation(place)[0]


def _count(pictures: Pictures) -> int:
    return len(pictures)  # pyright: ignore[reportArgumentType] # all of ours have a length

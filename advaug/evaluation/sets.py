"""The sets that `advaug evaluate` knows: how to open each, and its subsets by name.

A set is read once, whatever its subsets are: a subset is a choice of its pictures.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch.utils.data import ConcatDataset, Dataset

from advaug.base.checks import check_choice
from advaug.datasets import Decoding, LandmarkSample, SyntheticFaces
from advaug.datasets.known import KNOWN
from advaug.datasets.readers.pts_folder import FixedPtsFolder
from advaug.evaluation.normalizers import Normalizer
from advaug.schemes import FACE_68, LandmarkScheme

__all__ = [
    "SETS",
    "EvaluationSet",
    "Request",
    "check_request",
    "choose_normalizer",
    "choose_subsets",
    "open_set",
    "require_landmarks",
    "require_set",
]


@dataclass(frozen=True)
class Request:
    """What a set is asked for.

    Attributes:
        root: Folder of the pictures; None for sets that need none.
        image_size: Side of the pictures.
        num_landmarks: N of the detector, for sets that do not say how many landmarks they have.
        count: How many pictures each split of a drawn set has.
        skip_broken: Whether broken files are left out.
        decoding: What the picture files do not settle; None is the reader's default.
    """

    root: Path | None
    image_size: int
    num_landmarks: int = 68
    count: int = 300
    skip_broken: bool = False
    decoding: Decoding | None = None


@dataclass(frozen=True)
class EvaluationSet:
    """A set of pictures to measure on.

    Attributes:
        name: What reports call it.
        dataset: Gives `LandmarkSample`s of one size.
        subsets: Indices of the pictures of each subset, by its name; they may overlap.
        names: What each picture is called.
        scheme: What the landmarks mean; None if unknown.
        complete: Whether every landmark of every face has a position.
        decoding: How its picture files were read; None is the reader's default.
    """

    name: str
    dataset: Dataset[LandmarkSample]
    subsets: Mapping[str, Sequence[int]]
    names: Sequence[str]
    scheme: LandmarkScheme | None
    complete: bool = True
    decoding: Decoding | None = None


def open_set(name: str, request: Request) -> EvaluationSet:
    """Open a set by its name.

    Raises:
        DatasetError: If its files cannot be used.
        ValueError: If there is no such set, or it needs a root and gets none.
    """
    require_set(name, request.root)
    return SETS[name](request)


def require_set(name: str, root: Path | None) -> None:
    """Raise `ValueError` if there is no such set, or it needs a root and gets none."""
    check_choice("--data", name, SETS)
    if name not in ROOTLESS and root is None:
        msg = f"`--root` must name the folder of {name}, but got none. Pass the folder."
        raise ValueError(msg)


def check_request(
    name: str, request: Request, subsets: Sequence[str] | None, *, detector: str
) -> None:
    """Raise for what the name of a set rules out; its files, which may take minutes, stay unread.

    Args:
        name: One of `SETS`.
        request: With the N of the detector.
        subsets: Those requested; None for all.
        detector: Its name.

    Raises:
        ValueError: If the set has no such subset, is annotated with other landmarks, or has no
            picture files to decode.
    """
    if name == "pts":
        return  # only the folder says
    known = KNOWN.get(name)
    if known:
        known.check_decoding(request.decoding)
    annotated = known.num_landmarks if known else FACE_68.num_landmarks
    if annotated is not None:
        require_landmarks(name, annotated, request.num_landmarks, detector)
    _require_subsets(name, known.measured if known else SYNTHETIC_SPLITS, subsets)


def require_landmarks(name: str, annotated: int, num_landmarks: int, detector: str) -> None:
    """Raise `ValueError` unless a set is annotated as the detector was trained."""
    if annotated != num_landmarks:
        msg = (
            f"`--data` {name} must have the {num_landmarks} landmarks of {detector}, but got "
            f"{annotated}. Choose a set that is annotated as it was trained."
        )
        raise ValueError(msg)


def choose_normalizer(name: str, wanted: Normalizer | None) -> Normalizer:
    """Return the normaliser of a set: the requested one, or else the usual one.

    Raises:
        ValueError: If some faces have an eye without a position, and the normaliser needs both.
    """
    usual: Normalizer = NORMALIZERS.get(name, "inter_ocular")
    normalizer = usual if wanted is None else wanted
    if name in PROFILES and normalizer not in ("box", "diagonal"):
        msg = (
            f"`--normalizer` must be box or diagonal for {name}, whose profiles have landmarks "
            f"without a place, but got {normalizer}. Choose one of them."
        )
        raise ValueError(msg)
    return normalizer


def choose_subsets(found: EvaluationSet, wanted: Sequence[str] | None) -> dict[str, list[int]]:
    """Return some subsets of a set, or all that have pictures.

    Raises:
        ValueError: If the set has no such subset, or a requested one has no pictures.
    """
    _require_subsets(found.name, found.subsets, wanted)
    empty = [name for name in wanted or () if not len(found.subsets[name])]
    if empty:
        msg = (
            f"`--subsets` must have pictures, but got none in {', '.join(empty)} of {found.name}. "
            "Leave them out."
        )
        raise ValueError(msg)
    chosen = {name: list(found.subsets[name]) for name in wanted or found.subsets}
    return {name: indices for name, indices in chosen.items() if indices}


def _require_subsets(name: str, known: Iterable[str], wanted: Sequence[str] | None) -> None:
    names = list(known)
    unknown = [subset for subset in wanted or () if subset not in names]
    if unknown:
        msg = (
            f"`--subsets` must be among {', '.join(names)} for {name}, but got "
            f"{', '.join(map(repr, unknown))}. Choose from them, or leave it out for all."
        )
        raise ValueError(msg)


def _open_known(name: str, request: Request) -> EvaluationSet:
    """A public set: every picture that any subset needs, once."""
    assert request.root is not None
    known = KNOWN[name]
    found = known.open_tests(
        request.root,
        image_size=request.image_size,
        skip_broken=request.skip_broken,
        decoding=request.decoding,
    )
    prefix = f"{request.root.as_posix()}/"
    names = [where.removeprefix(prefix) for where in found.names]
    return EvaluationSet(
        name,
        found.dataset,
        found.subsets,
        names,
        found.scheme,
        complete=name not in PROFILES,
        decoding=request.decoding,
    )


def _open_pts(request: Request) -> EvaluationSet:
    """A folder of pictures with `.pts` files; each of its sub-folders is also a subset."""
    assert request.root is not None
    dataset = FixedPtsFolder(
        request.root,
        image_size=request.image_size,
        num_landmarks=request.num_landmarks,
        decoding=request.decoding,
        skip_broken=request.skip_broken,
    )
    names = _relative(dataset.paths, request.root)
    folders: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        if "/" in name:
            folders.setdefault(name.split("/")[0], []).append(index)
    subsets = {"all": range(len(names)), **(folders if len(folders) > 1 else {})}
    return EvaluationSet(
        request.root.resolve().name,
        dataset,
        subsets,
        names,
        dataset.scheme,
        decoding=request.decoding,
    )


def _open_synthetic(request: Request) -> EvaluationSet:
    """Drawn faces: the ordinary ones for validation, and the hard ones."""
    size, count = request.image_size, request.count
    val, hard = (SyntheticFaces(count, split=split, image_size=size) for split in SYNTHETIC_SPLITS)
    return EvaluationSet(
        "synthetic faces",
        ConcatDataset([val, hard]),
        {"val": range(count), "hard": range(count, 2 * count)},
        [f"{split}/{index:05d}" for split in SYNTHETIC_SPLITS for index in range(count)],
        FACE_68,
    )


def _relative(paths: Sequence[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


SETS: Mapping[str, Callable[[Request], EvaluationSet]] = {
    "synthetic": _open_synthetic,
    **{name: partial(_open_known, name) for name in KNOWN},
    "pts": _open_pts,
}
"""Every set by the name that `--data` accepts."""

ROOTLESS = ("synthetic",)
SYNTHETIC_SPLITS = ("val", "hard")

NORMALIZERS: Mapping[str, Normalizer] = {
    "aflw2000": "box",
    "merl-rav": "box",
    "mpii": "box",
    "coco": "box",
}
"""The usual normaliser of sets for which it is not the inter-ocular distance."""

PROFILES = ("merl-rav",)  # where an eye may have no position

"""Pictures and their `.pts` files: matched, checked and complained of, all files at once."""

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from advaug.datasets.crop import landmark_box
from advaug.datasets.pictures import AnnotatedPicture, Box, picture_size
from advaug.datasets.readers.pts import read_pts
from advaug.errors import DatasetError

__all__ = [
    "FilePair",
    "check_pairs",
    "find_pairs",
    "geometry_problem",
    "match_key",
    "report_problems",
]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
PROBLEMS_IN_WARNING = 5
MIN_BOX_PIXELS = 2

T = TypeVar("T")


@dataclass(frozen=True)
class FilePair:
    """A picture and its `.pts` file; `box` is None for the tight box of the landmarks."""

    picture: Path
    pts: Path
    box: Box | None = None


def match_key(name: str) -> str:
    """Give what a picture, its `.pts` file and its box have in common: the stem without spaces.

    300W has one file whose name carries a stray space ("image_092 _01.jpg").
    """
    return Path(name).stem.replace(" ", "")


def find_pairs(root: Path) -> tuple[list[FilePair], list[str]]:
    """Match the pictures under a folder with their `.pts` files.

    Returns:
        The pairs, sorted by path, and one message per file without a partner or with several.

    Raises:
        DatasetError: If `root` is not a folder or cannot be listed.
    """
    groups: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in _list_files(root):
        groups[path.parent.as_posix(), match_key(path.name)].append(path)
    pairs: list[FilePair] = []
    problems: list[str] = []
    for files in groups.values():
        problem = _pairing_problem(files)
        if problem is None:
            picture, pts = sorted(files, key=_is_pts)
            pairs.append(FilePair(picture, pts))
        else:
            problems.append(problem)
    return sorted(pairs, key=lambda pair: pair.picture.as_posix()), problems


def check_pairs(
    pairs: Sequence[FilePair], num_landmarks: int
) -> tuple[list[AnnotatedPicture], list[str]]:
    """Read every file once, in parallel.

    Returns:
        The usable pictures in the order of `pairs`, and one message per broken file.
    """
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda pair: _check_pair(pair, num_landmarks), pairs))
    pictures = [result for result in results if isinstance(result, AnnotatedPicture)]
    problems = [result for result in results if not isinstance(result, AnnotatedPicture)]
    return pictures, [message for messages in problems for message in messages]


def report_problems(root: Path, problems: list[str], usable: int, *, skip_broken: bool) -> None:
    """Raise for all problems at once, or warn of them once where there is something to go on with.

    Raises:
        DatasetError: If there are problems and `skip_broken` is False, or if nothing is usable.
    """
    if usable == 0 and not problems:
        message = (
            f"`{root}` must hold pictures ({', '.join(PICTURE_SUFFIXES)}) with a `.pts` file of "
            "the same name beside each, at any depth, but got none. Check the path."
        )
        raise DatasetError(message)
    if usable == 0 or (problems and not skip_broken):
        fix = "Repair them, or pass `skip_broken=True` (`--skip-broken`) to go on without them."
        message = (
            f"`{root}` must hold usable files only, but got {len(problems)} problems beside "
            f"{usable} usable pictures:{_bullets(problems)}\n{fix if usable else 'Check the path.'}"
        )
        raise DatasetError(message, problems=problems, usable=usable)
    if problems:
        rest = len(problems) - PROBLEMS_IN_WARNING
        shown = problems[:PROBLEMS_IN_WARNING] + ([f"and {rest} more"] if rest > 0 else [])
        message = (
            f"`{root}` has {len(problems)} problems, going on without them and with {usable} "
            f"pictures:{_bullets(shown)}"
        )
        warnings.warn(message, stacklevel=3)  # the line that made the dataset


def _bullets(lines: Iterable[str]) -> str:
    return "".join(f"\n  - {line}" for line in lines)


def _is_pts(path: Path) -> bool:
    return path.suffix.lower() == ".pts"


def _list_files(root: Path) -> list[Path]:
    """List pictures and `.pts` files under `root`, through links but no folder twice, sorted."""
    if not root.is_dir():
        message = f"`root` must be a folder, but got `{root}`, which is none. Check the path."
        raise DatasetError(message)
    files: list[Path] = []
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=_refuse_folder):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        # Archives made on a Mac bring "._name.jpg" and a folder "__MACOSX", which are no pictures.
        subfolders[:] = sorted(n for n in subfolders if not n.startswith((".", "__MACOSX")))
        paths = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        files += [p for p in paths if p.suffix.lower() in (*PICTURE_SUFFIXES, ".pts")]
    return files


def _refuse_folder(error: OSError) -> None:
    """Raise for a folder that `os.walk` would leave out without a word."""
    message = (
        f"`{error.filename}` must be a folder that can be listed, but got: {error.strerror}. "
        "Change its permissions."
    )
    raise DatasetError(message) from error


def _pairing_problem(files: list[Path]) -> str | None:
    """Say what keeps the files of one stem from being one picture and one `.pts` file."""
    names = ", ".join(f"`{path.name}`" for path in files)
    folder = files[0].parent
    num_pts = sum(map(_is_pts, files))
    num_pictures = len(files) - num_pts
    if num_pictures > 1 or num_pts > 1:
        return (
            f"`{folder}` must have one picture and one `.pts` file of a name, but got {names}. "
            "Which belong together is ambiguous: rename or remove the others."
        )
    if num_pts == 0:
        return (
            f"`{files[0]}` must have a `.pts` file beside it, but got none. Annotate or remove it."
        )
    if num_pictures == 0:
        return f"`{files[0]}` must have a picture beside it, but got none. Copy it there."
    return None


def _check_pair(pair: FilePair, num_landmarks: int) -> AnnotatedPicture | list[str]:
    """Read both files of a pair; give what is wrong with either, or the annotated picture."""
    problems: list[str] = []
    landmarks = _attempt(lambda: _read_landmarks(pair.pts, num_landmarks), problems)
    size = _attempt(lambda: picture_size(pair.picture), problems)
    if landmarks is None or size is None:
        return problems
    box = landmark_box(landmarks) if pair.box is None else pair.box
    picture = AnnotatedPicture(pair.picture, landmarks, box)
    problem = geometry_problem(picture, size, pair.pts.name)
    return picture if problem is None else [problem]


def _attempt(read: Callable[[], T], problems: list[str]) -> T | None:
    """Give what `read` gives, or None once its error is among the problems."""
    try:
        return read()
    except DatasetError as error:
        problems.append(str(error))
        return None


def _read_landmarks(path: Path, num_landmarks: int) -> NDArray[np.float64]:
    landmarks = read_pts(path)
    if len(landmarks) != num_landmarks:
        message = (
            f"`{path}` must have {num_landmarks} points, but got {len(landmarks)}. "
            "Correct the file, or pass the `num_landmarks` of this data set."
        )
        raise DatasetError(message)
    return landmarks


def geometry_problem(picture: AnnotatedPicture, size: tuple[int, int], source: str) -> str | None:
    """Say why landmarks and box cannot belong to a picture of this (width, height).

    Args:
        picture: What is annotated; landmarks that are not visible may be anywhere.
        size: Of the file.
        source: What the annotation comes from, for the message.
    """
    width, height = size
    corners = np.array(picture.box).reshape(2, 2)
    shown = ... if picture.visible is None else picture.visible
    around = np.concatenate([picture.landmarks[shown], corners])
    # Faces are annotated beyond the frame, but not by more than the picture itself.
    if not ((around >= -np.array(size)) & (around <= 2 * np.array(size))).all():
        got = "[{:.1f}, {:.1f}] to [{:.1f}, {:.1f}]".format(
            *around.min(axis=0), *around.max(axis=0)
        )
        rule = f"landmarks and box near its {width} x {height} pixels"
    elif not (corners[1] - corners[0] >= MIN_BOX_PIXELS).all():
        got, rule = (
            f"{list(picture.box)}",
            f"a box of at least {MIN_BOX_PIXELS} x {MIN_BOX_PIXELS} pixels",
        )
    elif not ((corners[0] < size) & (corners[1] > 0)).all():
        got, rule = f"{list(picture.box)}", f"a box that overlaps its {width} x {height} pixels"
    else:
        return None
    return (
        f"`{picture.path}` must have {rule}, but got {got}. Check that `{source}` and the box "
        "belong to it and count in pixels."
    )

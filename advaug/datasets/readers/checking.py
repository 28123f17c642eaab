"""Annotated pictures checked and reported: all files at once, with every problem named."""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from advaug.datasets.crop import landmark_box
from advaug.datasets.decoding import Decoding, inspect_picture
from advaug.datasets.pictures import AnnotatedPicture
from advaug.datasets.readers.pairs import PICTURE_SUFFIXES, FilePair
from advaug.datasets.readers.pts import (
    Negative,
    convert,
    doubt,
    doubt_fix,
    read_points,
    warn_of_doubts,
)
from advaug.errors import DatasetError

__all__ = ["DECODERS", "check_pairs", "geometry_problem", "report_problems", "warn_of_orientation"]

PROBLEMS_IN_WARNING = 5
MIN_BOX_PIXELS = 2
DECODERS = min(8, os.cpu_count() or 1)  # pictures that are decoded, and held, at a time

T = TypeVar("T")


def check_pairs(
    pairs: Sequence[FilePair],
    num_landmarks: int,
    *,
    decoding: Decoding | None = None,
    negative: Negative | None = "position",
    chosen: bool = False,
) -> tuple[list[AnnotatedPicture], list[str]]:
    """Read every file once, in parallel.

    Args:
        pairs: Pictures and their `.pts` files.
        num_landmarks: The number that every `.pts` file must have.
        decoding: What the picture files do not settle.
        negative: As for `read_pts`; None warns once if points look like marks.
        chosen: Whether the caller's user may choose `num_landmarks`.

    Returns:
        The usable pictures in the order of `pairs`, and one message per broken file.
    """
    how = _How(num_landmarks, decoding or Decoding(), negative, chosen)
    with ThreadPoolExecutor(DECODERS) as pool:
        results = list(pool.map(lambda pair: _check_pair(pair, how), pairs))
    warn_of_orientation(how.decoding, how.turned, stacklevel=4)
    warn_of_doubts(how.doubts, stacklevel=4)
    pictures = [result for result in results if isinstance(result, AnnotatedPicture)]
    problems = [result for result in results if not isinstance(result, AnnotatedPicture)]
    return pictures, [message for messages in problems for message in messages]


def warn_of_orientation(decoding: Decoding, turned: Sequence[Path], stacklevel: int) -> None:
    """Warn once about pictures that have an EXIF orientation, if nobody has chosen one.

    Args:
        decoding: What was chosen.
        turned: The pictures with an EXIF orientation.
        stacklevel: Of the line that made the data set, counted from here.
    """
    if decoding.orientation is not None or not turned:
        return
    message = (
        f"`{min(turned)}` and {len(turned) - 1} other pictures have an EXIF orientation, which is "
        'not applied. Pass `decoding=Decoding(orientation="exif")` (`--orientation exif`) if they '
        'were annotated as viewers turn them, or `orientation="stored"` (`--orientation stored`) '
        "if as their pixels lie in the file."
    )
    warnings.warn(message, stacklevel=stacklevel)


def report_problems(root: Path, problems: list[str], usable: int, *, skip_broken: bool) -> None:
    """Raise for all problems at once, or warn about them once if usable pictures remain.

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
        fix = "Repair them, or pass `skip_broken=True` (`--skip-broken`) to continue without them."
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


@dataclass(frozen=True)
class _How:
    """How pairs are checked, and findings that deserve one warning."""

    num_landmarks: int
    decoding: Decoding
    negative: Negative | None
    chosen: bool
    turned: list[Path] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def _check_pair(pair: FilePair, how: _How) -> AnnotatedPicture | list[str]:
    """Read both files of a pair; return what is wrong with either, or the annotated picture."""
    problems: list[str] = []
    points = _attempt(lambda: _read_points(pair.pts, how), problems)
    facts = _attempt(lambda: inspect_picture(pair.picture, how.decoding), problems)
    if points is None or facts is None:
        return problems
    landmarks, visible, occluded = convert(points, how.negative)
    if visible is not None and not visible.any():
        return [
            f"`{pair.pts}` must give a point a position, but got none. Remove it and its picture."
        ]
    shown = landmarks if visible is None else landmarks[visible]
    box = landmark_box(shown) if pair.box is None else pair.box
    picture = AnnotatedPicture(
        pair.picture, landmarks, box, visible, occluded=occluded, size=facts.size
    )
    problem = geometry_problem(picture, facts.size, pair.pts.name)
    doubtful = doubt(points) if how.negative is None else None
    if problem is not None:
        return [problem if doubtful is None else f"{problem} {doubt_fix(doubtful)}"]
    if facts.orientation != 1:
        how.turned.append(pair.picture)
    if doubtful is not None:
        how.doubts.append(f"`{pair.pts}`: {doubt_fix(doubtful)}")
    return picture


def _attempt(read: Callable[[], T], problems: list[str]) -> T | None:
    """Return what `read` returns, or None after adding its error to the problems."""
    try:
        return read()
    except DatasetError as error:
        problems.append(str(error))
        return None


def _read_points(path: Path, how: _How) -> NDArray[np.float64]:
    points = read_points(path)
    if len(points) != how.num_landmarks:
        count = len(points)
        choice = f", or pass `num_landmarks={count}` (`--num-landmarks {count}`)"
        message = (
            f"`{path}` must have {how.num_landmarks} points, but got {count}. "
            f"Correct the file{choice if how.chosen and count else ''}."
        )
        raise DatasetError(message)
    return points


def geometry_problem(picture: AnnotatedPicture, size: tuple[int, int], source: str) -> str | None:
    """Say why landmarks and box cannot belong to a picture of this (width, height).

    Args:
        picture: What is annotated; landmarks that are not visible may be anywhere.
        size: Of the file.
        source: Where the annotation comes from, for the message.
    """
    width, height = size
    corners = np.array(picture.box).reshape(2, 2)
    shown = ... if picture.visible is None else picture.visible
    around = np.concatenate([picture.landmarks[shown], corners])
    # Faces are annotated beyond the frame, but not by more than the picture's size.
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

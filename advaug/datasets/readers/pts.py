"""The `.pts` text format of 300W: one picture's landmarks, one pair per line.

    version: 1
    n_points: 68
    {
    x y
    ...
    }

The file counts pixels from 1 (the centre of the top left pixel is `1 1`); the library counts from
0. The 1 is subtracted in `read_pts` and added in `write_pts`, and nowhere else. The reader also
accepts comments after `#` or `//`, a brace on the line before or after its own, and a comma between
x and y.
"""

import os
import re
import warnings
from pathlib import Path
from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from advaug.base.checks import check_choice
from advaug.base.files import open_regular, write_whole
from advaug.errors import DatasetError, ShapeError

__all__ = [
    "Negative",
    "PtsPoints",
    "convert",
    "doubt",
    "doubt_fix",
    "read_points",
    "read_pts",
    "warn_of_doubts",
    "write_pts",
]

Negative = Literal["position", "occluded"]

MAX_BYTES = 1_000_000  # of a `.pts` file: a thousand times what 68 points need
FEW_NEGATIVE = 0.1  # share of points that may well be negative for a face beyond the frame
SAME_PLACE = 3  # this many points in one place are not rounding, if their share is as above
_FIX = "Restore the file from the data set, or remove the picture and its `.pts`."


class PtsPoints(NamedTuple):
    """The landmarks of a file whose negative numbers are marks.

    Attributes:
        landmarks: `(N, 2)` float64, x then y, in pixels, 0-based; zero where there is no position.
        visible: `(N,)` bool; False where there is no position.
        occluded: `(N,)` bool; True where something covers the landmark, or it has no position.
    """

    landmarks: NDArray[np.float64]
    visible: NDArray[np.bool_]
    occluded: NDArray[np.bool_]


@overload
def read_pts(path: str | os.PathLike[str]) -> NDArray[np.float64]: ...
@overload
def read_pts(
    path: str | os.PathLike[str], *, negative: Literal["position"]
) -> NDArray[np.float64]: ...
@overload
def read_pts(path: str | os.PathLike[str], *, negative: Literal["occluded"]) -> PtsPoints: ...
def read_pts(
    path: str | os.PathLike[str], *, negative: Negative | None = None
) -> NDArray[np.float64] | PtsPoints:
    """Read the landmarks of one picture.

    Args:
        path: A `.pts` file. Its `n_points`, if present, is checked against the points.
        negative: What a point with two negative numbers means. "position": a place beyond the
            picture's top left corner, as in 300W. "occluded": `(-x, -y)` is at `(x, y)` and
            covered, and `(-1, -1)` has no position, as in MERL-RAV. None is "position", with a
            warning if the points look like marks.

    Returns:
        `(N, 2)` float64, x then y, in pixels, 0-based; with "occluded" a `PtsPoints`.

    Raises:
        DatasetError: If the file is not a `.pts` file; the message names the file and the line.
        ValueError: If `negative` is unknown.
    """
    if negative is not None:
        check_choice("negative", negative, ("position", "occluded"))
    path = Path(path)
    points = read_points(path)
    if negative == "occluded":
        return _marked(points)
    doubtful = doubt(points) if negative is None else None
    if doubtful is not None:
        warnings.warn(f"`{path}`: {doubt_fix(doubtful)}", stacklevel=2)
    return points - 1


def read_points(path: Path) -> NDArray[np.float64]:
    """Read the numbers of a file as they are, 1-based: `(N, 2)`.

    Raises:
        DatasetError: If the file is not a `.pts` file.
    """
    header, body = _split(path, _read_lines(path))
    points = [_point(path, number, line) for number, line in body]
    declared = _declared_count(path, header)
    if declared is not None and declared != len(points):
        message = (
            f"`{path}` must list as many points as its header says, but got {len(points)} with "
            f"`n_points: {declared}`. Annotate what is missing or correct the header."
        )
        raise DatasetError(message)
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def doubt(points: NDArray[np.float64]) -> str | None:
    """Say what makes 1-based points look like marks rather than positions; None if nothing."""
    negative = int((points < 0).all(axis=1).sum())
    if negative > FEW_NEGATIVE * len(points):
        return f"{negative} of {len(points)} points are negative"
    _, counts = np.unique(points, axis=0, return_counts=True)
    if len(points) and counts.max() >= max(SAME_PLACE, FEW_NEGATIVE * len(points)):
        return f"{counts.max()} of {len(points)} points lie in one place"
    return None


def convert(
    points: NDArray[np.float64], negative: Negative | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """Landmarks, 0-based, `visible` and `occluded` of the points of a file.

    `visible` is None if all are visible, and `occluded` if the file does not say.
    """
    if negative != "occluded":
        return points - 1, None, None
    marked = _marked(points)
    visible = None if marked.visible.all() else marked.visible
    return marked.landmarks, visible, marked.occluded


def doubt_fix(fact: str) -> str:
    """The text of a doubt, with both ways out."""
    return (
        f'{fact[0].upper()}{fact[1:]}, read as positions. Pass `negative="occluded"` where '
        '`(-x, -y)` means covered and `(-1, -1)` means no position, or `negative="position"` if '
        "they are right."
    )


def warn_of_doubts(doubts: list[str], stacklevel: int) -> None:
    """Warn once about all files whose points look like marks.

    Args:
        doubts: One per file.
        stacklevel: Of the line that made the data set, counted from here.
    """
    if doubts:
        more = f" So have {len(doubts) - 1} other files." if len(doubts) > 1 else ""
        warnings.warn(min(doubts) + more, stacklevel=stacklevel)


def _marked(points: NDArray[np.float64]) -> PtsPoints:
    missing: NDArray[np.bool_] = np.all(points == -1, axis=1)
    occluded: NDArray[np.bool_] = np.all(points < 0, axis=1)
    landmarks = np.where(occluded[:, None], -points, points) - 1
    landmarks[missing] = 0
    return PtsPoints(landmarks, ~missing, occluded)


def write_pts(path: str | os.PathLike[str], landmarks: ArrayLike) -> None:
    """Write the landmarks of one picture; a reader sees either the old file or the whole new one.

    Args:
        path: The file to write or replace. Its folder must exist.
        landmarks: `(N, 2)`, x then y, in pixels, 0-based; an array, a list or a CPU tensor.

    Raises:
        ShapeError: If `landmarks` is not `(N, 2)`.
        ValueError: If a coordinate is not finite.
    """
    path = Path(path)
    points = np.asarray(landmarks, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        message = f"`landmarks` must be (N, 2), but got {points.shape}. Write one picture a file."
        raise ShapeError(message)
    if not np.isfinite(points).all():
        index = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        message = (
            f"`landmarks` must be finite, but got {points[index].tolist()} at index {index}. "
            "The format has no mark for a missing point; leave the picture out."
        )
        raise ValueError(message)
    # repr is the shortest text that reads back as the same number.
    rows = [f"{x!r} {y!r}" for x, y in (points + 1).tolist()]
    text = "\n".join(["version: 1", f"n_points: {len(rows)}", "{", *rows, "}", ""])
    write_whole(path, text.encode())


def _read_lines(path: Path) -> list[str]:
    """Return the file's lines without comments and surrounding spaces."""
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"`{path}` must be a text file, but got bytes that are not text. " + _FIX
        raise DatasetError(message) from error
    except OSError as error:
        message = f"`{path}` must be a readable file, but got: {error.strerror}. " + _FIX
        raise DatasetError(message) from error
    if len(data) > MAX_BYTES:
        message = f"`{path}` must be at most {MAX_BYTES} bytes long, but got more. " + _FIX
        raise DatasetError(message)
    return [re.split("#|//", line)[0].strip() for line in text.splitlines()]


def _split(path: Path, lines: list[str]) -> tuple[list[str], list[tuple[int, str]]]:
    """Return the lines before the points, and each line between the braces with its number."""
    opening = next((i for i, line in enumerate(lines) if "{" in line), None)
    if opening is None:
        message = f"`{path}` must have a line `{{` before its points, but got none. " + _FIX
        raise DatasetError(message)
    before, _, after = lines[opening].partition("{")
    body: list[tuple[int, str]] = []
    for number, line in enumerate([after, *lines[opening + 1 :]], start=opening + 1):
        text, end, _ = line.partition("}")
        if text.strip():
            body.append((number, text.strip()))
        if end:
            return [*lines[:opening], before.strip()], body
    message = f"`{path}` must end its points with a line `}}`, but got the end of the file. " + _FIX
    raise DatasetError(message)


def _point(path: Path, number: int, line: str) -> tuple[float, float]:
    """Read one line `x y`, or `x, y`."""
    try:
        x, y = map(float, line.replace(",", " ").split())
    except ValueError:
        x = y = float("nan")
    if not np.isfinite([x, y]).all():
        message = (
            f"`{path}`, line {number}, must be two finite numbers, but got {line[:40]!r}. {_FIX}"
        )
        raise DatasetError(message)
    return x, y


def _declared_count(path: Path, header: list[str]) -> int | None:
    """Find the number after `n_points:`, with any spacing; None if there is no such line."""
    for number, line in enumerate(header, start=1):
        name, _, value = line.partition(":")
        if name.strip() != "n_points":
            continue
        if not re.fullmatch("[0-9]{1,9}", value.strip()):
            message = (
                f"`{path}`, line {number}, must be `n_points:` and a whole number, but got "
                f"{line[:40]!r}. Correct the header."
            )
            raise DatasetError(message)
        return int(value)
    return None

"""The `.pts` text format of 300W: one picture's landmarks, one pair a line.

    version: 1
    n_points: 68
    {
    x y
    ...
    }

The file counts pixels from 1 (the centre of the top left pixel is `1 1`); the library counts from
0. The 1 is subtracted in `read_pts` and added in `write_pts`, and nowhere else.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from advaug.base.files import whole_file
from advaug.errors import DatasetError, ShapeError

__all__ = ["read_pts", "write_pts"]

_FIX = "Restore the file from the data set, or remove the picture and its `.pts`."


def read_pts(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Read the landmarks of one picture.

    Args:
        path: A `.pts` file. Its `n_points` is checked against the points where it is given.

    Returns:
        `(N, 2)` float64, x then y, in pixels, 0-based.

    Raises:
        DatasetError: If the file is not a `.pts` file; the message names the file and the line.
    """
    path = Path(path)
    lines = _read_lines(path)
    opening = next((i for i, line in enumerate(lines) if line.startswith("{")), None)
    if opening is None:
        message = f"`{path}` must have a line `{{` before its points, but got none. " + _FIX
        raise DatasetError(message)
    points = list(_points(path, lines, opening))
    declared = _declared_count(path, lines[:opening])
    if declared is not None and declared != len(points):
        message = (
            f"`{path}` must list as many points as its header says, but got {len(points)} with "
            f"`n_points: {declared}`. Annotate what is missing or correct the header."
        )
        raise DatasetError(message)
    return np.array(points, dtype=np.float64).reshape(-1, 2) - 1


def write_pts(path: str | os.PathLike[str], landmarks: ArrayLike) -> None:
    """Write the landmarks of one picture; a reader sees the old file or the new one, whole.

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
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _read_lines(path: Path) -> list[str]:
    """Give the file's lines without the space around them."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"`{path}` must be a text file, but got bytes that are none. " + _FIX
        raise DatasetError(message) from error
    except OSError as error:
        message = f"`{path}` must be a readable file, but got: {error.strerror}. " + _FIX
        raise DatasetError(message) from error
    return [line.strip() for line in text.splitlines()]


def _points(path: Path, lines: list[str], opening: int) -> Iterator[tuple[float, float]]:
    """Give the points between the braces, still 1-based; blank lines are passed over."""
    for number, line in enumerate(lines[opening + 1 :], start=opening + 2):
        if line.startswith("}"):
            return
        if line:
            yield _point(path, number, line)
    message = f"`{path}` must end its points with a line `}}`, but got the end of the file. " + _FIX
    raise DatasetError(message)


def _point(path: Path, number: int, line: str) -> tuple[float, float]:
    """Read one line `x y`."""
    try:
        x, y = map(float, line.split())
    except ValueError:
        x = y = float("nan")
    if not np.isfinite([x, y]).all():
        message = (
            f"`{path}`, line {number}, must be two finite numbers, but got {line[:40]!r}. {_FIX}"
        )
        raise DatasetError(message)
    return x, y


def _declared_count(path: Path, header: list[str]) -> int | None:
    """Find the number after `n_points:`, whose spacing varies; None where there is no such line."""
    for number, line in enumerate(header, start=1):
        name, _, value = line.partition(":")
        if name.strip() != "n_points":
            continue
        if not value.strip().isdecimal():
            message = (
                f"`{path}`, line {number}, must be `n_points:` and a whole number, but got "
                f"{line[:40]!r}. Correct the header."
            )
            raise DatasetError(message)
        return int(value)
    return None

"""What the readers of pose data sets share: annotation files, and people held against pictures."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advaug.datasets.pictures import AnnotatedPicture, picture_size
from advaug.datasets.readers.pairs import geometry_problem
from advaug.errors import DatasetError

__all__ = ["ENLARGEMENT", "check_people", "read_json", "require_numbers"]

# Of the person's longer side: room for what the box leaves out, as is usual in top-down pose.
ENLARGEMENT = 1.25


def read_json(path: Path) -> Any:  # noqa: ANN401 # anything json can hold
    """Read a file of annotations.

    Raises:
        DatasetError: If there is no such file or it is no json.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        fact, fix = error.strerror, "Check the path."
    except ValueError as error:  # of json, or bytes that are no text
        fact, fix = str(error), "Download or export it again."
    message = f"`{path}` must be a readable json file, but got: {fact}. {fix}"
    raise DatasetError(message)


def require_numbers(what: str, values: Any, count: int) -> NDArray[np.float64]:  # noqa: ANN401 # from json
    """Give a list of an annotation as an array.

    Args:
        what: The list's name in messages.
        values: What the file holds.
        count: How many numbers it must have.

    Raises:
        DatasetError: If it is not that many finite numbers.
    """
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.size != count or not np.isfinite(array).all():
        shown = str(values)
        message = (
            f"{what} must be {count} finite numbers, but got "
            f"{shown if len(shown) <= 60 else shown[:60] + '...'}. Correct or remove it."
        )
        raise DatasetError(message)
    return array.ravel()


def check_people(
    people: Sequence[AnnotatedPicture], source: Path, declared: Mapping[Path, tuple[int, int]]
) -> tuple[list[bool], list[str]]:
    """Decode every picture once, in parallel, and hold its people against it.

    Args:
        people: One a person; several may be in one picture.
        source: The file that annotates them.
        declared: (width, height) of pictures, where that file says them.

    Returns:
        Whether each person is usable, and one message per problem.
    """
    paths = sorted({person.path for person in people})
    with ThreadPoolExecutor() as pool:
        checks = pool.map(lambda path: _check_picture(path, declared.get(path), source), paths)
    found = dict(zip(paths, checks, strict=True))
    problems = [check for check in found.values() if isinstance(check, str)]
    usable: list[bool] = []
    for person in people:
        size = found[person.path]
        problem = None if isinstance(size, str) else geometry_problem(person, size, source.name)
        usable.append(not isinstance(size, str) and problem is None)
        problems += [] if problem is None else [problem]
    return usable, problems


def _check_picture(
    path: Path, declared: tuple[int, int] | None, source: Path
) -> tuple[int, int] | str:
    """Give a picture's (width, height), or what is wrong with it."""
    try:
        size = picture_size(path)
    except DatasetError as error:
        return str(error)
    if declared in (None, size):
        return size
    return (
        f"`{path}` must be {declared[0]} x {declared[1]} as `{source.name}` says, but got "
        f"{size[0]} x {size[1]}. Restore the picture that was annotated."
    )

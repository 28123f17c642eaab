"""What the readers of pose data sets share: annotation files, and people checked on pictures."""

import json
import os
import reprlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advaug.base.files import open_regular
from advaug.datasets.decoding import Decoding, PictureFacts, inspect_picture
from advaug.datasets.pictures import AnnotatedPicture
from advaug.datasets.readers.checking import DECODERS, geometry_problem, warn_of_orientation
from advaug.errors import DatasetError

__all__ = ["ENLARGEMENT", "check_people", "path_below", "read_json", "require_numbers", "shown"]

# Relative to the person's longer side: room around the box, as is usual in top-down pose.
ENLARGEMENT = 1.25


def read_json(path: Path) -> Any:  # noqa: ANN401 # anything json can hold
    """Read a file of annotations, in UTF-8, 16 or 32, with or without a byte order mark.

    Raises:
        DatasetError: If there is no such file or it is not JSON.
    """
    try:
        with open_regular(path) as file:
            return json.loads(file.read())
    except OSError as error:
        fact, fix = error.strerror, "Check the path."
    except RecursionError:
        fact, fix = "lists in lists without end", "Download or export it again."
    except ValueError as error:  # from json, or for bytes that are not text
        fact, fix = str(error), "Download or export it again."
    message = f"`{path}` must be a readable json file, but got: {fact}. {fix}"
    raise DatasetError(message)


def shown(value: Any) -> str:  # noqa: ANN401 # from json
    """A value of a file for a message: short, however large or deep it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    short.maxlevel = 2
    return short.repr(value)


def path_below(root: Path, where: str, name: Any) -> Path:  # noqa: ANN401 # from json
    r"""Return the file that a data set names, which must not be outside its folder.

    A link within the folder may lead anywhere, because the folder's owner made it. If there is no
    file of exactly that name, backslashes are read as the separators of Windows.

    Args:
        root: The folder that names start from.
        where: The entry, for messages.
        name: Name of the file.

    Raises:
        DatasetError: If it is not the name of a file under `root`.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        message = (
            f"{where} must be the name of a picture, but got {shown(name)}. Add the name, or "
            "remove the entry."
        )
        raise DatasetError(message)
    if "\\" in name and not os.path.lexists(root / name):
        name = name.replace("\\", "/")
    absolute = PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor)
    if absolute or os.path.normpath(name).split(os.sep)[0] == os.pardir:
        message = (
            f"{where} must be a file below `{root}`, but got {shown(name)}. Put the pictures "
            "there, or a link to their folder, and write the names from there."
        )
        raise DatasetError(message)
    return root / name


def require_numbers(what: str, values: Any, count: int) -> NDArray[np.float64]:  # noqa: ANN401 # from json
    """Return a list of an annotation, nested or not, as an array.

    Args:
        what: The list's name in messages.
        values: What the file holds; numbers may be written as strings.
        count: How many numbers it must have.

    Raises:
        DatasetError: If it is not that many finite numbers.
    """
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):
        array = np.empty(0)
    if array.size != count or not np.isfinite(array).all():
        message = (
            f"{what} must be {count} finite numbers, but got {shown(values)}. Correct it, or "
            "remove the entry."
        )
        raise DatasetError(message)
    return array.ravel()


def check_people(
    people: Sequence[AnnotatedPicture],
    source: Path,
    declared: Mapping[Path, tuple[int, int]],
    *,
    decoding: Decoding | None = None,
) -> tuple[list[bool], list[str]]:
    """Decode every picture once, in parallel, and check its people against it.

    Args:
        people: One entry per person; several may be in one picture.
        source: The file that annotates them.
        declared: (width, height) of pictures, if that file has them.
        decoding: What the picture files do not settle.

    Returns:
        Whether each person is usable, and one message per problem.
    """
    decoding = decoding or Decoding()
    paths = sorted({person.path for person in people})
    with ThreadPoolExecutor(DECODERS) as pool:
        checks = pool.map(lambda p: _check_picture(p, declared.get(p), source, decoding), paths)
    found = dict(zip(paths, checks, strict=True))
    problems = [check for check in found.values() if isinstance(check, str)]
    usable: list[bool] = []
    for person in people:
        facts = found[person.path]
        if isinstance(facts, str):
            usable.append(False)
            continue
        problem = geometry_problem(person, facts.size, source.name)
        usable.append(problem is None)
        problems += [] if problem is None else [problem]
    good = {person.path for person, fine in zip(people, usable, strict=True) if fine}
    turned = [path for path in sorted(good) if _facts(found[path]).orientation != 1]
    warn_of_orientation(decoding, turned, stacklevel=4)
    return usable, problems


def _facts(check: PictureFacts | str) -> PictureFacts:
    assert not isinstance(check, str)  # of a usable picture
    return check


def _check_picture(
    path: Path, declared: tuple[int, int] | None, source: Path, decoding: Decoding
) -> PictureFacts | str:
    """Return the facts about a picture, or what is wrong with it."""
    try:
        facts = inspect_picture(path, decoding)
    except DatasetError as error:
        return str(error)
    if declared in (None, facts.size):
        return facts
    width, height = facts.size
    fix = "Restore the picture that was annotated."
    if declared == (height, width) and facts.orientation != 1:
        other = "stored" if decoding.orientation == "exif" else "exif"
        fix = (
            f"Its EXIF orientation {facts.orientation} exchanges the two: pass "
            f'`decoding=Decoding(orientation="{other}")` (`--orientation {other}`).'
        )
    return (
        f"`{path}` must be {declared[0]} x {declared[1]} as `{source.name}` says, but got "
        f"{width} x {height}. {fix}"
    )

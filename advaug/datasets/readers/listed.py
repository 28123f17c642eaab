"""Faces listed in lists or files of annotations, checked against their pictures all at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from advaug.datasets.decoding import Decoding, PictureFacts, inspect_picture
from advaug.datasets.pictures import AnnotatedPicture
from advaug.datasets.readers.checking import geometry_problem, warn_of_orientation
from advaug.errors import DatasetError

__all__ = ["ListedFace", "check_listed", "count_problem", "read_all"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class ListedFace:
    """A face and where it is annotated.

    Attributes:
        where: The file, and the line or number in it, as messages quote it.
        picture: What is annotated.
    """

    where: str
    picture: AnnotatedPicture


def read_all(read: Callable[[T], R], items: Sequence[T]) -> tuple[list[R], list[str]]:
    """Read items in parallel.

    Args:
        read: Returns the content of one, or raises `DatasetError`.
        items: What to read.

    Returns:
        The contents that could be read, in order, and one message per broken item.
    """

    def attempt(item: T) -> R | DatasetError:
        try:
            return read(item)
        except DatasetError as error:
            return error

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(attempt, items))
    good = [result for result in results if not isinstance(result, DatasetError)]
    return good, [str(result) for result in results if isinstance(result, DatasetError)]


def check_listed(
    faces: Sequence[ListedFace], decoding: Decoding | None = None
) -> tuple[list[bool], list[str]]:
    """Decode every picture once, in parallel, and check its faces against it.

    Args:
        faces: Several may be in one picture.
        decoding: What the picture files do not settle.

    Returns:
        Whether each face is usable, and one message per face that is not.
    """
    how = decoding or Decoding()
    paths = sorted({face.picture.path for face in faces})
    with ThreadPoolExecutor() as pool:
        checks = pool.map(lambda path: _facts_or_problem(path, how), paths)
    facts = dict(zip(paths, checks, strict=True))
    found = [_face_problem(face, facts[face.picture.path]) for face in faces]
    turned = [
        path
        for path, check in facts.items()
        if not isinstance(check, str) and check.orientation != 1
    ]
    warn_of_orientation(how, turned, stacklevel=4)
    return [problem is None for problem in found], [p for p in found if p is not None]


def count_problem(
    where: Path, what: str, got: int, expected: int, *, unreadable: int = 0
) -> list[str]:
    """Report a set that is not as large as published; nothing if it is.

    Args:
        where: The file or folder.
        what: The things that are counted.
        got: How many could be read.
        expected: How many were published.
        unreadable: Broken ones, which may belong to the set and have their own messages.
    """
    if got <= expected <= got + unreadable:
        return []
    return [
        f"`{where}` must have {expected} {what}, but got {got + unreadable} of {expected}. "
        "Unpack that part of the data set again."
    ]


def _facts_or_problem(path: Path, decoding: Decoding) -> PictureFacts | str:
    try:
        return inspect_picture(path, decoding)
    except DatasetError as error:
        return str(error)


def _face_problem(face: ListedFace, facts: PictureFacts | str) -> str | None:
    problem = (
        facts
        if isinstance(facts, str)
        else geometry_problem(face.picture, facts.size, "annotation")
    )
    return None if problem is None else f"{face.where}: {problem}"

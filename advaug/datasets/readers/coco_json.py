"""COCO's JSON of keypoints, brought into one form that the reader and the metrics share.

What has only one reading is read; everything else is a problem that names the annotation.
"""

import re
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advaug.datasets.pictures import Box
from advaug.datasets.readers.coco_values import read_area, read_box, read_keypoints, read_size
from advaug.datasets.readers.people import read_json, require_numbers, shown
from advaug.errors import DatasetError

__all__ = [
    "CocoAnnotation",
    "CocoFile",
    "CocoImage",
    "Id",
    "Record",
    "canonical_id",
    "read_coco",
]

Id = int | str
Record = dict[str, Any]


@dataclass(frozen=True)
class CocoImage:
    """A picture of the file.

    Attributes:
        given_id: As the file writes it.
        file_name: As the file writes it; None if it has none.
        size: (width, height); None if the file does not say it.
    """

    given_id: Id
    file_name: Any
    size: tuple[int, int] | None


@dataclass(frozen=True)
class CocoAnnotation:
    """A person or animal of the file.

    Attributes:
        given_id: As the file writes it.
        given_category: The category's id, as the file writes it among the categories.
        image: The canonical id of its picture.
        category: The canonical id of its category.
        crowd: Whether it stands for a group.
        keypoints: `(N, 3)`: x, y and v; all zero where v is.
        box: x, y, width, height; None if nothing needs it and the file has none.
        area: In square pixels; the box's area if the file has none above zero.
    """

    given_id: Id
    given_category: Id
    image: Id
    category: Id
    crowd: bool
    keypoints: NDArray[np.float64]
    box: Box | None
    area: float

    @property
    def annotated(self) -> bool:
        """Whether it has a keypoint."""
        return bool((self.keypoints[:, 2] > 0).any())


@dataclass(frozen=True)
class CocoFile:
    """A file in its one form.

    Attributes:
        names: What the keypoints are called.
        categories: Canonical ids of the categories that have keypoints.
        images: By canonical id.
        annotations: Those of these categories, in the order of the file.
        problems: One message for each unusable entry, which is left out above.
        remarks: What is odd but unambiguous.
    """

    names: list[str]
    categories: list[Id]
    images: dict[Id, CocoImage]
    annotations: list[CocoAnnotation]
    problems: list[str]
    remarks: list[str]


def read_coco(path: Path) -> CocoFile:
    """Read a JSON of COCO keypoints.

    Raises:
        DatasetError: If it is not such a file at all; broken entries are among `problems`.
    """
    content = read_json(path)
    _require_lists(path, content)
    names, categories = _categories(path, content["categories"])
    problems: list[str] = []
    images = _images(path, content["images"], problems)
    annotations: list[CocoAnnotation] = []
    for number, record in enumerate(content["annotations"]):
        where = f"`{path}`, annotation {_name(record, number)}:"
        try:
            category = _category(where, record, categories)
            if category is not None:
                annotations.append(_annotation(where, record, category, images, len(names)))
        except DatasetError as error:
            problems.append(str(error))
    known = [each for each, has_keypoints in categories.values() if has_keypoints]
    return CocoFile(
        names,
        [key for key in (canonical_id(each) for each in known) if key is not None],
        {key: image for key, image in images.items() if image is not None},
        annotations,
        problems,
        _remarks(path, content),
    )


def canonical_id(value: Any) -> Id | None:  # noqa: ANN401 # from json
    """One form for an id that tools write as a number or as a string; None if it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch("-?[0-9]{1,18}", value.strip()):
        return int(value)
    return value if isinstance(value, int | str) else None


def _require_lists(path: Path, content: Any) -> None:  # noqa: ANN401 # from json
    """Refuse a JSON of another kind."""
    parts = ("images", "annotations", "categories")
    held = content if isinstance(content, dict) else {}
    missing = [name for name in parts if not _is_records(held.get(name))]
    if missing:
        message = (
            f"`{path}` must have the lists {', '.join(parts)} of COCO's format, but got none for "
            f"{', '.join(missing)}. Convert the annotations to COCO's format."
        )
        raise DatasetError(message)


def _is_records(value: Any) -> bool:  # noqa: ANN401 # from json
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _categories(path: Path, records: list[Record]) -> tuple[list[str], dict[Id, tuple[Id, bool]]]:
    """Return the keypoints' names, and by canonical id the id and whether it has keypoints."""
    found = {_names_of(each) for each in records} - {()}
    if len(found) != 1:
        fix = "Keep the categories of one kind in a file." if found else "Add their names."
        message = (
            f"`{path}` must have categories that name the same `keypoints`, but got {len(found)} "
            f"different lists. {fix}"
        )
        raise DatasetError(message)
    categories: dict[Id, tuple[Id, bool]] = {}
    for record in records:
        key = canonical_id(record.get("id"))
        entry = (record.get("id"), bool(_names_of(record)))
        if key is None or (key in categories and categories[key][1] != entry[1]):
            message = (
                f"`{path}` must have categories with an `id` of their own, but got "
                f"{shown(record.get('id'))}. Number them."
            )
            raise DatasetError(message)
        categories.setdefault(key, entry)  # pyright: ignore[reportArgumentType]
    return list(found.pop()), categories


def _names_of(category: Record) -> tuple[str, ...]:
    names = category.get("keypoints")
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _images(path: Path, records: list[Record], problems: list[str]) -> dict[Id, CocoImage | None]:
    """Return the pictures by canonical id; None if several pictures share it."""
    images: dict[Id, CocoImage | None] = {}
    for number, record in enumerate(records):
        where = f"`{path}`, picture {_name(record, number)}:"
        key = canonical_id(record.get("id"))
        if key is None:
            problems.append(
                f"{where} `id` must be a whole number or a string, but got "
                f"{shown(record.get('id'))}. Number the pictures."
            )
            continue
        try:
            size = read_size(where, record)
        except DatasetError as error:
            problems.append(str(error))
            size = None
        image = CocoImage(record["id"], record.get("file_name"), size)
        if key in images and images[key] != image:
            problems.append(
                f"{where} `id` must be that of one picture, but got it for several. Number the "
                "pictures again, and the `image_id` of their annotations."
            )
            images[key] = None
        else:
            images[key] = image
    return images


def _category(
    where: str, record: Record, categories: dict[Id, tuple[Id, bool]]
) -> tuple[Id, Id] | None:
    """The category's canonical and given id, or None if it has no keypoints."""
    key = canonical_id(record.get("category_id"))
    if key is None or key not in categories:
        message = (
            f"{where} `category_id` must be that of a category, but got "
            f"{shown(record.get('category_id'))}. Add the category or correct the annotation."
        )
        raise DatasetError(message)
    given, has_keypoints = categories[key]
    return (key, given) if has_keypoints else None


def _annotation(
    where: str,
    record: Record,
    category: tuple[Id, Id],
    images: dict[Id, CocoImage | None],
    num_landmarks: int,
) -> CocoAnnotation:
    """Normalise one annotation.

    Raises:
        DatasetError: If it is broken.
    """
    image = canonical_id(record.get("image_id"))
    if image is None or images.get(image) is None:
        fact = "that of several" if image in images else shown(record.get("image_id"))
        message = (
            f"{where} `image_id` must be that of a picture with a `file_name`, but got {fact}. "
            "Add the picture or remove the annotation."
        )
        raise DatasetError(message)
    if canonical_id(record.get("id")) is None:
        message = (
            f"{where} `id` must be a whole number or a string, but got {shown(record.get('id'))}. "
            "Number the annotations."
        )
        raise DatasetError(message)
    crowd = bool(require_numbers(f"{where} `iscrowd`", record.get("iscrowd") or 0, 1)[0])
    keypoints = read_keypoints(where, record.get("keypoints"), num_landmarks)
    needed = bool(keypoints.any()) and not crowd
    box = read_box(where, record.get("bbox"), needed=needed)
    area = read_area(where, record.get("area"), box, needed=needed)
    return CocoAnnotation(
        record["id"], category[1], image, category[0], crowd, keypoints, box, area
    )


def _name(record: Record, number: int) -> str:
    """What messages call an entry: its id, or its position if it has none."""
    return shown(record["id"]) if record.get("id") is not None else f"number {number}"


def _remarks(path: Path, content: Record) -> list[str]:
    """What is repeated, and read anyway."""
    remarks: list[str] = []
    for part, kept in (("images", "equal"), ("annotations", "told apart by their place")):
        keys: list[Hashable] = [canonical_id(each.get("id")) for each in content[part]]
        repeated = [shown(key) for key, count in Counter(keys).items() if count > 1]
        if repeated:
            remarks.append(
                f"`{path}` repeats {len(repeated)} ids of `{part}`, such as {repeated[0]}; those "
                f"that are {kept} are kept."
            )
    return remarks

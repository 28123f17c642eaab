"""Keypoints in COCO's json (Lin et al. 2014): of people, animals or anything else.

    {"images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
     "categories": [{"id": 1, "name": "person", "keypoints": ["nose", "left_eye", ...]}],
     "annotations": [{"id": 7, "image_id": 1, "category_id": 1, "bbox": [x, y, width, height],
                      "area": 5120.0, "iscrowd": 0, "keypoints": [x, y, v, x, y, v, ...]}]}

Keypoints count pixels from 0, with integers at pixel centres; v is 0 for not annotated, 1 for
annotated but hidden, 2 for seen. Boxes count from the picture's edges.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from advaug.datasets.crop import square_box
from advaug.datasets.pictures import AnnotatedPicture, Box, CroppedPictures
from advaug.datasets.readers.pairs import report_problems
from advaug.datasets.readers.people import ENLARGEMENT, check_people, read_json, require_numbers
from advaug.errors import DatasetError
from advaug.schemes import LandmarkScheme, scheme_from_names

__all__ = ["CocoKeypoints", "CocoPerson"]

Record = dict[str, Any]


@dataclass(frozen=True)
class CocoPerson:
    """What OKS-AP needs to know of a sample.

    Attributes:
        annotation_id: Of the person.
        image_id: Of the picture.
        category_id: Of the kind of person or animal.
        box: x, y, width, height as the file gives them, in pixels of the picture.
        area: Of the person, in pixels of the picture; the box's where the file gives none.
    """

    annotation_id: int
    image_id: int
    category_id: int
    box: Box
    area: float


class CocoKeypoints(CroppedPictures):
    """People of a COCO json, one a sample, each cropped to the square around its box.

    The square's side is 1.25 times the longer side of the box. Crowds (`iscrowd`) and people
    without an annotated keypoint are left out. A keypoint is `visible` where its v is 1 or 2: COCO
    annotates hidden joints, and the detector has to guess them. Categories may be several (animal
    pose) if all name the same keypoints.

    Args:
        root: The folder that the file names of the json start from.
        annotations: The json.
        image_size: Side of the square samples, in pixels.
        skip_broken: Leave broken people and pictures out, with one warning, instead of raising.

    Attributes:
        paths: The picture file of each sample; sorted, so that people of one picture are beside
            each other.
        people: What OKS-AP needs of each sample.
        annotations: The json's path.
        names: What the keypoints are called.
        scheme: Their number and flip permutation, from their names.

    Raises:
        DatasetError: If the json has no people with keypoints, or anything in it or a picture is
            broken; the message lists all problems.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        annotations: str | os.PathLike[str],
        *,
        image_size: int = 256,
        skip_broken: bool = False,
    ) -> None:
        root, self.annotations = Path(root), Path(annotations)
        content = read_json(self.annotations)
        _require_lists(self.annotations, content)
        self.names, scheme = _keypoints(self.annotations, content["categories"])
        found, problems = _read_people(root, self.annotations, content, len(self.names))
        if not found and not problems:
            message = (
                f"`{self.annotations}` must annotate the keypoints of at least one person that is "
                "no crowd, but got none. Check that it is a file of keypoints."
            )
            raise DatasetError(message)
        found.sort(key=lambda each: (each[1].path.as_posix(), each[0].annotation_id))
        pictures = [picture for _, picture in found]
        declared = _declared_sizes(root, content["images"])
        usable, broken = check_people(pictures, self.annotations, declared)
        report_problems(root, problems + broken, sum(usable), skip_broken=skip_broken)
        kept = [each for each, good in zip(found, usable, strict=True) if good]
        super().__init__(
            [picture for _, picture in kept], image_size=image_size, num_landmarks=len(self.names)
        )
        self.scheme = scheme
        self.people: list[CocoPerson] = [person for person, _ in kept]

    def results(
        self,
        preds: ArrayLike,
        *,
        scores: Sequence[float] | None = None,
        indices: Sequence[int] | None = None,
    ) -> list[Record]:
        """Predictions in COCO's format of results, in pixels of the original pictures.

        Args:
            preds: `(P, N, 2)` in pixels of the crops.
            scores: How sure each prediction is; all alike if not given.
            indices: Of the P samples; all of them if not given.

        Raises:
            ValueError: If there are not as many predictions and scores as samples.
        """
        preds = np.asarray(preds, dtype=np.float64)
        indices = range(len(self)) if indices is None else indices
        scores = [1.0] * len(preds) if scores is None else scores
        if not len(preds) == len(scores) == len(indices):
            message = (
                f"`preds` and `scores` must have one entry for each of the {len(indices)} samples, "
                f"but got {len(preds)} and {len(scores)}. Pass the `indices` of a part."
            )
            raise ValueError(message)
        return [
            _result(self.people[index], self.crop(index).to_picture(points), score)
            for index, points, score in zip(indices, preds, scores, strict=True)
        ]


def _result(person: CocoPerson, points: np.ndarray, score: float) -> Record:
    keypoints = np.column_stack([points, np.ones(len(points))]).ravel().tolist()
    return {
        "image_id": person.image_id,
        "category_id": person.category_id,
        "keypoints": keypoints,
        "score": float(score),
    }


def _require_lists(path: Path, content: Any) -> None:  # noqa: ANN401 # from json
    """Refuse a json of another kind."""
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
    return isinstance(value, list) and all(isinstance(e, dict) and "id" in e for e in value)


def _keypoints(path: Path, categories: list[Record]) -> tuple[list[str], LandmarkScheme]:
    """Give the names of the keypoints, which all categories that have any must share."""
    found = {tuple(map(str, each["keypoints"])) for each in categories if each.get("keypoints")}
    if len(found) != 1:
        message = (
            f"`{path}` must have categories that name the same `keypoints`, but got {len(found)} "
            "different lists. Keep the categories of one kind in a file."
        )
        raise DatasetError(message)
    names = list(found.pop())
    try:
        return names, scheme_from_names(names)
    except ValueError as error:
        message = f"`{path}`, `keypoints` of its categories: {error}"
        raise DatasetError(message) from error


def _read_people(
    root: Path, path: Path, content: Record, num_landmarks: int
) -> tuple[list[tuple[CocoPerson, AnnotatedPicture]], list[str]]:
    """Read every annotation; one message per broken one."""
    files = {each["id"]: each.get("file_name") for each in content["images"]}
    kinds = {each["id"] for each in content["categories"] if each.get("keypoints")}
    problems: list[str] = []
    people: list[tuple[CocoPerson, AnnotatedPicture]] = []
    for annotation in content["annotations"]:
        if annotation.get("iscrowd") or annotation.get("category_id") not in kinds:
            continue
        where = f"`{path}`, annotation {annotation['id']}:"
        try:
            person = _read_person(root, where, annotation, files, num_landmarks)
        except DatasetError as error:
            problems.append(str(error))
            continue
        people += [] if person is None else [person]
    return people, problems


def _read_person(
    root: Path, where: str, annotation: Record, files: dict[Any, Any], num_landmarks: int
) -> tuple[CocoPerson, AnnotatedPicture] | None:
    """Read one annotation; None where no keypoint is annotated.

    Raises:
        DatasetError: If it is broken.
    """
    file = files.get(annotation.get("image_id"))
    if not isinstance(file, str):
        message = (
            f"{where} `image_id` must be that of a picture with a `file_name`, but got "
            f"{annotation.get('image_id')!r}. Add the picture or remove the annotation."
        )
        raise DatasetError(message)
    keypoints = require_numbers(
        f"{where} `keypoints`", annotation.get("keypoints"), 3 * num_landmarks
    ).reshape(-1, 3)
    flags = keypoints[:, 2]
    if not np.isin(flags, (0, 1, 2)).all():
        message = (
            f"{where} `keypoints` must have 0, 1 or 2 as every third number, but got "
            f"{sorted(set(flags.tolist()))}. Correct the visibility."
        )
        raise DatasetError(message)
    if not flags.any():
        return None
    x, y, width, height = require_numbers(f"{where} `bbox`", annotation.get("bbox"), 4).tolist()
    area = annotation.get("area", width * height)
    area = float(require_numbers(f"{where} `area`", area, 1)[0])
    person = CocoPerson(
        annotation["id"],
        annotation["image_id"],
        annotation["category_id"],
        (x, y, width, height),
        area,
    )
    # The box counts from the picture's edge, half a pixel before the first pixel's centre.
    side = ENLARGEMENT * max(width, height)
    box = square_box(x + width / 2 - 0.5, y + height / 2 - 0.5, side)
    return person, AnnotatedPicture(root / file, keypoints[:, :2], box, flags > 0)


def _declared_sizes(root: Path, images: list[Record]) -> dict[Path, tuple[int, int]]:
    """(width, height) of the pictures whose entries say it."""
    return {
        root / str(image.get("file_name")): (image["width"], image["height"])
        for image in images
        if "width" in image and "height" in image
    }

"""Keypoints in COCO's JSON (Lin et al. 2014): of people, animals or anything else.

    {"images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
     "categories": [{"id": 1, "name": "person", "keypoints": ["nose", "left_eye", ...]}],
     "annotations": [{"id": 7, "image_id": 1, "category_id": 1, "bbox": [x, y, width, height],
                      "area": 5120.0, "iscrowd": 0, "keypoints": [x, y, v, x, y, v, ...]}]}

Keypoints count pixels from 0, with integers at pixel centres; v is 0 for not annotated, 1 for
annotated but hidden, 2 for visible. Boxes count from the picture's edges.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from advaug.datasets.crop import square_box
from advaug.datasets.decoding import Decoding
from advaug.datasets.pictures import AnnotatedPicture, Box, CroppedPictures
from advaug.datasets.readers.checking import report_problems
from advaug.datasets.readers.coco_json import CocoFile, Id, Record, canonical_id, read_coco
from advaug.datasets.readers.people import ENLARGEMENT, check_people, path_below
from advaug.errors import DatasetError
from advaug.schemes import LandmarkScheme, scheme_from_names

__all__ = ["CocoKeypoints", "CocoPerson"]


@dataclass(frozen=True)
class CocoPerson:
    """What OKS-AP needs to know of a sample.

    Attributes:
        annotation_id: Of the person; ids are as the file writes them.
        image_id: Of the picture.
        category_id: Of the kind of person or animal.
        box: x, y, width, height as the file gives them, in pixels of the picture.
        area: Of the person, in square pixels of the picture; the box's area if the file has none.
    """

    annotation_id: Id
    image_id: Id
    category_id: Id
    box: Box
    area: float


class CocoKeypoints(CroppedPictures):
    """People of a COCO JSON, one per sample, each cropped to the square around its box.

    The square's side is 1.25 times the longer side of the box. Crowds (`iscrowd`) and people
    without an annotated keypoint are left out. A keypoint is `visible` if its v is 1 or 2: COCO
    annotates hidden joints, and the detector has to guess them. There may be several categories
    (animal pose) if all of them name the same keypoints.

    Args:
        root: The folder that the file names in the JSON are relative to.
        annotations: The JSON file.
        image_size: Side of the square samples, in pixels.
        pairs: Names of keypoints that a mirror swaps; None finds them by the words for left and
            right, as `scheme_from_names` does.
        decoding: What the picture files do not settle: orientation, channels, white, the size
            limit.
        skip_broken: Leave broken people and pictures out, with one warning, instead of raising.

    Attributes:
        paths: The picture file of each sample; sorted, so that people of one picture are next to
            each other.
        people: What OKS-AP needs of each sample.
        annotations: Path of the JSON.
        names: What the keypoints are called.
        scheme: Their number and flip permutation, from their names.

    Raises:
        DatasetError: If the JSON has no people with keypoints, or anything in it or a picture is
            broken; the message lists all problems.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        annotations: str | os.PathLike[str],
        *,
        image_size: int = 256,
        pairs: Sequence[tuple[str, str]] | None = None,
        decoding: Decoding | None = None,
        skip_broken: bool = False,
    ) -> None:
        root, self.annotations = Path(root), Path(annotations)
        content = read_coco(self.annotations)
        self.names = content.names
        scheme = _scheme(self.annotations, self.names, pairs)
        found, problems = _read_people(root, self.annotations, content)
        problems = content.problems + problems
        if not found and not problems:
            message = (
                f"`{self.annotations}` must annotate the keypoints of at least one person that is "
                "not a crowd, but got none. Check that it is a file of keypoints."
            )
            raise DatasetError(message)
        found.sort(key=lambda each: (each.picture.path.as_posix(), _order(each.person)))
        pictures = [each.picture for each in found]
        declared = {each.picture.path: each.size for each in found if each.size is not None}
        usable, broken = check_people(pictures, self.annotations, declared, decoding=decoding)
        report_problems(root, problems + broken, sum(usable), skip_broken=skip_broken)
        for remark in content.remarks:
            warnings.warn(remark, stacklevel=2)
        kept = [each for each, good in zip(found, usable, strict=True) if good]
        super().__init__(
            [each.picture for each in kept],
            image_size=image_size,
            num_landmarks=len(self.names),
            decoding=decoding,
        )
        self.scheme = scheme
        self.people: list[CocoPerson] = [each.person for each in kept]

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
            scores: Confidence of each prediction; all equal if not given.
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


def _scheme(
    path: Path, names: list[str], pairs: Sequence[tuple[str, str]] | None
) -> LandmarkScheme:
    """What the names say about left and right."""
    try:
        return scheme_from_names(names, pairs=pairs)
    except ValueError as error:
        message = f"`{path}`, `keypoints` of its categories: {error}"
        raise DatasetError(message) from error


class _Found(NamedTuple):
    """A person, and (width, height) of the picture if the file has it."""

    person: CocoPerson
    picture: AnnotatedPicture
    size: tuple[int, int] | None


def _read_people(root: Path, path: Path, content: CocoFile) -> tuple[list[_Found], list[str]]:
    """Return those with a keypoint that are not crowds; one message per broken one."""
    problems: list[str] = []
    people: list[_Found] = []
    for annotation in content.annotations:
        box, image = annotation.box, content.images[annotation.image]
        if annotation.crowd or not annotation.annotated or box is None:
            continue
        where = f"`{path}`, annotation {annotation.given_id!r}: the `file_name` of its picture"
        try:
            file = path_below(root, where, image.file_name)
        except DatasetError as error:
            problems.append(str(error))
            continue
        person = CocoPerson(
            annotation.given_id, image.given_id, annotation.given_category, box, annotation.area
        )
        people.append(_Found(person, _picture(file, annotation.keypoints, box), image.size))
    return people, problems


def _picture(file: Path, keypoints: NDArray[np.float64], box: Box) -> AnnotatedPicture:
    x, y, width, height = box
    # The box counts from the picture's edge, half a pixel before the first pixel's centre.
    side = ENLARGEMENT * max(width, height)
    square = square_box(x + width / 2 - 0.5, y + height / 2 - 0.5, side)
    return AnnotatedPicture(file, keypoints[:, :2], square, keypoints[:, 2] > 0)


def _order(person: CocoPerson) -> tuple[bool, int | str]:
    """A key to sort ids by, some of which may be strings."""
    key = canonical_id(person.annotation_id)
    return isinstance(key, str), 0 if key is None else key

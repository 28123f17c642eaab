"""WFLW (Wu et al. 2018): 98 landmarks, boxes, and six attributes that make up its subsets.

Expected under the root: `WFLW_images`, and the two lists
`WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_{train,test}.txt`. Each line of
a list is a face: 196 coordinates, 4 of a box, 6 attributes (0 or 1), and the picture's name
relative to `WFLW_images`. Coordinates count pixels from 0. One picture may contain several faces.
"""

import os
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from advaug.base.checks import check_choice
from advaug.datasets.crop import landmark_box
from advaug.datasets.decoding import Decoding
from advaug.datasets.pictures import AnnotatedPicture, CroppedPictures
from advaug.datasets.readers.checking import report_problems
from advaug.datasets.readers.listed import (
    ListedFace,
    check_listed,
    count_problem,
    read_all,
)
from advaug.errors import DatasetError
from advaug.schemes import FACE_98, FACE_98_TO_68

__all__ = ["WFLW_ATTRIBUTES", "Wflw"]

Subset = Literal[
    "train",
    "test",
    "pose",
    "expression",
    "illumination",
    "make-up",
    "occlusion",
    "blur",
]
Boxes = Literal["annotated", "landmarks"]

WFLW_ATTRIBUTES = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")
"""In the order of the columns of the lists; each is a subset of "test"."""

COUNTS: dict[str, int] = {
    "train": 7500,
    "test": 2500,
    "pose": 326,
    "expression": 314,
    "illumination": 698,
    "make-up": 206,
    "occlusion": 736,
    "blur": 773,
}
LISTS = Path("WFLW_annotations", "list_98pt_rect_attr_train_test")
POINTS = FACE_98.num_landmarks
NUMBERS = 2 * POINTS + 4 + len(WFLW_ATTRIBUTES)


class Wflw(CroppedPictures):
    """WFLW with 98 landmarks: 7500 faces to train on, 2500 to test on, and six test subsets.

    The face is cropped to the square around its box whose side is the box's diagonal. The box is
    the annotated one, which is close to that of the landmarks.

    Args:
        root: The folder that holds `WFLW_annotations` and `WFLW_images`.
        subset: "train" (7500), "test" (2500), or a part of the test: "pose" (326), "expression"
            (314), "illumination" (698), "make-up" (206), "occlusion" (736) or "blur" (773).
        image_size: Side of the square samples, in pixels.
        boxes: "annotated", or "landmarks" for the tight box of the landmarks.
        num_landmarks: 98, or 68 for those closest to 300W's (`FACE_98_TO_68`).
        decoding: What the picture files do not settle: orientation, channels, white, the size
            limit.
        skip_broken: Leave broken faces and pictures out, with one warning, instead of raising.

    Attributes:
        paths: The picture file of each sample.
        attributes: `(P, 6)` bool, in the order of `WFLW_ATTRIBUTES`: the subsets of each sample.
        scheme: The 98-point or the 68-point scheme.

    Raises:
        DatasetError: If faces are missing, or a line or picture is broken; the message lists all of
            them by list and line.
        ValueError: If an argument has an unknown value.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        subset: Subset = "train",
        *,
        image_size: int = 256,
        boxes: Boxes = "annotated",
        num_landmarks: int = 98,
        decoding: Decoding | None = None,
        skip_broken: bool = False,
    ) -> None:
        check_choice("subset", subset, get_args(Subset))
        check_choice("boxes", boxes, get_args(Boxes))
        check_choice("num_landmarks", num_landmarks, (98, 68))
        root = Path(root)
        name = "train" if subset == "train" else "test"
        path = root / LISTS / f"list_98pt_rect_attr_{name}.txt"
        rows, broken_lines = read_all(
            lambda row: (row[0], *_read_row(root, path, row, boxes)), _lines(path)
        )
        if subset in WFLW_ATTRIBUTES:
            column = WFLW_ATTRIBUTES.index(subset)
            rows = [row for row in rows if row[2][column]]
        usable, broken = check_listed([face for _, face, _ in rows], decoding)
        kept = [row for row, good in zip(rows, usable, strict=True) if good]
        unequal = count_problem(
            path,
            f'faces of "{subset}"',
            len(rows),
            COUNTS[subset],
            unreadable=len(broken_lines),
        )
        problems = unequal + broken_lines + broken
        report_problems(root, problems, len(kept), skip_broken=skip_broken)
        pictures = [face.picture for _, face, _ in kept]
        if num_landmarks == len(FACE_98_TO_68):
            pictures = [_picked(picture) for picture in pictures]
        super().__init__(
            pictures, image_size=image_size, num_landmarks=num_landmarks, decoding=decoding
        )
        self.attributes: Tensor = torch.from_numpy(np.stack([each for _, _, each in kept]))
        self._lines = [number for number, _, _ in kept]

    def name(self, index: int) -> str:
        """Say where a sample is: the picture, which may hold several, and the line of the list."""
        return f"{self.paths[index]}, line {self._lines[index]}"


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a list with their numbers, without blank ones."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fact = error.strerror if isinstance(error, OSError) else "bytes that are not text"
        message = f"`{path}` must be a readable list, but got: {fact}. Unpack WFLW's annotations."
        raise DatasetError(message) from error
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _read_row(
    root: Path, path: Path, row: tuple[int, str], boxes: Boxes
) -> tuple[ListedFace, np.ndarray]:
    """Read one line of a list.

    Raises:
        DatasetError: If it is broken.
    """
    number, line = row
    where = f"`{path}`, line {number}"
    # A picture's name may have spaces, so it is everything after the numbers.
    *fields, name = line.strip().split(" ", NUMBERS)
    values = _numbers(fields)
    if len(values) != NUMBERS or not np.isfinite(values).all() or not name:
        message = (
            f"{where} must be {NUMBERS} finite numbers and a picture's name, but got "
            f"{len(fields)} and {name[:40]!r}. Restore the list from the data set."
        )
        raise DatasetError(message)
    attributes = values[-len(WFLW_ATTRIBUTES) :]
    if not np.isin(attributes, (0, 1)).all():
        message = (
            f"{where} must end its numbers with six attributes, 0 or 1, but got "
            f"{attributes.tolist()}. Restore the list from the data set."
        )
        raise DatasetError(message)
    landmarks = values[: 2 * POINTS].reshape(-1, 2)
    x_min, y_min, x_max, y_max = values[2 * POINTS : 2 * POINTS + 4].tolist()
    box = landmark_box(landmarks) if boxes == "landmarks" else (x_min, y_min, x_max, y_max)
    picture = AnnotatedPicture(root / "WFLW_images" / name, landmarks, box)
    return ListedFace(where, picture), attributes > 0


def _numbers(fields: list[str]) -> np.ndarray:
    """Return the fields as numbers; nothing if one of them is not a number."""
    try:
        return np.array(fields, dtype=np.float64)
    except ValueError:
        return np.empty(0)


def _picked(picture: AnnotatedPicture) -> AnnotatedPicture:
    """Keep the 68 landmarks that correspond to 300W's; the box stays."""
    landmarks = picture.landmarks[list(FACE_98_TO_68)]
    return AnnotatedPicture(picture.path, landmarks, picture.box)

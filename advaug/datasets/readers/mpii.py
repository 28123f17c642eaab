"""MPII Human Pose (Andriluka et al. 2014), in the JSON that top-down pose detectors share.

Expected under the root: `images` with the pictures, `annot/train.json` and `annot/valid.json`, and
for PCKh `annot/gt_valid.mat`, whose `headboxes_src` are in the order of `valid.json`. Each entry:

    {"image": "015601864.jpg", "center": [594.0, 257.0], "scale": 3.021046,
     "joints": [[620.0, 394.0], ...], "joints_vis": [1, ...]}

The files count pixels from 1, the library from 0; at `scale` 1 a person is 200 pixels high.
"""

import os
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from advaug.base.checks import check_choice
from advaug.datasets.crop import square_box
from advaug.datasets.decoding import Decoding
from advaug.datasets.pictures import AnnotatedPicture, CroppedPictures
from advaug.datasets.readers.checking import report_problems
from advaug.datasets.readers.mat import read_mat
from advaug.datasets.readers.people import (
    ENLARGEMENT,
    check_people,
    path_below,
    read_json,
    require_numbers,
)
from advaug.errors import DatasetError
from advaug.schemes import MPII_16

__all__ = ["Mpii"]

Split = Literal["train", "valid"]
PERSON_PIXELS = 200.0  # height of a person at scale 1
LOWER = 15.0  # `center` is high on the body: at scale 1 this much lower keeps the feet inside


class Mpii(CroppedPictures):
    """People of MPII with 16 joints: 22,246 to train on and 2,958 to test on.

    A person is cropped to the square of side 1.25 times 200 `scale` pixels, whose centre is
    `center` moved down by 15 `scale` pixels, as the detectors that share this JSON do. A joint is
    `visible` if its `joints_vis` is 1; people without a visible joint are left out.

    Args:
        root: The folder that holds `images` and `annot`.
        split: "train" or "valid".
        image_size: Side of the square samples, in pixels.
        decoding: What the picture files do not settle: orientation, channels, white, the size
            limit.
        skip_broken: Leave broken people and pictures out, with one warning, instead of raising.

    Attributes:
        paths: The picture file of each sample.
        scheme: The 16-point scheme.

    Raises:
        DatasetError: If the JSON has no people, or anything in it or a picture is broken; the
            message lists all problems.
        ValueError: If `split` is unknown.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split = "train",
        *,
        image_size: int = 256,
        decoding: Decoding | None = None,
        skip_broken: bool = False,
    ) -> None:
        check_choice("split", split, get_args(Split))
        self._annotations = Path(root) / "annot"
        path = self._annotations / f"{split}.json"
        entries = read_json(path)
        if not isinstance(entries, list) or not entries:
            message = f"`{path}` must be a list of people, but got none. Download it again."
            raise DatasetError(message)
        found, problems = _read_people(Path(root) / "images", path, entries)
        if not found and not problems:
            message = (
                f"`{path}` must annotate a joint of at least one person, but got none. Download it "
                "again."
            )
            raise DatasetError(message)
        usable, broken = check_people([person for _, person in found], path, {}, decoding=decoding)
        report_problems(Path(root), problems + broken, sum(usable), skip_broken=skip_broken)
        kept = [each for each, good in zip(found, usable, strict=True) if good]
        pictures = [picture for _, picture in kept]
        super().__init__(
            pictures,
            image_size=image_size,
            num_landmarks=MPII_16.num_landmarks,
            decoding=decoding,
        )
        self.scheme = MPII_16
        self._numbers = [number for number, _ in kept]
        self._num_entries = len(entries)
        self._split = split

    def head_sizes(self) -> NDArray[np.float64]:
        """Diagonal of each sample's head box, in pixels of the crops, for PCKh: `(P,)`.

        Raises:
            DatasetError: If `annot/gt_valid.mat` is missing or damaged, or does not have a finite
                box for each person of `valid.json`; MPII's JSON itself has no head boxes.
        """
        path = self._annotations / f"gt_{self._split}.mat"
        boxes = _read_head_boxes(path)
        if boxes.shape != (2, 2, self._num_entries):
            message = (
                f"`{path}` must have `headboxes_src` of shape (2, 2, {self._num_entries}), a box "
                f"for each person of `{self._split}.json`, but got {boxes.shape}. Download both "
                "from the same place."
            )
            raise DatasetError(message)
        if not np.isfinite(boxes[:, :, self._numbers]).all():
            message = (
                f"`{path}` must have finite `headboxes_src`, but got NaN or infinity. Download it "
                "again."
            )
            raise DatasetError(message)
        diagonals = np.linalg.norm(boxes[1] - boxes[0], axis=0)[self._numbers]
        return diagonals * np.array([self.crop(index).scale for index in range(len(self))])


def _read_people(
    images: Path, path: Path, entries: list[Any]
) -> tuple[list[tuple[int, AnnotatedPicture]], list[str]]:
    """Return the people with an annotated joint, each with its number in the file, and problems."""
    people: list[tuple[int, AnnotatedPicture]] = []
    problems: list[str] = []
    for number, entry in enumerate(entries):
        where = f"`{path}`, entry {number}:"
        try:
            person = _read_person(images, where, entry)
        except DatasetError as error:
            problems.append(str(error))
            continue
        people += [] if person is None else [(number, person)]
    return people, problems


def _read_person(images: Path, where: str, entry: Any) -> AnnotatedPicture | None:  # noqa: ANN401 # from json
    """Read one entry; None if no joint is annotated.

    Raises:
        DatasetError: If it is broken.
    """
    held = entry if isinstance(entry, dict) else {}
    file = path_below(images, f"{where} `image`", held.get("image"))
    count = MPII_16.num_landmarks
    joints = require_numbers(f"{where} `joints`", held.get("joints"), 2 * count).reshape(-1, 2)
    flags = require_numbers(f"{where} `joints_vis`", held.get("joints_vis"), count)
    if not flags.any():
        return None
    x, y = require_numbers(f"{where} `center`", held.get("center"), 2).tolist()
    scale = float(require_numbers(f"{where} `scale`", held.get("scale"), 1)[0])
    box = square_box(x - 1, y - 1 + LOWER * scale, ENLARGEMENT * PERSON_PIXELS * scale)
    return AnnotatedPicture(file, joints - 1, box, flags > 0)


def _read_head_boxes(path: Path) -> NDArray[np.float64]:
    """Read `headboxes_src`: two corners, x and y, per person."""
    rule = "hold `headboxes_src`, which PCKh needs"
    fix = "It comes with `valid.json`; put it next to that file."
    held = read_mat(path, "headboxes_src", rule=rule, fix=fix)
    try:
        return np.array(held, dtype=np.float64)
    except (TypeError, ValueError) as error:
        message = f"`{path}` must {rule}, but got {type(error).__name__}: {error}. {fix}"
        raise DatasetError(message) from error

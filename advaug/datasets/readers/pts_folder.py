"""A folder of pictures with a `.pts` file beside each."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, get_args

import numpy as np
from numpy.typing import ArrayLike

from advaug.base.checks import check_choice
from advaug.datasets.decoding import Decoding
from advaug.datasets.pictures import CroppedPictures
from advaug.datasets.readers.checking import check_pairs, report_problems
from advaug.datasets.readers.pairs import FilePair, find_pairs
from advaug.datasets.readers.pts import Negative

__all__ = ["FixedPtsFolder", "PtsFolder"]


class PtsFolder(CroppedPictures):
    """Pictures of a folder, at any depth, each with a `.pts` file of the same stem beside it.

    Every file is read once here, so that broken files are found before training: `.pts` files are
    parsed, and pictures are decoded completely. Hidden files are skipped.

    Args:
        root: The folder. Pictures are `.jpg`, `.jpeg` or `.png`, in either case.
        image_size: Side of the square samples, in pixels.
        num_landmarks: N, which every `.pts` file must have.
        boxes: Box of each picture's face, x_min, y_min, x_max, y_max in its pixels, 0-based, by its
            path relative to `root` (with `/`). None uses the tight box of the landmarks.
        negative: What two negative numbers of a point mean, as for `read_pts`. With "occluded" a
            landmark at (-1, -1) is not `visible`, one at (-x, -y) is at (x, y), and both are
            `occluded`. None warns if many points are negative.
        decoding: What the picture files do not settle: orientation, channels, white, the size
            limit.
        skip_broken: Leave broken files out, with one warning, instead of raising.

    Attributes:
        paths: The picture files in the order of the samples, sorted by their path.
        scheme: What the landmarks mean, by their number; None if no face scheme has that many.
        occluded: `(P, N)` bool, which landmarks are marked as hidden; None unless `negative` is
            "occluded".

    Raises:
        DatasetError: If the folder has no usable picture, or if any file is broken; the message
            lists all of them.
    """

    _may_choose: ClassVar[bool] = True  # whether messages may offer another `num_landmarks`

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        image_size: int = 256,
        num_landmarks: int = 68,
        boxes: Mapping[str, ArrayLike] | None = None,
        negative: Negative | None = None,
        decoding: Decoding | None = None,
        skip_broken: bool = False,
    ) -> None:
        if negative is not None:
            check_choice("negative", negative, get_args(Negative), " or None")
        root = Path(root)
        pairs, problems = find_pairs(root)
        if boxes is not None:
            pairs, unboxed = _with_boxes(pairs, boxes, root)
            problems += unboxed
        pictures, broken = check_pairs(
            pairs,
            num_landmarks,
            decoding=decoding,
            negative=negative,
            chosen=self._may_choose,
        )
        report_problems(root, problems + broken, len(pictures), skip_broken=skip_broken)
        super().__init__(
            pictures, image_size=image_size, num_landmarks=num_landmarks, decoding=decoding
        )


class FixedPtsFolder(PtsFolder):
    """The same for a user who cannot choose `num_landmarks`: no message offers that."""

    _may_choose = False


def _with_boxes(
    pairs: list[FilePair], boxes: Mapping[str, ArrayLike], root: Path
) -> tuple[list[FilePair], list[str]]:
    """Assign each pair its box; a picture without one is a problem."""
    boxed: list[FilePair] = []
    problems: list[str] = []
    for pair in pairs:
        name = pair.picture.relative_to(root).as_posix()
        if name in boxes:
            x_min, y_min, x_max, y_max = np.asarray(boxes[name], dtype=np.float64).tolist()
            boxed.append(replace(pair, box=(x_min, y_min, x_max, y_max)))
        else:
            problems.append(f"`boxes` must have a box for {name!r}, but got none. Add it.")
    return boxed, problems

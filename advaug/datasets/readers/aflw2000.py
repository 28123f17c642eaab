"""AFLW2000-3D (Zhu et al. 2016): 2000 faces in all poses, one `.mat` file per picture.

Expected under the root: `NAME.jpg` and `NAME.mat` side by side. A file holds `pt3d_68` (3 x 68),
`pt2d` (2 x 21, AFLW's own landmarks, with -1 for those that cannot be seen) and `Pose_Para` (7
numbers, the first three pitch, yaw and roll in radians). MATLAB wrote them, so pixels count from 1;
1 is subtracted here.
"""

import math
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
from advaug.datasets.readers.matlab import pictures_with_mat, read_numbers
from advaug.errors import DatasetError

__all__ = ["Aflw2000"]

Subset = Literal["all", "yaw-0-30", "yaw-30-60", "yaw-60-90"]

COUNT = 2000
YAWS: dict[Subset, tuple[float, float]] = {
    "all": (0, math.inf),
    "yaw-0-30": (0, 30),
    "yaw-30-60": (30, 60),
    "yaw-60-90": (60, math.inf),
}


class Aflw2000(CroppedPictures):
    """AFLW2000-3D with 68 or 21 landmarks: 2000 faces to test on.

    The face is cropped to the square around the tight box of its landmarks whose side is the box's
    diagonal. Of the 68, those on the far side of a face are where the 3D model has them, and are
    `visible`. Of the 21, those that cannot be seen have no position and are not `visible`.

    Args:
        root: The folder of `.jpg` and `.mat` files.
        subset: "all", or the faces whose absolute yaw is less than 30 degrees ("yaw-0-30"), less
            than 60 ("yaw-30-60") or more ("yaw-60-90").
        image_size: Side of the square samples, in pixels.
        num_landmarks: 68 for `pt3d_68`, 21 for `pt2d`.
        decoding: What the picture files do not settle: orientation, channels, white, the size
            limit.
        skip_broken: Leave broken or missing files out, with one warning, instead of raising.

    Attributes:
        paths: The picture files in the order of the samples.
        yaws: `(P,)`, how many degrees each face is turned to a side, with its sign.
        scheme: The 68-point or the 21-point scheme.

    Raises:
        DatasetError: If pictures are missing or any file is broken; the message lists all of them.
        ImportError: If scipy is not installed.
        ValueError: If `subset` or `num_landmarks` is unknown.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        subset: Subset = "all",
        *,
        image_size: int = 256,
        num_landmarks: int = 68,
        decoding: Decoding | None = None,
        skip_broken: bool = False,
    ) -> None:
        check_choice("subset", subset, get_args(Subset))
        check_choice("num_landmarks", num_landmarks, (68, 21))
        root = Path(root)
        paths = pictures_with_mat(root)
        rows, unread = read_all(lambda path: _read_face(path, num_landmarks), paths)
        low, high = YAWS[subset]
        rows = [(face, yaw) for face, yaw in rows if low <= abs(yaw) < high]
        usable, broken = check_listed([face for face, _ in rows], decoding)
        kept = [row for row, good in zip(rows, usable, strict=True) if good]
        pictures = [face.picture for face, _ in kept]
        problems = count_problem(root, "pictures", len(paths), COUNT) + unread + broken
        report_problems(root, problems, len(pictures), skip_broken=skip_broken)
        super().__init__(
            pictures, image_size=image_size, num_landmarks=num_landmarks, decoding=decoding
        )
        self.yaws: Tensor = torch.tensor([yaw for _, yaw in kept])


def _read_face(path: Path, num_landmarks: int) -> tuple[ListedFace, float]:
    """Read what is annotated in a picture, and how far its face is turned, in degrees.

    Raises:
        DatasetError: If its `.mat` file is missing or broken.
    """
    file = path.with_suffix(".mat")
    name, shape = ("pt3d_68", (3, 68)) if num_landmarks == 68 else ("pt2d", (2, 21))
    values = read_numbers(file, {name: shape, "Pose_Para": (1, 7)})
    landmarks = values[name][:2].T.astype(np.float64)
    seen = ~(landmarks == -1).any(axis=1) if num_landmarks == 21 else np.full(68, fill_value=True)
    if not seen.any():
        message = (
            f"`{file}` must have a landmark that can be seen, but got none. Copy or download it "
            "again."
        )
        raise DatasetError(message)
    landmarks = np.where(seen[:, None], landmarks - 1, -1)
    picture = AnnotatedPicture(path, landmarks, landmark_box(landmarks[seen]), seen)
    return ListedFace(f"`{file}`", picture), math.degrees(values["Pose_Para"][0, 1])

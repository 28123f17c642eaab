"""300W-LP (Zhu et al. 2016): 300W's faces turned to large poses, one `.mat` file per picture.

Expected under the root: `AFW`, `HELEN`, `IBUG` and `LFPW`, each with `NAME.jpg` and `NAME.mat`, and
`landmarks/AFW/NAME_pts.mat` and so on with the annotations of Bulat and Tzimiropoulos (2017).
MATLAB wrote all of them, so pixels count from 1; 1 is subtracted here. The mirrored copies in the
folders `AFW_Flip` and so on are skipped: training mirrors pictures anyway.
"""

import os
from pathlib import Path
from typing import Literal, get_args

import numpy as np

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

__all__ = ["Faces300WLP"]

Split = Literal["all", "without-ibug"]
Points = Literal["auto", "pts_2d", "pts_3d", "pt2d"]

PART_COUNTS = {"AFW": 5207, "HELEN": 37676, "IBUG": 1786, "LFPW": 16556}


class Faces300WLP(CroppedPictures):
    """300W-LP with 68 landmarks: 61,225 faces.

    The face is cropped to the square around the tight box of its landmarks whose side is the
    box's diagonal.

    Args:
        root: The folder that holds `AFW`, `HELEN`, `IBUG` and `LFPW`.
        split: "all" (61,225), or "without-ibug" (59,439) if you test on the challenging part of
            300W, whose pictures are in `IBUG`.
        image_size: Side of the square samples, in pixels.
        points: Which annotation: "pts_2d" or "pts_3d" from the folder `landmarks`; "pt2d", the
            projected 3D model beside each picture; "auto" for "pts_2d" if that folder exists,
            otherwise "pt2d". In "pts_2d" the jaw follows the visible outline, as in 300W.
        decoding: What the picture files do not settle: orientation, channels, white, the size
            limit.
        skip_broken: Leave broken or missing files out, with one warning, instead of raising.

    Attributes:
        paths: The picture files in the order of the samples.
        scheme: The 68-point scheme.

    Raises:
        DatasetError: If pictures are missing or any file is broken; the message lists all of them.
        ImportError: If scipy is not installed.
        ValueError: If `split` or `points` is unknown.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split = "all",
        *,
        image_size: int = 256,
        points: Points = "auto",
        decoding: Decoding | None = None,
        skip_broken: bool = False,
    ) -> None:
        check_choice("split", split, get_args(Split))
        check_choice("points", points, get_args(Points))
        root = Path(root)
        if points == "auto":
            points = "pts_2d" if (root / "landmarks").is_dir() else "pt2d"
        parts = [part for part in PART_COUNTS if split == "all" or part != "IBUG"]
        paths: list[Path] = []
        problems: list[str] = []
        for part in parts:
            found = pictures_with_mat(root / part)
            problems += count_problem(root / part, "pictures", len(found), PART_COUNTS[part])
            paths += found
        faces, unread = read_all(lambda path: _read_face(root, path, points), paths)
        usable, broken = check_listed(faces, decoding)
        pictures = [face.picture for face, good in zip(faces, usable, strict=True) if good]
        problems += unread + broken
        report_problems(root, problems, len(pictures), skip_broken=skip_broken)
        super().__init__(pictures, image_size=image_size, num_landmarks=68, decoding=decoding)


def _read_face(root: Path, path: Path, points: Points) -> ListedFace:
    """Read what is annotated in a picture.

    Raises:
        DatasetError: If its `.mat` file is missing or broken.
    """
    file = path.with_suffix(".mat")
    if points == "pt2d":
        landmarks = read_numbers(file, {"pt2d": (2, 68)})["pt2d"].T
    else:
        file = root / "landmarks" / path.parent.name / f"{path.stem}_pts.mat"
        landmarks = read_numbers(file, {points: (68, 2)})[points]
    landmarks = landmarks.astype(np.float64) - 1
    return ListedFace(f"`{file}`", AnnotatedPicture(path, landmarks, landmark_box(landmarks)))

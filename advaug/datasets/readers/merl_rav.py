"""MERL-RAV (Kumar et al. 2020): AFLW with 68 landmarks that say what hides them.

Expected under the root: `frontal`, `left`, `lefthalf`, `right` and `righthalf`, each with
`trainset` and `testset`, in which every `.jpg` has a `.pts` file beside it. In such a `.pts` file

    x y      is a landmark that can be seen,
    -x -y    stands at x y behind a hand, hair or the like (externally occluded),
    -1 -1    is on the side of the face that is turned away (self-occluded), and has no place.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from advaug.datasets.crop import landmark_box
from advaug.datasets.pictures import AnnotatedPicture, CroppedPictures
from advaug.datasets.readers.listed import ListedFace, check_listed, read_all, require_one_of
from advaug.datasets.readers.pairs import FilePair, find_pairs, report_problems
from advaug.datasets.readers.pts import read_pts
from advaug.errors import DatasetError

__all__ = ["MerlRav", "read_occluded_pts"]

Split = Literal["train", "test", "all"]
POSES = ("frontal", "left", "lefthalf", "right", "righthalf")
POINTS = 68
NO_PLACE = -1.0  # in the file's own numbers


class MerlRav(CroppedPictures):
    """MERL-RAV with 68 landmarks, or any folder with `.pts` files of its kind.

    The face is cropped to the square around the tight box of the landmarks that have a place. A
    landmark without one is not `visible`; one that is hidden by something is `visible`, since a
    detector has to guess it. Both are `occluded`.

    Args:
        root: The folder that holds `frontal`, `left` and so on; for "all", any folder.
        split: "train" or "test" for the folders `trainset` and `testset`; "all" for all pictures
            at any depth.
        image_size: Side of the square samples, in pixels.
        skip_broken: Leave broken or missing files out, with one warning, instead of raising.

    Attributes:
        paths: The picture files in the order of the samples, sorted by their path.
        occluded: `(P, 68)` bool.
        scheme: The 68-point scheme.

    Raises:
        DatasetError: If a folder is missing or any file is broken; the message lists all of them.
        ValueError: If `split` is none of the above.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split = "train",
        *,
        image_size: int = 256,
        skip_broken: bool = False,
    ) -> None:
        require_one_of("split", split, get_args(Split))
        root = Path(root)
        folders = [root] if split == "all" else [root / pose / f"{split}set" for pose in POSES]
        pairs: list[FilePair] = []
        problems: list[str] = []
        for folder in folders:
            found, unpaired = _find(folder)
            pairs += found
            problems += unpaired
        faces, unread = read_all(_read_face, pairs)
        usable, broken = check_listed(faces)
        pictures = [face.picture for face, good in zip(faces, usable, strict=True) if good]
        problems += unread + broken
        report_problems(root, problems, len(pictures), skip_broken=skip_broken)
        super().__init__(pictures, image_size=image_size, num_landmarks=POINTS)


def read_occluded_pts(
    path: str | os.PathLike[str],
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Read a `.pts` file in which the signs say what is hidden.

    Args:
        path: The file.

    Returns:
        Landmarks `(N, 2)` in pixels, 0-based (-1 where they have no place); whether each has a
        place, `(N,)`; and whether something hides it, `(N,)`, which is so where it has no place.

    Raises:
        DatasetError: If the file is no `.pts` file, or x and y of a landmark differ in their sign.
    """
    written = read_pts(path) + 1
    placed = (written != NO_PLACE).any(axis=1)
    hidden: NDArray[np.bool_] = np.all(written < 0, axis=1)
    odd = np.flatnonzero((written < 0).any(axis=1) & ~hidden)
    if odd.size:
        message = (
            f"`{os.fspath(path)}` must have x and y of a landmark both positive or both negative, "
            f"but got {written[odd[0]].tolist()} at landmark {odd[0] + 1}. Correct the signs."
        )
        raise DatasetError(message)
    landmarks = np.where(placed[:, None], np.abs(written) - 1, NO_PLACE)
    return landmarks, placed, hidden


def _find(folder: Path) -> tuple[list[FilePair], list[str]]:
    """Match the files of a folder; that there is none is a problem."""
    if folder.is_dir():
        return find_pairs(folder)
    return [], [f"`{folder}` must be a folder, but got none. Unpack that part of the data set."]


def _read_face(pair: FilePair) -> ListedFace:
    """Read a `.pts` file.

    Raises:
        DatasetError: If it is broken, or has no landmark with a place.
    """
    landmarks, placed, hidden = read_occluded_pts(pair.pts)
    if len(landmarks) != POINTS or not placed.any():
        message = (
            f"`{pair.pts}` must have {POINTS} points, one with a place at least, but got "
            f"{len(landmarks)} and {int(placed.sum())} with a place. Correct or remove it."
        )
        raise DatasetError(message)
    picture = AnnotatedPicture(pair.picture, landmarks, landmark_box(landmarks[placed]), placed)
    return ListedFace(f"`{pair.pts}`", replace(picture, occluded=hidden))

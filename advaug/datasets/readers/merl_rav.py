"""MERL-RAV (Kumar et al. 2020): AFLW with 68 landmarks that say what hides them.

Expected under the root: `frontal`, `left`, `lefthalf`, `right` and `righthalf`, each with
`trainset` and `testset`, in which every `.jpg` has a `.pts` file beside it. In such a `.pts` file

    x y      is a landmark that can be seen,
    -x -y    is at x y behind a hand, hair or the like (externally occluded),
    -1 -1    is on the side of the face that is turned away (self-occluded), and has no position.
"""

import os
from pathlib import Path
from typing import Literal, get_args

from advaug.base.checks import check_choice
from advaug.datasets.crop import landmark_box
from advaug.datasets.decoding import Decoding
from advaug.datasets.pictures import AnnotatedPicture, CroppedPictures
from advaug.datasets.readers.checking import report_problems
from advaug.datasets.readers.listed import ListedFace, check_listed, read_all
from advaug.datasets.readers.pairs import FilePair, find_pairs
from advaug.datasets.readers.pts import read_pts
from advaug.errors import DatasetError

__all__ = ["MerlRav"]

Split = Literal["train", "test", "all"]
POSES = ("frontal", "left", "lefthalf", "right", "righthalf")
POINTS = 68


class MerlRav(CroppedPictures):
    """MERL-RAV with 68 landmarks, or any folder with `.pts` files of its kind.

    The face is cropped to the square around the tight box of the landmarks that have a position. A
    landmark without one is not `visible`; one that something hides is `visible`, because a detector
    has to guess it. Both are `occluded`.

    Args:
        root: The folder that holds `frontal`, `left` and so on; for "all", any folder.
        split: "train" or "test" for the folders `trainset` and `testset`; "all" for all pictures at
            any depth.
        image_size: Side of the square samples, in pixels.
        decoding: What the picture files do not settle: orientation, channels, white, the size
            limit.
        skip_broken: Leave broken or missing files out, with one warning, instead of raising.

    Attributes:
        paths: The picture files in the order of the samples, sorted by their path.
        occluded: `(P, 68)` bool.
        scheme: The 68-point scheme.

    Raises:
        DatasetError: If a folder is missing or any file is broken; the message lists all of them.
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
        root = Path(root)
        folders = [root] if split == "all" else [root / pose / f"{split}set" for pose in POSES]
        pairs: list[FilePair] = []
        problems: list[str] = []
        for folder in folders:
            found, unpaired = _find(folder)
            pairs += found
            problems += unpaired
        faces, unread = read_all(_read_face, pairs)
        usable, broken = check_listed(faces, decoding)
        pictures = [face.picture for face, good in zip(faces, usable, strict=True) if good]
        problems += unread + broken
        report_problems(root, problems, len(pictures), skip_broken=skip_broken)
        super().__init__(pictures, image_size=image_size, num_landmarks=POINTS, decoding=decoding)


def _find(folder: Path) -> tuple[list[FilePair], list[str]]:
    """Match the files of a folder; a missing folder is a problem."""
    if folder.is_dir():
        return find_pairs(folder)
    return [], [f"`{folder}` must be a folder, but got none. Unpack that part of the data set."]


def _read_face(pair: FilePair) -> ListedFace:
    """Read a `.pts` file.

    Raises:
        DatasetError: If it is broken, or has no landmark with a position.
    """
    landmarks, placed, hidden = read_pts(pair.pts, negative="occluded")
    if len(landmarks) != POINTS or not placed.any():
        message = (
            f"`{pair.pts}` must have {POINTS} points, one with a place at least, but got "
            f"{len(landmarks)} and {int(placed.sum())} with a place. Correct it, or remove "
            "it and its picture."
        )
        raise DatasetError(message)
    box = landmark_box(landmarks[placed])
    picture = AnnotatedPicture(pair.picture, landmarks, box, placed, occluded=hidden)
    return ListedFace(f"`{pair.pts}`", picture)

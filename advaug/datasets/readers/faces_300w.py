"""300W (Sagonas et al. 2013): the folders of the organisers, the usual splits, their boxes.

Expected under the root, with names in upper or lower case: `afw`, `helen/trainset`,
`helen/testset`, `lfpw/trainset`, `lfpw/testset`, `ibug`, and optionally `Bounding Boxes` with the
organisers' six `bounding_boxes_*.mat`. A split is a choice of folders; no list files are needed.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from advaug.base.checks import check_choice
from advaug.datasets.decoding import Decoding
from advaug.datasets.pictures import Box, CroppedPictures
from advaug.datasets.readers.checking import check_pairs, report_problems
from advaug.datasets.readers.mat import read_mat
from advaug.datasets.readers.pairs import FilePair, find_pairs, match_key
from advaug.errors import DatasetError

__all__ = ["Faces300W", "read_boxes"]

Split = Literal["train", "common", "challenging", "full", "helen", "helen-811", "lfpw"]
Boxes = Literal["auto", "detector", "landmarks"]

PART_COUNTS = {
    "afw": 337,
    "helen/trainset": 2000,
    "lfpw/trainset": 811,
    "helen/testset": 330,
    "lfpw/testset": 224,
    "ibug": 135,
}
SPLIT_PARTS: dict[Split, tuple[str, ...]] = {
    "train": ("afw", "helen/trainset", "lfpw/trainset"),
    "common": ("helen/testset", "lfpw/testset"),
    "challenging": ("ibug",),
    "full": ("helen/testset", "lfpw/testset", "ibug"),
    "helen": ("helen/trainset",),
    "helen-811": ("helen/trainset",),
    "lfpw": ("lfpw/trainset",),
}
WITHOUT_FILE = 'Pass `boxes="landmarks"` to do without that file, or move it away.'
# Table 9 of the paper trains on "HELEN (811 images)", but 811 is what LFPW has and HELEN has 2000.
HELEN_811 = 811


class Faces300W(CroppedPictures):
    """300W with 68 landmarks: 3148 pictures to train on, 554 common and 135 challenging to test on.

    The face is cropped to the square around its box whose side is the box's diagonal. The box is
    that of the organisers' detector (`bb_detector`), which the paper uses. Mirrored copies
    (`*_mirror.*`), which dlib's archive adds, are skipped.

    Table 9 of the paper trains on "HELEN (811 images)", which is ambiguous: HELEN has 2000 pictures
    to train on, and LFPW has 811. Each reading is a split.

    Args:
        root: The folder that holds `afw`, `helen`, `lfpw` and `ibug`.
        split: "train" (3148), "common" (554), "challenging" (135) or "full" (689); of the training
            pictures, "helen" (2000), "helen-811" (811 of those, evenly spread) or "lfpw" (811).
        image_size: Side of the square samples, in pixels.
        boxes: "detector" for the organisers' boxes, "landmarks" for the tight box of the landmarks,
            "auto" for the organisers' in every folder that has their `.mat` file. The organisers'
            boxes require scipy.
        decoding: What the picture files do not settle: orientation, channels, white, the size
            limit.
        skip_broken: Leave broken or missing files out, with one warning, instead of raising.

    Attributes:
        paths: The picture files in the order of the samples.
        scheme: The 68-point scheme.

    Raises:
        DatasetError: If pictures are missing or any file is broken; the message lists all of them
            and says how many pictures each folder has and should have.
        ValueError: If `split` or `boxes` is unknown.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split = "train",
        *,
        image_size: int = 256,
        boxes: Boxes = "auto",
        decoding: Decoding | None = None,
        skip_broken: bool = False,
    ) -> None:
        check_choice("split", split, get_args(Split))
        check_choice("boxes", boxes, get_args(Boxes))
        root = Path(root)
        pairs: list[FilePair] = []
        problems: list[str] = []
        for part in SPLIT_PARTS[split]:
            found, unpaired = _find_part(root, part)
            boxed, unboxed = _with_boxes(root, part, found, boxes)
            pairs += boxed
            problems += unpaired + unboxed
        if split == "helen-811":
            pairs = _spread(pairs, HELEN_811)
        pictures, broken = check_pairs(pairs, num_landmarks=68, decoding=decoding)
        report_problems(root, problems + broken, len(pictures), skip_broken=skip_broken)
        super().__init__(pictures, image_size=image_size, num_landmarks=68, decoding=decoding)


def _spread(pairs: list[FilePair], count: int) -> list[FilePair]:
    """Choose some pairs at even distances; all if there are no more."""
    count = min(count, len(pairs))
    return [pairs[place * len(pairs) // count] for place in range(count)]


def _find_part(root: Path, part: str) -> tuple[list[FilePair], list[str]]:
    """Match the files of one folder of 300W; too few or too many of them are a problem."""
    expected = PART_COUNTS[part]
    folder = _find_folder(root, part)
    if folder is None:
        return [], [
            f"`{root / part}` must have {expected} pictures, but got no such folder. "
            "Unpack that part of 300W there."
        ]
    pairs, problems = find_pairs(folder)
    pairs = [pair for pair in pairs if not match_key(pair.picture.name).endswith("_mirror")]
    if len(pairs) != expected:
        problems.append(
            f"`{folder}` must have {expected} pictures with a `.pts` file, but got {len(pairs)} of "
            f"{expected}. Unpack that part of 300W again."
        )
    return pairs, problems


def _find_folder(root: Path, part: str) -> Path | None:
    """Walk down `part` regardless of upper or lower case; the exact spelling goes first."""
    folder = root
    for name in part.split("/"):
        matches = [child for child in _folders(folder) if child.name.lower() == name]
        if not matches:
            return None
        folder = max(matches, key=lambda child: child.name == name)
    return folder


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []


def _with_boxes(
    root: Path, part: str, pairs: list[FilePair], boxes: Boxes
) -> tuple[list[FilePair], list[str]]:
    """Assign each pair the organisers' box; a picture missing from their file is a problem."""
    name = f"bounding_boxes_{part.replace('/', '_')}.mat"
    path = None if boxes == "landmarks" else _find_box_file(root, name)
    if path is None and boxes == "detector":
        message = (
            f"`{root}` must have `Bounding Boxes/{name}`, but got no such file. "
            'Unpack the organisers\' boxes there, or pass `boxes="landmarks"`.'
        )
        raise DatasetError(message)
    if path is None:
        return pairs, []
    by_key = read_boxes(path)
    boxed: list[FilePair] = []
    problems: list[str] = []
    for pair in pairs:
        box = by_key.get(match_key(pair.picture.name))
        if box is None:
            problems.append(
                f"`{pair.picture}` must have a box in `{path}`, but got none under its name. "
                f"{WITHOUT_FILE}"
            )
        else:
            boxed.append(replace(pair, box=box))
    return boxed, problems


def _find_box_file(root: Path, name: str) -> Path | None:
    """Look for a `.mat` file in `Bounding Boxes`, `bounding_boxes_...` and the like."""
    folders = [f for f in _folders(root) if match_key(f.name.lower()).startswith("bounding")]
    files = [file for folder in folders for file in sorted(folder.rglob("*.mat"))]
    return next((file for file in files if file.name.lower() == name), None)


def read_boxes(path: Path) -> dict[str, Box]:
    """Read the organisers' detector boxes, by the key of the picture's name; 0-based.

    The variable `bounding_boxes` is a row of cells, each a struct of `imgName`, `bb_detector` and
    `bb_ground_truth` (the tight box of the landmarks); boxes are `[xmin ymin xmax ymax]`, 1-based.
    """
    fix = f"Download it again. {WITHOUT_FILE}"
    rule = "be the organisers' file of boxes"
    boxes: dict[str, Box] = {}
    try:
        for record in read_mat(path, "bounding_boxes", rule=rule, fix=fix, instead=WITHOUT_FILE):
            x_min, y_min, x_max, y_max = np.ravel(record["bb_detector"]).astype(float) - 1
            box = (float(x_min), float(y_min), float(x_max), float(y_max))
            boxes[match_key(str(record["imgName"]))] = box
    except DatasetError:
        raise
    except (TypeError, KeyError, IndexError, ValueError, OverflowError) as error:  # another kind
        message = f"`{path}` must {rule}, but got {type(error).__name__}: {error}. {fix}"
        raise DatasetError(message) from error
    return boxes

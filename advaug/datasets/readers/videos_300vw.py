"""300VW (Shen et al. 2015): 114 videos of faces, annotated frame by frame with 68 landmarks.

Expected under the root: one folder per video, `001` to `562`. Each has one file per frame,
`annot/000001.pts` and so on, and the frames: either `vid.avi`, or pictures `000001.png` (or `.jpg`)
in another folder or beside `annot`, as `ffmpeg -i vid.avi frames/%06d.png` writes them. Pictures
are preferred: reading a random frame of a video decodes all frames since the last key frame.
"""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from PIL import Image

from advaug.base.checks import check_choice
from advaug.datasets.crop import landmark_box
from advaug.datasets.decoding import Decoding
from advaug.datasets.pictures import AnnotatedPicture, Box, read_picture
from advaug.datasets.readers.checking import geometry_problem, report_problems
from advaug.datasets.readers.listed import ListedFace, check_listed, read_all
from advaug.datasets.readers.pairs import PICTURE_SUFFIXES
from advaug.datasets.readers.people import require_numbers
from advaug.datasets.readers.pts import read_pts
from advaug.datasets.readers.video_frames import (
    FrameReader,
    VideoIndex,
    count_frames,
    index_video,
)
from advaug.datasets.stored import StoredPictures
from advaug.errors import DatasetError

__all__ = ["VIDEOS", "Videos300VW"]

Split = Literal["train", "category-1", "category-2", "category-3"]
_TRAIN = """
001 002 003 004 007 009 010 011 013 015 016 017 018 019 020 022 025 027 028 029 031 033 034 035 037
039 041 043 044 046 047 048 049 053 057 059 112 113 115 119 120 123 138 143 144 160 204 205 223 225
"""
_CATEGORY_1 = """
114 124 125 126 150 158 401 402 505 506 507 508 509 510 511 514 515 518 519 520 521 522 524 525 537
538 540 541 546 547 548
"""
_CATEGORY_2 = "203 208 211 212 213 214 218 224 403 404 405 406 407 408 409 412 550 551 553"
_CATEGORY_3 = "410 411 516 517 526 528 529 530 531 533 557 558 559 562"

VIDEOS: dict[Split, tuple[str, ...]] = {
    "train": tuple(_TRAIN.split()),
    "category-1": tuple(_CATEGORY_1.split()),
    "category-2": tuple(_CATEGORY_2.split()),
    "category-3": tuple(_CATEGORY_3.split()),
}
"""The organisers' training videos, and their three test categories, the third the hardest."""

POINTS = 68
AS_STORED = Decoding(orientation="stored")  # as whoever extracted the frames left them
COLUMNS = ("video", "frame", "x0", "y0", "x1", "y1")


class _Frame(NamedTuple):
    """A requested frame; `number` counts from 1, as the files' names do."""

    number: int
    pts: Path
    picture: Path  # the file that holds it
    video: VideoIndex | None  # None if the frame has its own file


class Videos300VW(StoredPictures):
    """300VW with 68 landmarks: 50 videos to train on; 31, 19 and 14 of categories 1 to 3 to test.

    A sample is a frame. The face is cropped to the square around its box whose side is the box's
    diagonal. Frames are decoded on access: in order, only the frame itself is decoded; for random
    order, extract them to pictures.

    Args:
        root: The folder that holds `001`, `002` and so on.
        split: "train" (50 videos), "category-1" (31), "category-2" (19) or "category-3" (14).
        image_size: Side of the square samples, in pixels.
        every: Use every n-th frame of each video, starting with the first.
        boxes: A csv file of boxes, such as a face detector's, with the columns video, frame (from
            1), x0, y0, x1, y1 in pixels from 0; None uses the tight box of the landmarks.
        skip_broken: Leave broken or missing videos and frames out, with one warning, instead of
            raising.

    Attributes:
        paths: The video of each sample, or its picture.
        scheme: The 68-point scheme.

    Raises:
        DatasetError: If a video is missing, its numbers of frames and annotations differ, or any
            file is broken; the message lists all of them.
        ImportError: If PyAV is not installed and a video is not extracted.
        ValueError: If `split` is unknown or `every` is not positive.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split = "train",
        *,
        image_size: int = 256,
        every: int = 1,
        boxes: str | os.PathLike[str] | None = None,
        skip_broken: bool = False,
    ) -> None:
        check_choice("split", split, get_args(Split))
        if every < 1:
            message = f"`every` must be 1 or more, but got {every}. Pass 1 for all frames."
            raise ValueError(message)
        root = Path(root)
        given = None if boxes is None else _read_boxes(Path(boxes))
        videos, problems = read_all(
            lambda name: _find_frames(root / name, every), list(VIDEOS[split])
        )
        frames = [frame for found, _ in videos for frame in found]
        problems += [problem for _, unequal in videos for problem in unequal]
        read, unread = read_all(lambda frame: (frame, _read_frame(frame, given, boxes)), frames)
        kept, broken = _check(read)
        report_problems(root, problems + unread + broken, len(kept), skip_broken=skip_broken)
        pictures = [face.picture for _, face in kept]
        super().__init__(pictures, image_size=image_size, num_landmarks=POINTS)
        self._frames = [frame for frame, _ in kept]
        self._reader = FrameReader()

    def picture(self, index: int) -> Image.Image:
        """Decode the whole frame of a sample, RGB.

        Raises:
            DatasetError: If the file is gone or has changed since the constructor read it.
        """
        frame = self._frames[index]
        if frame.video is None:
            return read_picture(frame.picture)
        return self._reader.read(frame.video, frame.number - 1)

    def name(self, index: int) -> str:
        """Say where the frame of a sample is: the picture, or the video and the frame's number."""
        return _name(self._frames[index])


def _name(frame: _Frame) -> str:
    path = str(frame.picture)
    return path if frame.video is None else f"{path}, frame {frame.number}"


def _find_frames(folder: Path, every: int) -> tuple[list[_Frame], list[str]]:
    """Return every n-th annotated frame of a video, and what does not match.

    Raises:
        DatasetError: If the video or its annotations are missing.
    """
    if not folder.is_dir():
        message = f"`{folder}` must be a folder of 300VW, but got none. Unpack that video there."
        raise DatasetError(message)
    annotations = {int(p.stem): p for p in folder.glob("annot/*.pts") if p.stem.isdecimal()}
    extracted = _extracted(folder)
    if extracted:
        video, numbers, source = None, set(extracted), next(iter(extracted.values())).parent
    else:
        source = folder / "vid.avi"
        video, num_frames = _index(source, len(annotations))
        numbers = set(range(1, num_frames + 1))
    problems = _unequal(source, folder / "annot", numbers, set(annotations))
    asked = range(1, max(numbers | set(annotations), default=0) + 1, every)
    frames = [
        _Frame(number, annotations[number], extracted.get(number, source), video)
        for number in asked
        if number in annotations and number in numbers
    ]
    return frames, problems


def _extracted(folder: Path) -> dict[int, Path]:
    """Return the pictures of frames that are already extracted, by their number."""
    for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        found = {
            int(path.stem): path
            for path in sorted(place.iterdir())
            if path.suffix.lower() in PICTURE_SUFFIXES and path.stem.isdecimal()
        }
        if found:
            return found
    return {}


def _index(path: Path, num_annotations: int) -> tuple[VideoIndex, int]:
    """Index a video, and count its frames the slow way if its packets do not match."""
    video = index_video(path)
    if video.num_frames == num_annotations:
        return video, num_annotations
    return video, count_frames(path)


def _unequal(source: Path, annot: Path, frames: set[int], annotations: set[int]) -> list[str]:
    """Say which frames lack an annotation, and which annotations lack a frame."""
    problems: list[str] = []
    if without := sorted(frames - annotations):
        problems.append(
            f"`{annot}` must have a `.pts` file for each of the {len(frames)} frames of "
            f"`{source}`, but got none for {_some(without)}. Unpack that video again."
        )
    if without := sorted(annotations - frames):
        problems.append(
            f"`{source}` must have a frame for each of the {len(annotations)} `.pts` files of "
            f"`{annot}`, but got none for {_some(without)}. Unpack that video again."
        )
    return problems


def _some(numbers: list[int]) -> str:
    shown = ", ".join(f"{number:06d}" for number in numbers[:5])
    return f"{shown} and {len(numbers) - 5} more" if len(numbers) > 5 else shown


def _read_boxes(path: Path) -> dict[tuple[str, int], Box]:
    """Read boxes by video and frame.

    Raises:
        DatasetError: If a line is broken; the message lists all of them.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"`{path}` must be a readable csv file, but got: {error}. Check the path."
        raise DatasetError(message) from error
    if missing := [name for name in COLUMNS if name not in columns]:
        message = (
            f"`{path}`, line 1, must name the columns {', '.join(COLUMNS)}, but got none for "
            f"{', '.join(missing)}. Add them."
        )
        raise DatasetError(message)
    boxes, problems = read_all(lambda row: _read_box(path, *row), rows)
    if problems:
        raise DatasetError("\n".join(problems), problems=problems)
    return dict(boxes)


def _read_box(path: Path, line: int, row: Mapping[str, str | None]) -> tuple[tuple[str, int], Box]:
    where = f"`{path}`, line {line}:"
    values = [row[name] for name in COLUMNS]
    numbers = require_numbers(f"{where} {', '.join(COLUMNS)}", values, len(COLUMNS)).tolist()
    x_min, y_min, x_max, y_max = numbers[2:]
    return (f"{int(numbers[0]):03d}", int(numbers[1])), (x_min, y_min, x_max, y_max)


def _read_frame(
    frame: _Frame,
    boxes: Mapping[tuple[str, int], Box] | None,
    source: str | os.PathLike[str] | None,
) -> ListedFace:
    """Read the annotation of a frame and find its box.

    Raises:
        DatasetError: If the annotation is broken, or there are boxes but none for it.
    """
    landmarks = read_pts(frame.pts, negative="position")
    if len(landmarks) != POINTS:
        message = (
            f"`{frame.pts}` must have {POINTS} points, but got {len(landmarks)}. "
            "Restore the file from the data set."
        )
        raise DatasetError(message)
    video = frame.pts.parent.parent.name
    box = landmark_box(landmarks) if boxes is None else boxes.get((video, frame.number))
    if box is None:
        message = (
            f"`{source}` must have a box for frame {frame.number} of video {video}, but got none. "
            "Add it, or pass `boxes=None` for those of the landmarks."
        )
        raise DatasetError(message)
    return ListedFace(f"`{frame.pts}`", AnnotatedPicture(frame.picture, landmarks, box))


def _check(
    read: list[tuple[_Frame, ListedFace]],
) -> tuple[list[tuple[_Frame, ListedFace]], list[str]]:
    """Check every face against its frame; pictures are decoded for it, videos are not."""
    stills = [row for row in read if row[0].video is None]
    usable, problems = check_listed([face for _, face in stills], AS_STORED)
    kept = [row for row, good in zip(stills, usable, strict=True) if good]
    for frame, face in read:
        if frame.video is None:
            continue
        problem = geometry_problem(face.picture, frame.video.size, frame.pts.name)
        if problem is None:
            kept.append((frame, face))
        else:
            problems.append(f"`{frame.pts}`: frame {frame.number} of {problem}")
    return sorted(kept, key=lambda row: row[0].pts), problems

"""COFW (Burgos-Artizzu et al. 2013), whose faces are occluded, and its 68-point re-annotation.

COFW's own files are in MATLAB's format 7.3: `COFW_train_color.mat` and `COFW_test_color.mat`, or
the grey ones without `_color`. In each, `IsTr`/`IsT` are the pictures, `phisTr`/`phisT` have 29 x,
29 y and 29 occlusion bits per face, `bboxesTr`/`bboxesT` left, top, width and height.

COFW68 (Ghiasi and Fowlkes 2015) adds to the test pictures `test_annotations/N_points.mat`, with
`Points` (68 x 2) and `Occ` (1 x 68), and `cofw68_test_bboxes.mat`, with boxes of a face detector.

Everything counts pixels from 1, and 1 is subtracted here.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advaug.base.checks import check_choice
from advaug.datasets.crop import landmark_box
from advaug.datasets.pictures import AnnotatedPicture, Box
from advaug.datasets.readers.checking import geometry_problem, report_problems
from advaug.datasets.readers.listed import count_problem, read_all
from advaug.datasets.readers.matlab import open_hdf5, read_numbers
from advaug.datasets.stored import StoredPictures
from advaug.errors import DatasetError
from advaug.schemes import FACE_29, FACE_68

if TYPE_CHECKING:
    import h5py

__all__ = ["Cofw", "Cofw68"]

Split = Literal["train", "test"]
Boxes = Literal["annotated", "landmarks"]

COUNTS: dict[Split, int] = {"train": 1345, "test": 507}
SUFFIXES: dict[Split, str] = {"train": "Tr", "test": "T"}


class _CofwPictures(StoredPictures):
    """What both annotations share: pictures inside one of COFW's files."""

    def __init__(
        self,
        path: Path,
        split: Split,
        found: list[tuple[int, AnnotatedPicture]],
        image_size: int,
        num_landmarks: int,
    ) -> None:
        pictures = [picture for _, picture in found]
        super().__init__(pictures, image_size=image_size, num_landmarks=num_landmarks)
        self._variable = f"Is{SUFFIXES[split]}"
        self._numbers = [number for number, _ in found]
        self._path = path

    def picture(self, index: int) -> Image.Image:
        """Read the whole picture of a sample, RGB.

        Raises:
            DatasetError: If the file is gone or has changed since the constructor read it.
        """
        # Opened each time: h5py's handles survive neither a fork nor a pickle.
        with open_hdf5(self._path) as file:
            pixels = _pixels(file, self._variable, self._numbers[index])
        return Image.fromarray(pixels).convert("RGB")

    def name(self, index: int) -> str:
        """Say where the picture of a sample is: the file and the number in it, from 1."""
        return f"{self._path}, {self._variable}{{{self._numbers[index] + 1}}}"


class Cofw(_CofwPictures):
    """COFW with 29 landmarks: 1345 faces to train on (500 of them occluded) and 507 to test on.

    The face is cropped to the square around its box whose side is the box's diagonal. Hidden
    landmarks are annotated where they must be: they stay `visible`, because a detector has to guess
    them, and `occluded` marks them. Both usual normalisers fit the scheme: the outer corners of the
    eyes ("inter_ocular") and the pupils ("inter_pupil").

    Args:
        root: The folder that holds COFW's `.mat` files, at any depth.
        split: "train" (1345) or "test" (507).
        image_size: Side of the square samples, in pixels.
        boxes: "annotated", or "landmarks" for the tight box of the landmarks.
        skip_broken: Leave broken faces out, with one warning, instead of raising.

    Attributes:
        paths: The `.mat` file, once per sample.
        occluded: `(P, 29)` bool.
        scheme: The 29-point scheme.

    Raises:
        DatasetError: If the file is missing or cannot be read, or faces are missing or broken; the
            message lists all of them by their number.
        ImportError: If h5py is not installed.
        ValueError: If `split` or `boxes` is unknown.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split = "train",
        *,
        image_size: int = 256,
        boxes: Boxes = "annotated",
        skip_broken: bool = False,
    ) -> None:
        check_choice("split", split, get_args(Split))
        check_choice("boxes", boxes, get_args(Boxes))
        root = Path(root)
        path = _find_pictures(root, split)
        faces, rectangles, problems = _read_file(path, split)
        count = FACE_29.num_landmarks
        points = np.stack([faces[:, :count], faces[:, count : 2 * count]], axis=2) - 1
        found: list[tuple[int, AnnotatedPicture]] = []
        for number, (landmarks, bits) in enumerate(zip(points, faces[:, 2 * count :], strict=True)):
            box = landmark_box(landmarks) if boxes == "landmarks" else _box(rectangles[number])
            picture = AnnotatedPicture(path, landmarks, box, occluded=bits > 0)
            found.append((number, picture))
        kept, broken = _check_stored(path, split, found)
        report_problems(root, problems + broken, len(kept), skip_broken=skip_broken)
        super().__init__(path, split, kept, image_size, count)


class Cofw68(_CofwPictures):
    """The 507 test pictures of COFW with 68 landmarks and occlusion (Ghiasi and Fowlkes 2015).

    The face is cropped to the square around its box whose side is the box's diagonal. Hidden
    landmarks stay `visible`; `occluded` marks them. The benchmark's own metric divides by the
    distance of the eyes' centres ("inter_pupil"), the paper by that of the outer corners of the
    eyes ("inter_ocular").

    Args:
        root: The folder that holds COFW's test pictures and the benchmark's
            `test_annotations` and `cofw68_test_bboxes.mat`, at any depth.
        image_size: Side of the square samples, in pixels.
        boxes: "annotated" for the benchmark's, or "landmarks" for the tight box of the landmarks.
        skip_broken: Leave broken faces out, with one warning, instead of raising.

    Attributes:
        paths: COFW's `.mat` file, once per sample.
        occluded: `(P, 68)` bool.
        scheme: The 68-point scheme.

    Raises:
        DatasetError: If a file is missing or broken; the message lists all of them.
        ImportError: If h5py or scipy is not installed.
        ValueError: If `boxes` is unknown.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        image_size: int = 256,
        boxes: Boxes = "annotated",
        skip_broken: bool = False,
    ) -> None:
        check_choice("boxes", boxes, get_args(Boxes))
        root = Path(root)
        path, count = _find_pictures(root, "test"), COUNTS["test"]
        annotations = _find(root, "test_annotations", "the benchmark's folder of annotations")
        rectangles = None
        if boxes == "annotated":
            file = _find(root, "cofw68_test_bboxes.mat", "the benchmark's boxes")
            rectangles = read_numbers(file, {"bboxes": (count, 4)})["bboxes"]

        def read(number: int) -> tuple[int, AnnotatedPicture]:
            file = annotations / f"{number + 1}_points.mat"
            values = read_numbers(file, {"Points": (68, 2), "Occ": (1, 68)})
            landmarks = values["Points"].astype(np.float64) - 1
            box = landmark_box(landmarks) if rectangles is None else _box(rectangles[number])
            occluded = values["Occ"].ravel() > 0
            return number, AnnotatedPicture(path, landmarks, box, occluded=occluded)

        found, problems = read_all(read, range(count))
        kept, broken = _check_stored(path, "test", found)
        report_problems(root, problems + broken, len(kept), skip_broken=skip_broken)
        super().__init__(path, "test", kept, image_size, FACE_68.num_landmarks)


def _find_pictures(root: Path, split: Split) -> Path:
    """Find COFW's file of pictures, preferably the one in colour."""
    try:
        return _find(root, f"COFW_{split}_color.mat", "COFW's pictures")
    except DatasetError:
        return _find(root, f"COFW_{split}.mat", f"COFW's pictures (or `COFW_{split}_color.mat`)")


def _find(root: Path, name: str, what: str) -> Path:
    found = next(iter(sorted(root.rglob(name))), None) if root.is_dir() else None
    if found is None:
        message = f"`{root}` must hold `{name}`, {what}, but got none. Unpack it there."
        raise DatasetError(message)
    return found


def _box(rectangle: NDArray[Any]) -> Box:
    """Convert left, top, width, height, counted from 1."""
    left, top, width, height = rectangle.astype(np.float64).tolist()
    return left - 1, top - 1, left - 1 + width, top - 1 + height


def _read_file(
    path: Path, split: Split
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Read the annotations `(P, 87)` and boxes `(P, 4)` of one of COFW's own files."""
    suffix = SUFFIXES[split]
    with open_hdf5(path) as file:
        faces = _table(file, path, f"phis{suffix}", 3 * FACE_29.num_landmarks)
        rectangles = _table(file, path, f"bboxes{suffix}", 4)
        pictures = _dataset(file, f"Is{suffix}").size
    # One number that is none breaks its face only, which `geometry_problem` then reports.
    faces[~np.isfinite(faces).all(axis=1)] = np.nan
    if not len(faces) == len(rectangles) == pictures:
        message = (
            f"`{path}` must have as many faces as pictures and boxes, but got {len(faces)}, "
            f"{pictures} and {len(rectangles)}. Copy or download it again."
        )
        raise DatasetError(message)
    return faces, rectangles, count_problem(path, "faces", len(faces), COUNTS[split])


def _dataset(file: "h5py.File", name: str) -> "h5py.Dataset":
    import h5py

    held = file.get(name)
    if not isinstance(held, h5py.Dataset):
        message = (
            f"`{file.filename}` must hold `{name}`, but got {', '.join(file) or 'nothing'}. "
            "Download COFW's own file."
        )
        raise DatasetError(message)
    return held


def _table(file: "h5py.File", path: Path, name: str, columns: int) -> NDArray[np.float64]:
    """Read a matrix with a row per face, which HDF5 stores as a column per face."""
    values = np.asarray(_dataset(file, name)[()], dtype=np.float64).T
    if values.ndim != 2 or values.shape[1] != columns:
        message = (
            f"`{path}` must hold `{name}`, {columns} numbers a face, but got an array of shape "
            f"{values.shape}. Copy or download it again."
        )
        raise DatasetError(message)
    return values


def _pixels(file: "h5py.File", variable: str, number: int) -> NDArray[np.uint8]:
    """Read a picture: `(H, W)` or `(H, W, 3)`, which HDF5 stores in the reverse order."""
    reference = _dataset(file, variable)[()].ravel()[number]
    pixels = np.asarray(file[reference]).T
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        message = (
            f"`{file.filename}`, {variable}{{{number + 1}}}, must be a picture of 8 bits, grey or "
            f"RGB, but got {pixels.dtype} of shape {pixels.shape}. Copy or download it again."
        )
        raise DatasetError(message)
    return np.ascontiguousarray(pixels)


def _check_stored(
    path: Path, split: Split, found: list[tuple[int, AnnotatedPicture]]
) -> tuple[list[tuple[int, AnnotatedPicture]], list[str]]:
    """Read every picture once and check its face against it; one message per broken one."""
    variable = f"Is{SUFFIXES[split]}"
    kept: list[tuple[int, AnnotatedPicture]] = []
    problems: list[str] = []
    for number, picture in found:
        problem = _stored_problem(path, variable, number, picture)
        if problem is None:
            kept.append((number, picture))
        else:
            problems.append(problem)
    return kept, problems


def _stored_problem(
    path: Path, variable: str, number: int, picture: AnnotatedPicture
) -> str | None:
    try:
        with open_hdf5(path) as file:
            height, width = _pixels(file, variable, number).shape[:2]
    except DatasetError as error:
        return f"{variable}{{{number + 1}}}: {error}"
    problem = geometry_problem(picture, (width, height), path.name)
    return None if problem is None else f"face {number + 1} in {problem}"

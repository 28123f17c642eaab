"""Picture files: read them as RGB, detect broken ones early, and provide cropped samples."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from advaug.datasets.crop import SquareCrop, crop_sample, require_image_size
from advaug.datasets.cut import CutSample, cut_square, request_reduced
from advaug.datasets.decoding import Decoding, decode, inspect_picture, opened, orientation_of
from advaug.datasets.sample import LandmarkSample
from advaug.errors import DatasetError
from advaug.schemes import SCHEMES, LandmarkScheme

__all__ = ["AnnotatedPicture", "CroppedPictures", "Decoding", "picture_size", "read_picture"]

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels of the picture, 0-based."""

_FACE_SCHEMES = {s.num_landmarks: s for s in SCHEMES.values() if s.eye_corners is not None}


def read_picture(path: str | os.PathLike[str], decoding: Decoding | None = None) -> Image.Image:
    """Read a picture as 8-bit RGB or grey, whatever its file holds.

    Palette, CMYK, 16-bit and floating-point pictures are converted; an alpha channel is dropped.
    Only regular files in a few well-known formats are opened.

    Args:
        path: The file.
        decoding: What the file does not settle; by default RGB, with the pixels as stored.

    Raises:
        DatasetError: If the file is not a complete picture, is too large, or has an unknown white
            level; the message names it.
    """
    decoding = decoding or Decoding()
    with opened(path, decoding) as image:
        return decode(image, decoding)


def picture_size(path: str | os.PathLike[str], decoding: Decoding | None = None) -> tuple[int, int]:
    """Return (width, height) of a picture after decoding all of it.

    Raises:
        DatasetError: As `read_picture`.
    """
    return inspect_picture(path, decoding or Decoding()).size


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture file and what is annotated in it, in its own pixels.

    Attributes:
        path: The file.
        landmarks: `(N, 2)`.
        box: Of the face or person.
        visible: `(N,)`, whether a landmark is annotated; None if all are.
        occluded: `(N,)`, whether something hides a landmark; None if unknown.
        size: (width, height) of the file when it was checked; None if it was not.
    """

    path: Path
    landmarks: NDArray[np.float64]
    box: Box
    visible: NDArray[np.bool_] | None = None
    occluded: NDArray[np.bool_] | None = field(default=None, kw_only=True)
    size: tuple[int, int] | None = field(default=None, kw_only=True)


class CroppedPictures(Dataset[LandmarkSample]):
    """Annotated pictures, each cropped to the square around its box on access.

    Attributes:
        paths: The picture files, in the order of the samples.
        scheme: What the landmarks mean, by their number; None if no face scheme has that many.
        occluded: `(P, N)` bool, which landmarks of each sample something hides; None if the dataset
            does not say.
    """

    def __init__(
        self,
        pictures: Sequence[AnnotatedPicture],
        *,
        image_size: int,
        num_landmarks: int,
        decoding: Decoding | None = None,
    ) -> None:
        require_image_size(image_size)
        self.paths: list[Path] = [picture.path for picture in pictures]
        self.scheme: LandmarkScheme | None = _FACE_SCHEMES.get(num_landmarks)
        self.occluded: Tensor | None = _stack_occluded(pictures)
        self._pictures = list(pictures)
        self._image_size = image_size
        self._decoding = decoding or Decoding()

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self._pictures)

    def __getitem__(self, index: int) -> LandmarkSample:
        """Read and crop one picture.

        Returns:
            The sample; `visible` is False for landmarks outside the crop or not annotated.
            `occluded` is set if the dataset has it.

        Raises:
            DatasetError: If the file is gone or has changed since the constructor read it.
        """
        picture = self._pictures[index]
        whole = self.picture(index)
        pixels, landmarks = crop_sample(whole, picture.landmarks, picture.box, self._image_size)
        # In NumPy: torch would wake its threads, which costs more than it saves for one picture.
        image = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
        occluded = None if self.occluded is None else self.occluded[index]
        return LandmarkSample(
            torch.from_numpy(image), *self._seen(picture, landmarks), occluded=occluded
        )

    def picture(self, index: int) -> Image.Image:
        """Read the whole picture of a sample, in RGB, or in grey if that was requested.

        Raises:
            DatasetError: As for the sample.
        """
        picture = self._pictures[index]
        whole = read_picture(picture.path, self._decoding)
        _require_size(picture, whole)
        return whole

    def annotated(self, index: int) -> AnnotatedPicture:
        """Return what is annotated in the picture of a sample, in that picture's own pixels."""
        return self._pictures[index]

    def name(self, index: int) -> str:
        """Say where the picture of a sample is, for tables and messages."""
        return str(self.paths[index])

    def crop(self, index: int) -> SquareCrop:
        """Return the crop of a sample, whose `to_picture` maps predictions to the original."""
        return SquareCrop.from_box(self._pictures[index].box, self._image_size)

    def annotation(self, index: int) -> tuple[Tensor, Tensor]:
        """Return `landmarks` and `visible` of a sample without reading its picture."""
        picture = self._pictures[index]
        return self._seen(picture, self.crop(index).to_crop(picture.landmarks))

    def cut(self, index: int) -> CutSample:
        """Read one picture and cut it around its square, which the device samples later.

        Returns:
            The same landmarks as those of the sample.

        Raises:
            DatasetError: As for the sample.
        """
        picture, crop = self._pictures[index], self.crop(index)
        with opened(picture.path, self._decoding) as image:
            # Only JPEG decodes fewer pixels, and only in the orientation in which they are stored.
            turned = self._decoding.orientation == "exif" and orientation_of(image) != 1
            reducible = image.format in ("JPEG", "MPO") and not turned
            if reducible:
                _require_size(picture, image)
                crop = request_reduced(image, crop)
            pixels = decode(image, self._decoding)
        if not reducible:
            _require_size(picture, pixels)
        return CutSample(*cut_square(pixels, crop), *self.annotation(index))

    def _seen(
        self, picture: AnnotatedPicture, landmarks: NDArray[np.float64]
    ) -> tuple[Tensor, Tensor]:
        """Map `landmarks`, already in the crop, and `visible` to the form of a sample."""
        # Pixel k covers k - 0.5 to k + 0.5.
        inside = ((landmarks >= -0.5) & (landmarks <= self._image_size - 0.5)).all(axis=1)
        if picture.visible is not None:
            inside &= picture.visible
        return torch.from_numpy(landmarks.astype(np.float32)), torch.from_numpy(inside)


def _stack_occluded(pictures: Sequence[AnnotatedPicture]) -> Tensor | None:
    """Return `(P, N)`; None if any picture lacks it."""
    known = [picture.occluded for picture in pictures if picture.occluded is not None]
    if not known or len(known) < len(pictures):
        return None
    return torch.from_numpy(np.stack(known))


def _require_size(picture: AnnotatedPicture, found: Image.Image) -> None:
    """Refuse a picture that has been replaced by one of another size since it was checked."""
    if picture.size in (None, found.size):
        return
    width, height = found.size
    msg = (
        f"`{picture.path}` must be {picture.size[0]} x {picture.size[1]}, as it was when the data "
        f"set was made, but got {width} x {height}. Make the data set again, or restore the file."
    )
    raise DatasetError(msg)

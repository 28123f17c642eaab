"""Annotated pictures that are no files of their own, but lie in a video or an archive."""

from abc import ABC, abstractmethod

from PIL import Image

from advaug.datasets.cut import CutSample, cut_square
from advaug.datasets.pictures import CroppedPictures

__all__ = ["StoredPictures"]


class StoredPictures(CroppedPictures, ABC):
    """Like `CroppedPictures`, with pictures that a subclass knows how to get.

    Attributes:
        paths: The file that holds the picture of each sample; one file holds many.
    """

    @abstractmethod
    def picture(self, index: int) -> Image.Image:
        """Read the whole picture of a sample, RGB.

        Raises:
            DatasetError: If the file that holds it has gone or changed.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """Say where the picture of a sample is: the file, and which of its pictures."""

    def cut(self, index: int) -> CutSample:
        """Read one picture and cut it around its square, which is left to the device."""
        cut = cut_square(self.picture(index), self.crop(index))
        return CutSample(*cut, *self.annotation(index))

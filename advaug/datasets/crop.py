"""From a face's box to a square picture, and from the square back to the original picture.

Landmarks and boxes have integers at pixel centres, so pixel 0 covers -0.5 to 0.5. Resampling
counts from the pixels' edges. `SquareCrop` is the one place where the two meet:
`x' = (x + 0.5 - left) * scale - 0.5`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

__all__ = ["SquareCrop", "crop_sample", "landmark_box", "square_box"]


@dataclass(frozen=True)
class SquareCrop:
    """A square of a picture, scaled to `image_size` pixels.

    Attributes:
        left: Left edge, in pixels of the original picture counted from its left edge.
        top: Top edge, counted from the picture's top edge in the same pixels.
        side: Side of the square, in pixels of the original picture.
        image_size: Side of the cropped picture, in its own pixels.
    """

    left: float
    top: float
    side: float
    image_size: int

    @classmethod
    def from_box(cls, box: ArrayLike, image_size: int) -> "SquareCrop":
        """Place the square: same centre as the box, side as long as the box's diagonal.

        Args:
            box: x_min, y_min, x_max, y_max in pixels of the picture, 0-based.
            image_size: Side of the cropped picture, in pixels.

        Raises:
            ValueError: If the box is empty or not finite, or `image_size` is not positive.
        """
        x_min, y_min, x_max, y_max = np.asarray(box, dtype=np.float64).tolist()
        side = math.hypot(x_max - x_min, y_max - y_min)
        # NaN fails every comparison, so it is refused here too.
        if not (x_max >= x_min and y_max >= y_min and 0 < side < math.inf):
            message = (
                "`box` must be x_min, y_min, x_max, y_max of a finite box that is not empty, but "
                f"got {[x_min, y_min, x_max, y_max]}. Check the order of the numbers."
            )
            raise ValueError(message)
        require_image_size(image_size)
        left = (x_min + x_max) / 2 + 0.5 - side / 2
        top = (y_min + y_max) / 2 + 0.5 - side / 2
        return cls(left, top, side, image_size)

    @property
    def scale(self) -> float:
        """Pixels of the cropped picture per pixel of the original."""
        return self.image_size / self.side

    def to_crop(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map points `(..., 2)` of the original picture to the cropped one."""
        corner = np.array([self.left, self.top])
        return (np.asarray(points, dtype=np.float64) + 0.5 - corner) * self.scale - 0.5

    def to_picture(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map points `(..., 2)` of the cropped picture, such as predictions, to the original."""
        corner = np.array([self.left, self.top])
        return (np.asarray(points, dtype=np.float64) + 0.5) / self.scale + corner - 0.5

    def resample(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Cut the square out of an RGB or grey picture: zero outside, bilinear, antialiased.

        Returns:
            `(image_size, image_size, C)` uint8, C being 3 or 1.
        """
        right, bottom = self.left + self.side, self.top + self.side
        x, y = math.floor(self.left), math.floor(self.top)
        # crop() cuts at whole pixels and fills with zero; resize() then samples the exact square,
        # with a filter that widens when it scales down.
        around = picture.crop((x, y, math.ceil(right), math.ceil(bottom)))
        square = (self.left - x, self.top - y, right - x, bottom - y)
        size = (self.image_size, self.image_size)
        pixels = np.array(around.resize(size, Image.Resampling.BILINEAR, box=square))
        return pixels if pixels.ndim == 3 else pixels[..., None]


def crop_sample(
    image: Image.Image, landmarks: ArrayLike, box: ArrayLike, image_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Crop a picture and its landmarks to the square around a box.

    Args:
        image: An RGB or grey picture.
        landmarks: `(N, 2)`, x then y, in pixels of the picture, 0-based.
        box: x_min, y_min, x_max, y_max in the same pixels.
        image_size: Side of the cropped picture, in pixels.

    Returns:
        The cropped picture, `(image_size, image_size, C)` uint8, and its landmarks, `(N, 2)`
        float64, in pixels of the cropped picture; those outside it are kept.

    Raises:
        ValueError: As `SquareCrop.from_box`.
    """
    crop = SquareCrop.from_box(box, image_size)
    return crop.resample(image), crop.to_crop(landmarks)


def landmark_box(landmarks: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Give the tight box of landmarks `(N, 2)`: x_min, y_min, x_max, y_max."""
    (x_min, y_min), (x_max, y_max) = landmarks.min(axis=0), landmarks.max(axis=0)
    return float(x_min), float(y_min), float(x_max), float(y_max)


def square_box(x: float, y: float, side: float) -> tuple[float, float, float, float]:
    """Return the box around a centre whose `SquareCrop` is `side` pixels wide.

    For data sets that give the size of the crop: `SquareCrop` uses the diagonal of a box.

    Args:
        x: Centre, in pixels of the picture, 0-based.
        y: Centre, in the same pixels.
        side: Side of the crop, in pixels of the picture.

    Returns:
        x_min, y_min, x_max, y_max.
    """
    half = side / math.sqrt(8)
    return x - half, y - half, x + half, y + half


def require_image_size(image_size: int) -> None:
    """Refuse a size that no picture has.

    Raises:
        ValueError: If `image_size` is less than one pixel.
    """
    if image_size < 1:
        message = f"`image_size` must be at least 1, but got {image_size}. Pass 256."
        raise ValueError(message)

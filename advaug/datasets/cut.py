"""A crop in two halves: a worker cuts bytes around the square, a device samples the exact square.

Together they give what `SquareCrop.resample` gives, within about one level of 255. The first half
decodes no more than is needed, so little data travels. The second half is two batched matrix
products.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from advaug.base.precision import full_precision
from advaug.datasets.crop import SquareCrop

__all__ = ["CutSample", "Cuts", "cut_square", "pack_cuts", "request_reduced", "resample_cuts"]

# After whole factors are removed, the device still scales down by at least this much. With less,
# the box filter of those factors would show.
LEAST_REST = 1.5
LARGEST_DRAFT = 8  # of JPEG


class CutSample(NamedTuple):
    """One picture's pixels around its square, with its landmarks.

    Attributes:
        pixels: `(h, w, C)` uint8, RGB or grey.
        square: left, top and side of the square, in pixels of `pixels` counted from its edges.
        landmarks: `(N, 2)` float32, x then y, in pixels of the square once it is scaled.
        visible: `(N,)` bool.
    """

    pixels: NDArray[np.uint8]
    square: tuple[float, float, float]
    landmarks: Tensor
    visible: Tensor


class Cuts(NamedTuple):
    """A batch of `CutSample`s on one canvas, ready to travel.

    Attributes:
        canvas: `(B, H, W, C)` uint8; each picture in the top left corner, zero beside it.
        geometry: `(B, 5)` float32: left, top and side of the square, width and height of the cut.
        landmarks: `(B, N, 2)` float32.
        visible: `(B, N)` bool.
    """

    canvas: Tensor
    geometry: Tensor
    landmarks: Tensor
    visible: Tensor


def request_reduced(image: Image.Image, crop: SquareCrop) -> SquareCrop:
    """Ask the decoder of a picture, opened but not loaded, for fewer pixels if that is enough.

    JPEG can decode at a half, a quarter or an eighth of its size, which is faster; others cannot.

    Returns:
        The same square in pixels of the picture that will be decoded.
    """
    factor = min(2 ** int(math.log2(_spare_factor(crop))), LARGEST_DRAFT)
    width, height = image.size
    # The last reduced pixels may extend beyond the picture, which shows where the square does too.
    inside = crop.left + crop.side <= width and crop.top + crop.side <= height
    if factor == 1 or not inside:
        return crop
    drafted = image.draft(image.mode, (max(width // factor, 1), max(height // factor, 1)))
    if drafted is None:
        return crop
    _, (_, _, reduced_width, _) = drafted
    return _reduced(crop, width / reduced_width)


def cut_square(
    picture: Image.Image, crop: SquareCrop
) -> tuple[NDArray[np.uint8], tuple[float, float, float]]:
    """Cut the whole pixels that hold the square, zero outside the picture, and reduce them.

    Args:
        picture: RGB or grey.
        crop: The square in its pixels.

    Returns:
        `pixels` and `square` of a `CutSample`.
    """
    factor = _spare_factor(crop)
    x, y = math.floor(crop.left), math.floor(crop.top)
    width = factor * math.ceil((crop.left + crop.side - x) / factor)
    height = factor * math.ceil((crop.top + crop.side - y) / factor)
    around = picture.crop((x, y, x + width, y + height))
    reduced = _reduced(replace(crop, left=crop.left - x, top=crop.top - y), factor)
    # reduce() takes the mean of blocks of pixels.
    pixels = np.asarray(around.reduce(factor) if factor > 1 else around)
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return pixels, (reduced.left, reduced.top, reduced.side)


def pack_cuts(samples: Sequence[CutSample]) -> Cuts:
    """Put samples on one canvas, as large as the largest of them needs."""
    sizes = [sample.pixels.shape[:2] for sample in samples]
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    canvas = np.zeros((len(samples), height, width, samples[0].pixels.shape[2]), np.uint8)
    for place, sample, (h, w) in zip(canvas, samples, sizes, strict=True):
        place[:h, :w] = sample.pixels
    geometry = [(*sample.square, w, h) for sample, (h, w) in zip(samples, sizes, strict=True)]
    return Cuts(
        torch.from_numpy(canvas),
        torch.tensor(geometry, dtype=torch.float32),
        torch.stack([sample.landmarks for sample in samples]),
        torch.stack([sample.visible for sample in samples]),
    )


@full_precision
def resample_cuts(canvas: Tensor, geometry: Tensor, image_size: int) -> Tensor:
    """Sample the exact squares of a canvas: bilinear, antialiased, on any device.

    The filter is that of `SquareCrop.resample`: a triangle as wide as two pixels of the coarser
    grid, cut off where the cut ends.

    Args:
        canvas: `(B, H, W, C)` uint8, as in `Cuts`.
        geometry: `(B, 5)`, as in `Cuts`.
        image_size: Side of the result, in pixels.

    Returns:
        `(B, C, image_size, image_size)` float32 in `[0, 1]`.
    """
    left, top, side, width, height = geometry.unbind(1)
    columns = _triangles(left, side, width, canvas.shape[2], image_size)
    rows = _triangles(top, side, height, canvas.shape[1], image_size)
    lines = torch.einsum("byh,bhwc->bywc", rows, canvas.to(rows.dtype) / 255)
    squares = torch.einsum("bxw,bywc->bcyx", columns, lines)
    # Weights sum to one except for rounding.
    return squares.clamp(0, 1).contiguous()


def _triangles(start: Tensor, side: Tensor, extent: Tensor, length: int, number: int) -> Tensor:
    """Weights `(B, number, length)` of a line's pixels for the pixels of its square."""
    scale = (side / number)[:, None, None]
    steps = torch.arange(number, dtype=start.dtype, device=start.device)[:, None] + 0.5
    pixels = torch.arange(length, dtype=start.dtype, device=start.device) + 0.5
    distance = (pixels - (start[:, None, None] + steps * scale)).abs()
    weights = (1 - distance / scale.clamp(min=1)).clamp(min=0)
    weights = weights * (pixels < extent[:, None, None])
    return weights / weights.sum(-1, keepdim=True)


def _spare_factor(crop: SquareCrop) -> int:
    """Whole factor by which the square can be reduced before it is resampled; 1 for none."""
    return max(int(crop.side / (LEAST_REST * crop.image_size)), 1)


def _reduced(crop: SquareCrop, factor: float) -> SquareCrop:
    return replace(crop, left=crop.left / factor, top=crop.top / factor, side=crop.side / factor)

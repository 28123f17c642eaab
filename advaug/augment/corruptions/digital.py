"""What files and screens do to a picture."""

import torch
from kornia.enhance import jpeg_codec_differentiable
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from advaug.augment.corruptions.scene import Scene

__all__ = ["jpeg", "pixelation"]


_CODED_SIDE = 64  # pixels of the face's square, as in a frame of a video call
_LARGEST_SCALE = 2.0  # a tiny face in a large photograph would take gigabytes


def jpeg(scene: Scene, quality: float) -> Tensor:
    """Compress at a face of 64 pixels, whatever the picture's own size, and scale back.

    Faces of less than 32 pixels are only doubled.
    """
    scale = min(_CODED_SIDE / scene.square.side, _LARGEST_SCALE)
    size = (max(1, round(scale * scene.size[0])), max(1, round(scale * scene.size[1])))
    small = _resized(scene.images, size)
    factor = torch.tensor([quality], dtype=small.dtype)
    # One by one: the codec's products of matrices round differently in batches of another size.
    coded = torch.cat([jpeg_codec_differentiable(picture, factor) for picture in small.split(1)])
    return _resized(coded, scene.size)


def pixelation(scene: Scene, cells: float) -> Tensor:
    """Average over squares, `cells` of them along a side of the face's square."""
    height, width = scene.size
    scale = cells / scene.square.side
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    small = adaptive_avg_pool2d(scene.images, (min(rows, height), min(columns, width)))
    return interpolate(small, scene.size, mode="nearest-exact")


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[-2:] == size:
        return images
    return interpolate(images, size, mode="bilinear", antialias=True)

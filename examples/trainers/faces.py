"""The data that the examples of this folder share: synthetic faces, with landmarks or heatmaps."""

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from advaug import encode_heatmaps
from advaug.datasets import SyntheticFaces


def faces(count: int, side: int = 64) -> tuple[Tensor, Tensor]:
    """Pictures `(count, 3, side, side)` in [0, 1], and landmarks `(count, 68, 2)` in pixels."""
    samples = [*SyntheticFaces(count, image_size=side)]
    images = torch.stack([sample.image for sample in samples])
    return images, torch.stack([sample.landmarks for sample in samples])


def faces_and_heatmaps(count: int, side: int = 64, stride: int = 2) -> TensorDataset:
    """Pairs of a picture `(3, side, side)` and heatmaps `(68, side / stride, side / stride)`."""
    images, landmarks = faces(count, side)
    size = (side // stride, side // stride)
    return TensorDataset(images, encode_heatmaps(landmarks, size, image_size=(side, side)))

"""The data that the examples of this folder share: synthetic faces and their heatmaps."""

import torch
from torch.utils.data import TensorDataset

from advaug import encode_heatmaps
from advaug.datasets import SyntheticFaces


def faces_and_heatmaps(count: int, side: int = 64, stride: int = 2) -> TensorDataset:
    """Pairs of a picture `(3, side, side)` and heatmaps `(68, side / stride, side / stride)`."""
    samples = [*SyntheticFaces(count, image_size=side)]
    images = torch.stack([sample.image for sample in samples])
    landmarks = torch.stack([sample.landmarks for sample in samples])
    size = (side // stride, side // stride)
    return TensorDataset(images, encode_heatmaps(landmarks, size, image_size=(side, side)))

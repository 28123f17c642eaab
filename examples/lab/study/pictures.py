"""Pictures in files of bytes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advaug.base.files import whole_file

__all__ = ["to_bytes", "write_pictures"]


def to_bytes(pictures: Tensor) -> Tensor:
    """Pictures `(B, 3, H, W)` in `[0, 1]` as uint8 on the CPU."""
    return (pictures.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def write_pictures(path: Path, pictures: Tensor) -> None:
    """Write a file of bytes that has its name only when it is whole."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, pictures.numpy())

"""Where in a picture the attacker may draw."""

import torch
from torch import Tensor, nn

from advaug.errors import ShapeError

__all__ = ["RandomRegions", "within"]


class RandomRegions(nn.Module):
    """Rectangles anywhere in each picture, new ones in every step.

    Not in the paper, whose attacker draws on the whole picture and soon draws much the same on
    every one. The detector memorises what repeats, and loses accuracy on clean pictures. In random
    regions the same attacker is an occluder that reveals as much as it hides, a different one in
    each step, and the rest of the picture stays true.

    Args:
        count: Rectangles in a picture; they may overlap.
        size: Smallest and largest side of a rectangle, as a fraction of the picture's side.

    Raises:
        ValueError: If an argument is out of its range.

    Shape:
        - images: `(B, C, H, W)`
        - returns: `(B, 1, H, W)`, 1 in the regions and 0 elsewhere
    """

    def __init__(self, count: int = 2, size: tuple[float, float] = (0.15, 0.5)) -> None:
        super().__init__()
        if count < 1:
            msg = f"`count` must be at least 1, but got {count}. For the whole picture use None."
            raise ValueError(msg)
        if not 0 < size[0] <= size[1] <= 1:
            msg = (
                f"`size` must be (smallest, largest) within (0, 1], but got {size}. Give fractions "
                "of the picture's side."
            )
            raise ValueError(msg)
        self.count = count
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Draw from PyTorch's global random state, which the adversary swaps for its own."""
        batch, _, height, width = images.shape
        least, most = self.size
        shape = (2, batch, self.count, 1, 1)
        sides = least + (most - least) * torch.rand(shape, device=images.device)
        centres = torch.rand(shape, device=images.device)
        (up, across), (y, x) = sides, centres
        rows = _middles(height, images).view(1, 1, -1, 1)
        columns = _middles(width, images).view(1, 1, 1, -1)
        covered = ((rows - y).abs() < up / 2) & ((columns - x).abs() < across / 2)
        return covered.any(dim=1, keepdim=True).to(images.dtype)


def within(regions: Tensor, perturbation: Tensor) -> Tensor:
    """The part of the perturbation that lies in the regions.

    Raises:
        ShapeError: If the regions are not the `(B, 1, H, W)` of the perturbation.
    """
    batch, _, height, width = perturbation.shape
    if regions.shape != (batch, 1, height, width):
        msg = (
            f"`regions` must give a map {(batch, 1, height, width)} for these pictures, but gave "
            f"{tuple(regions.shape)}. Give one map for each picture."
        )
        raise ShapeError(msg)
    return regions.to(perturbation.dtype) * perturbation


def _middles(count: int, like: Tensor) -> Tensor:
    """Where the pixels of a side lie, as fractions of it."""
    return (torch.arange(count, device=like.device) + 0.5) / count

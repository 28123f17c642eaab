"""A turn, a scale, a shift and a smooth warp of pictures; landmarks stay on their pixels."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from advaug.base.precision import full_precision

__all__ = ["NUMBERS", "Warp", "warp_of"]

# The ranges of the handcrafted augmentation.
ROTATION = math.radians(30)
SCALE = (0.885, 1.285)
TRANSLATION = 0.05  # of a side
# The smooth warp: half waves along and across, which leave the borders where they are.
WAVES = torch.tensor([(m, n) for m in (1, 2) for n in (0, 1, 2)])
STEEPEST = 0.25  # change of an offset per pixel, at most: it scales each part by 3/4 to 5/4
NUMBERS = 4 + 2 * len(WAVES)  # that make a warp
ROUNDS = 15  # until a landmark is found to 1e-4 px: each leaves less than half of the error


class Warp(NamedTuple):
    """One map for each picture, from the warped picture's pixels to those of the original.

    Attributes:
        turn: `(B, 2, 2)`: rotates and scales landmarks about the centre.
        shift: `(B, 1, 2)`, in pixels.
        waves: `(B, 2, 1, K)`: heights of the waves in pixels, of x and y.
        size: `(height, width)` of the pictures.
    """

    turn: Tensor
    shift: Tensor
    waves: Tensor
    size: tuple[int, int]

    def images(self, images: Tensor) -> Tensor:
        """Warp pictures `(B, C, H, W)`; what comes from outside is black, as in `move`."""
        height, width = self.size
        y, x = torch.meshgrid(
            torch.arange(height, device=images.device),
            torch.arange(width, device=images.device),
            indexing="ij",
        )
        pixels = torch.stack([x, y], dim=-1).reshape(1, -1, 2).to(self.shift)
        extent = pixels.new_tensor([width, height])
        places = (2 * self.sources(pixels) + 1) / extent - 1
        grid = places.view(-1, height, width, 2)
        return grid_sample(images.to(grid.dtype), grid, align_corners=False)

    @full_precision
    def sources(self, points: Tensor) -> Tensor:
        """Where points `(B, P, 2)` of the warped pictures come from, likewise."""
        centre = self._centre(points)
        # Of a rotation by a scale: the inverse is the transpose over the scale's square.
        back = self.turn / self.turn.square().sum(dim=1, keepdim=True)
        return (points - centre - self.shift) @ back + centre + self._offsets(points)

    @full_precision
    def landmarks(self, landmarks: Tensor) -> Tensor:
        """Where landmarks `(B, N, 2)` of the original lie in the warped pictures.

        The inverse of `sources`, found by a contraction: the waves are flat enough for any scale.
        """
        centre, found = self._centre(landmarks), landmarks
        for _ in range(ROUNDS):
            straight = landmarks - self._offsets(found)
            found = (straight - centre) @ self.turn.mT + centre + self.shift
        return found

    def _centre(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.size[1] - 1, self.size[0] - 1]) / 2

    def _offsets(self, points: Tensor) -> Tensor:
        """How far the waves move points `(B, P, 2)`, likewise."""
        along, across = (math.pi * WAVES.to(points)).unbind(1)
        unit = (points + 0.5) / points.new_tensor([self.size[1], self.size[0]])
        x, y = unit[..., :1], unit[..., 1:]
        moves = [
            (height * (along * one).sin() * (across * other).cos()).sum(dim=-1)
            for height, one, other in zip(self.waves.unbind(1), (x, y), (y, x), strict=True)
        ]
        return torch.stack(moves, dim=-1)


def warp_of(numbers: Tensor, size: tuple[int, int]) -> Warp:
    """The warp that numbers stand for; any of them is allowed.

    Args:
        numbers: `(B, NUMBERS)` in `[-1, 1]`: of the rotation, the scale, both shifts and the waves.
        size: `(height, width)` of the pictures.
    """
    angle, growth = ROTATION * numbers[:, 0], numbers[:, 1]
    low, high = math.log(SCALE[0]), math.log(SCALE[1])
    scale = ((low + high + (high - low) * growth) / 2).exp()
    cos, sin = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
    sides = numbers.new_tensor([size[1], size[0]])
    # All waves at their highest have the steepest slope together.
    heights = STEEPEST / (math.pi * len(WAVES) * WAVES.sum(dim=1).to(numbers))
    waves = numbers[:, 4:].view(-1, 2, 1, len(WAVES)) * heights * sides.view(2, 1, 1)
    return Warp(turn, TRANSLATION * sides * numbers[:, None, 2:4], waves, size)

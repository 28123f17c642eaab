"""PRIME: random filters, colour maps and small warps of maximum entropy, mixed."""

import math

import torch
from kornia.filters import filter2d
from torch import Tensor, nn

from advaug.augment._geometry import displace
from advaug.base.checks import check_unit_pictures, check_within
from advaug.base.precision import full_precision
from advaug.baselines._photometric import AugMix

__all__ = ["PRIME"]

# As published for ImageNet.
FILTER_SIDE = 3
FILTER_STRENGTH = 4.0
COLOUR_VARIANCE = 0.05
COLOUR_WAVES = 20
HIGHEST_WAVE = 500


class PRIME(nn.Module):
    """Mix each picture with three chains of random filters, colour maps and warps.

    A. Modas et al., "PRIME: A Few Primitives Can Boost Robustness to Common Corruptions", ECCV
    2022. Each primitive has maximum entropy among the changes that are as smooth and as strong. A
    chain has one to three of them. The chains are mixed with Dirichlet weights, and the mix with
    the picture by a uniform weight. Every picture draws all of it for itself.

    Where we differ: the published warps move pixels by up to a sixth of the picture's side, and a
    mix of a warped and an unwarped face has no true landmarks. Here the landmarks stay where they
    are, so warps are limited to `warp`. The identity of a filter is at its centre.

    Use it on your own pictures like `RandomAppearance`, or as `SecondCopy.prime(task)`. It draws
    from PyTorch's global random state.

    Args:
        warp: Largest root mean square displacement of a warp, as a part of the picture's shorter
            side. The default is half a pixel at 64 pixels.

    Raises:
        ValueError, TypeError: If `warp` is not within [0, 1]; in the call, if pictures are not
            floating point or, on a CPU, not in `[0, 1]`.

    Shape:
        - images: `(B, 3, H, W)` in `[0, 1]`
        - returns: the same
    """

    def __init__(self, *, warp: float = 1 / 128) -> None:
        super().__init__()
        check_within(0, 1, warp=warp)
        self.warp = warp
        self._mix = AugMix([random_filter, random_colours, self._warped])

    @full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Return changed pictures; the given ones stay as they are."""
        check_unit_pictures(images)
        return self._mix(images)

    def _warped(self, images: Tensor) -> Tensor:
        return random_warp(images, self.warp)


def random_filter(images: Tensor) -> Tensor:
    """The identity plus a 3 x 3 filter of normal values, of a strength drawn for each picture."""
    count = len(images)
    kernel = torch.randn(count, FILTER_SIDE, FILTER_SIDE, device=images.device)
    kernel *= FILTER_STRENGTH * torch.rand(count, 1, 1, device=images.device)
    kernel[:, FILTER_SIDE // 2, FILTER_SIDE // 2] += 1
    return filter2d(images, kernel.to(images.dtype))


def random_colours(images: Tensor) -> Tensor:
    """Each value plus a random sum of sines of it, `x + sum_k b_k sin(k pi x)`.

    The frequencies are 20 neighbours, drawn for each picture; the weights are drawn for each
    channel.
    """
    shape = (len(images), images.shape[1], 1, 1)
    lowest = torch.randint(1, HIGHEST_WAVE + 1, (len(images), 1, 1, 1), device=images.device)
    variance = COLOUR_VARIANCE * torch.rand_like(images[:, :1, :1, :1])
    angle = math.pi * images
    # sin((k + 1) a) = 2 cos(a) sin(k a) - sin((k - 1) a): three trigonometric maps instead of 20.
    previous, wave, turn = ((lowest - 1) * angle).sin(), (lowest * angle).sin(), 2 * angle.cos()
    for step in range(COLOUR_WAVES):
        used = lowest + step <= HIGHEST_WAVE
        weight = torch.randn(shape, device=images.device) * variance.sqrt() * used
        images = images + weight.to(images.dtype) * wave
        previous, wave = wave, turn * wave - previous
    return images


def random_warp(images: Tensor, most: float) -> Tensor:
    """Move pixels by a random sum of sine modes, which is zero at the border.

    A picture draws its highest frequency, then the root mean square displacement, evenly up to the
    smaller of `most` and the limit at which nothing folds.

    Args:
        images: `(B, C, H, W)`.
        most: Largest root mean square displacement, as a part of the shorter side.
    """
    count, (height, width) = len(images), images.shape[-2:]
    side = min(height, width)
    modes = max(2, side // 2)
    order = torch.arange(1, modes + 1, dtype=images.dtype, device=images.device)
    radius = torch.hypot(order[:, None], order)
    highest = torch.randint(2, modes + 1, (count, 1, 1, 1), device=images.device)
    weights = torch.randn(count, 2, modes, modes, device=images.device).to(images.dtype)
    weights = weights / radius * (radius <= highest + 0.5)
    down, across = (_sines(order, length) for length in (height, width))
    field = down.T @ weights @ across
    field = field / field.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    limit = (1 / (math.pi * highest)).clamp(max=most) * side  # pixels
    offsets = limit * torch.rand_like(field[:, :1, :1, :1]) * field
    return displace(images, offsets)


def _sines(order: Tensor, length: int) -> Tensor:
    """`(modes, length)`: the sine modes of a side, zero at its two ends."""
    places = (torch.arange(length, dtype=order.dtype, device=order.device) + 0.5) / length
    return (math.pi * order[:, None] * places).sin()

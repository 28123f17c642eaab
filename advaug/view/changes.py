"""What the world does to a picture: random changes that leave every landmark where it is.

A mixing attacker chooses where each of them shows. All map pictures `(B, C, H, W)` in `[0, 1]` to
the same, compute in float32 or wider, and draw for each picture from PyTorch's global random
state, which the adversary swaps for its own. Gradients flow through them to the pictures.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from advaug.base.precision import full_precision
from advaug.view.appearance import blurred

__all__ = ["CHANGES", "Change", "another", "blur", "colour", "cover", "light", "noise"]

Change = Callable[[Tensor], Tensor]

LATTICE = 4  # values per side of a smooth field
DARKEST = 1e-3  # below it a power of a value has no useful gradient


@full_precision
def light(images: Tensor) -> Tensor:
    """Multiply by a smooth field of light: shade here, glare there."""
    depth = _uniform(images, 0.4, 1.2)
    return (images * (depth * _field(images, 1)).exp()).clamp(0, 1)


@full_precision
def colour(images: Tensor) -> Tensor:
    """Change saturation, gamma, and the gain of each channel."""
    grey = images.mean(dim=1, keepdim=True)
    changed = torch.lerp(grey, images, _uniform(images, 0, 2)).clamp(DARKEST, 1)
    gamma, gain = _uniform(images, -0.8, 0.8).exp(), _uniform(images, -0.7, 0.7, images.shape[1])
    return (changed**gamma * gain.exp()).clamp(0, 1)


@full_precision
def blur(images: Tensor) -> Tensor:
    """Blur with a Gaussian whose deviation is 1/64 to 1/16 of the longer side."""
    longer = max(images.shape[-2:])
    deviation = _uniform(images, longer / 64, longer / 16).flatten(1)
    return blurred(images, deviation, longer / 16).clamp(0, 1)


@full_precision
def noise(images: Tensor) -> Tensor:
    """Add Gaussian noise with a deviation of 0.05 to 0.4."""
    return (images + _uniform(images, 0.05, 0.4) * torch.randn_like(images)).clamp(0, 1)


@full_precision
def cover(images: Tensor) -> Tensor:
    """Show something else instead: a softly shaded colour, smooth or rough."""
    channels = images.shape[1]
    surface = _uniform(images, 0, 1, channels) + 0.2 * _field(images, channels)
    rough = _uniform(images, 0, 0.3) * (_uniform(images, 0, 1) < 0.5)
    return (surface + rough * torch.randn_like(images)).clamp(0, 1)


@full_precision
def another(images: Tensor) -> Tensor:
    """Show the batch's next picture, upside down.

    It has the texture of another face, but not a second face with its own landmarks.
    """
    return images.roll(1, dims=0).flip(-2).clamp(0, 1)


CHANGES: tuple[Change, ...] = (light, colour, blur, noise, cover, another)
"""All of them."""


def _uniform(images: Tensor, low: float, high: float, channels: int = 1) -> Tensor:
    """`(B, channels, 1, 1)`, drawn for each picture."""
    drawn = torch.rand((len(images), channels, 1, 1), device=images.device)
    return (low + (high - low) * drawn).to(images.dtype)


def _field(images: Tensor, channels: int) -> Tensor:
    """`(B, channels, H, W)`: smooth, about normal at each place."""
    lattice = torch.randn((len(images), channels, LATTICE, LATTICE), device=images.device)
    size = (images.shape[-2], images.shape[-1])
    return interpolate(lattice.to(images.dtype), size, mode="bicubic", align_corners=True)

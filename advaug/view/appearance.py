"""What happens to a picture between the attacker and the detector."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from advaug.base.checks import check_unit_pictures
from advaug.base.precision import full_precision
from advaug.errors import ShapeError

__all__ = ["RandomAppearance", "blurred", "seen_as"]


class RandomAppearance(nn.Module):
    """Random cover, blur, noise, contrast, light and shade, through which gradients flow.

    Not in the paper, whose attacker works on the exact pixels that the detector gets, so what it
    draws may depend on their values. Under random light, only what still works when it is darker,
    softer or noisier remains an attack: the expectation over transformations of A. Athalye et al.,
    "Synthesizing robust adversarial examples", ICML 2018. Part of the picture is also hidden, as by
    random erasing (Z. Zhong et al., AAAI 2020), because an attacker that paints on a picture hides
    little of it. Where we differ: the rectangle is tilted, and is filled with one softly shaded
    colour as often as with noise, as real things in front of a face are. Pixels do not move, so
    landmarks hold.

    Args:
        cover: Smallest and largest side of the rectangle that hides a part of every sample, as a
            fraction of the picture's longer side; None for no cover.
        probability: Probability of each of the five changes below, per sample.
        exposure: Smallest and largest factor of all values, drawn evenly on a log scale.
        contrast: Smallest and largest factor about the picture's mean.
        shade: How much of the light the darkest side shade removes, in `[0, 1]`.
        blur: Largest standard deviation of the Gaussian blur, as a fraction of the picture's side.
        noise: Largest standard deviation of the Gaussian noise.
        clamp: Whether what comes out is clamped to `[0, 1]`, as a camera gives pictures and as
            everything in this library expects them. False for the adversary's own use between
            attacker and detector, where a clamped pixel would teach the attacker nothing.

    Raises:
        ValueError, TypeError: If an argument is out of its range; in the call, if pictures to be
            clamped are not floating point or, on a CPU, far outside `[0, 1]`.

    Shape:
        - images: `(B, C, H, W)` in about `[0, 1]`
        - returns: the same
    """

    def __init__(
        self,
        *,
        cover: tuple[float, float] | None = (0.2, 0.75),
        probability: float = 0.5,
        exposure: tuple[float, float] = (0.3, 1.6),
        contrast: tuple[float, float] = (0.3, 1.5),
        shade: float = 0.9,
        blur: float = 0.025,
        noise: float = 0.12,
        clamp: bool = True,
    ) -> None:
        super().__init__()
        for name, value in {"probability": probability, "shade": shade}.items():
            if not 0 <= value <= 1:
                msg = f"`{name}` must be within [0, 1], but got {value}. Use 0 for none."
                raise ValueError(msg)
        if cover is not None and not 0 < cover[0] <= cover[1] <= 1:
            msg = (
                f"`cover` must be (smallest, largest) within (0, 1], but got {cover}. For no cover "
                "use None."
            )
            raise ValueError(msg)
        for name, (least, most) in {"exposure": exposure, "contrast": contrast}.items():
            if not 0 < least <= most:
                msg = (
                    f"`{name}` must be (smallest, largest) above 0, but got {(least, most)}. Use "
                    "(1, 1) for none."
                )
                raise ValueError(msg)
        for name, value in {"blur": blur, "noise": noise}.items():
            if not value >= 0:
                msg = f"`{name}` must be at least 0, but got {value}. Use 0 for none."
                raise ValueError(msg)
        self.cover = cover
        self.probability = probability
        self.exposure = exposure
        self.contrast = contrast
        self.shade = shade
        self.blur = blur
        self.noise = noise
        self.clamp = clamp

    @full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Draw from PyTorch's global random state, which the adversary swaps for its own."""
        if self.clamp:
            check_unit_pictures(images, beyond=1.0)  # an attacked picture leaves [0, 1] so far
        if self.cover is not None:
            images = _covered(images, *self.cover)
        if self.blur > 0:
            images = self._blurred(images)
        # Before the light changes: the noise would otherwise drown what is dark.
        deviation = self._draw(images, 0.0, self.noise, neutral=0.0)
        images = images + deviation * torch.randn_like(images)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = mean + (images - mean) * self._draw(images, *self.contrast, neutral=1.0)
        low, high = map(math.log, self.exposure)
        images = images * self._draw(images, low, high, neutral=0.0).exp()
        images = images * self._light_from_a_side(images)
        return images.clamp(0, 1) if self.clamp else images

    def _draw(self, images: Tensor, low: float, high: float, *, neutral: float) -> Tensor:
        """A value for each sample, `(B, 1, 1, 1)`; the neutral one where nothing happens."""
        happens, where = torch.rand((2, len(images), 1, 1, 1), device=images.device)
        value = low + (high - low) * where
        return torch.where(happens < self.probability, value, neutral).to(images.dtype)

    def _light_from_a_side(self, images: Tensor) -> Tensor:
        """Factors `(B, 1, H, W)` that fall off softly across the picture, in any direction."""
        depth = self._draw(images, 0.0, self.shade, neutral=0.0)
        angle = 2 * math.pi * torch.rand_like(depth)
        y, x = (torch.linspace(-1, 1, side, device=images.device) for side in images.shape[-2:])
        across = angle.cos() * x + angle.sin() * y[:, None]
        return 1 - depth * torch.sigmoid(4 * across)

    def _blurred(self, images: Tensor) -> Tensor:
        most = self.blur * max(images.shape[-2:])
        return blurred(images, self._draw(images, 0.0, most, neutral=0.0).flatten(1), most)


def blurred(images: Tensor, deviation: Tensor, most: float) -> Tensor:
    """Blur each picture with a different Gaussian, without waiting for the device.

    Uses products of matrices: on an accelerator a wide depthwise kernel takes many times as long,
    above all backward.

    Args:
        images: `(B, C, H, W)`.
        deviation: `(B, 1)`, in pixels.
        most: The largest deviation possible, in pixels.
    """
    radius = min(math.ceil(2.5 * most), min(images.shape[-2:]) - 1)
    deviation = deviation.clamp(min=0.1).view(-1, 1, 1, 1)
    rows, columns = (_gaussian(deviation, radius, side) for side in images.shape[-2:])
    return rows @ images @ columns.transpose(-1, -2)


def _gaussian(deviation: Tensor, radius: int, side: int) -> Tensor:
    """`(B, 1, side, side)`: blurs along a side, which is mirrored at its end pixels."""
    place = torch.arange(side, device=deviation.device)
    steps = torch.arange(-radius, radius + 1, device=deviation.device)
    total = _bell(steps, deviation, radius).sum(dim=-1, keepdim=True)
    end = side - 1
    to, source = place[:, None], place
    matrix = _bell(source - to, deviation, radius)
    matrix = matrix + torch.where(source > 0, _bell(source + to, deviation, radius), 0.0)
    mirrored = _bell(2 * end - source - to, deviation, radius)
    return (matrix + torch.where(source < end, mirrored, 0.0)) / total


def _bell(distance: Tensor, deviation: Tensor, radius: int) -> Tensor:
    within = distance.abs() <= radius
    return torch.where(within, torch.exp(-0.5 * (distance / deviation) ** 2), 0.0)


def _covered(images: Tensor, least: float, most: float) -> Tensor:
    """A tilted rectangle in front of each picture, of any colour, smooth or rough."""
    height, width = images.shape[-2:]
    longer = max(height, width)
    middle_y, middle_x = _uniform(images, 0, height), _uniform(images, 0, width)
    angle = _uniform(images, 0, math.pi)
    y = torch.arange(height, device=images.device).view(-1, 1) + 0.5 - middle_y
    x = torch.arange(width, device=images.device) + 0.5 - middle_x
    along, across = angle.cos() * y + angle.sin() * x, angle.cos() * x - angle.sin() * y
    half_along, half_across = (_uniform(images, least, most) * longer / 2 for _ in range(2))
    # In pixels from the edge, inwards; within half a pixel of it the cover is half transparent.
    depth = torch.minimum(half_along - along.abs(), half_across - across.abs())
    opacity = (depth + 0.5).clamp(0, 1)
    shade = (_uniform(images, -0.6, 0.6) * along + _uniform(images, -0.6, 0.6) * across) / longer
    rough = _uniform(images, 0, 0.4) * (_uniform(images, 0, 1) < 0.5)
    colour = _uniform(images, 0, 1, channels=images.shape[1]) + shade
    colour = (colour + rough * torch.randn_like(images)).clamp(0, 1)
    return torch.lerp(images, colour.to(images.dtype), opacity.to(images.dtype))


def _uniform(images: Tensor, low: float, high: float, *, channels: int = 1) -> Tensor:
    """`(B, channels, 1, 1)`, drawn for each sample."""
    drawn = torch.rand((len(images), channels, 1, 1), device=images.device)
    return low + (high - low) * drawn


def seen_as(appearance: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The pictures as the detector sees them.

    Raises:
        ShapeError: If the appearance changes their shape.
    """
    seen = appearance(images.clone())  # its own: it may work in place
    if seen.shape != images.shape:
        msg = (
            f"`appearance` must give pictures {tuple(images.shape)}, as it gets them, but gave "
            f"{tuple(seen.shape)}. Resize in the detector instead."
        )
        raise ShapeError(msg)
    return seen

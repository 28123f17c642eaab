"""What happens to a picture between the attacker and the detector."""

import math
from collections.abc import Callable

import torch
from kornia.filters import filter2d_separable
from torch import Tensor, nn

from advaug._precision import full_precision
from advaug.errors import ShapeError

__all__ = ["RandomAppearance", "seen_as"]


class RandomAppearance(nn.Module):
    """Blur, noise, contrast, light and shade of chance, through which gradients flow.

    Not in the paper, whose attacker works on the very pixels that the detector gets: what it draws
    may hang on their values. Under a light of chance only that remains an attack which still is one
    when it is darker, softer or noisier: the expectation over transformations of A. Athalye et al.,
    "Synthesizing robust adversarial examples", ICML 2018. Pixels do not move, so landmarks hold.
    Nothing is clamped, as the adversarial pictures are not.

    Args:
        probability: With which each of the five changes happens to a sample.
        exposure: Smallest and largest factor of all values, drawn evenly on a log scale.
        contrast: Smallest and largest factor about the picture's mean.
        shade: How much of the light the darkest side shade takes, in `[0, 1]`.
        blur: Largest standard deviation of the Gaussian blur, as a part of the picture's side.
        noise: Largest standard deviation of the Gaussian noise.

    Raises:
        ValueError: If an argument is out of its range.

    Shape:
        - images: `(B, C, H, W)` in about `[0, 1]`
        - returns: the same
    """

    def __init__(
        self,
        *,
        probability: float = 0.5,
        exposure: tuple[float, float] = (0.3, 1.6),
        contrast: tuple[float, float] = (0.3, 1.5),
        shade: float = 0.9,
        blur: float = 0.025,
        noise: float = 0.12,
    ) -> None:
        super().__init__()
        for name, value in {"probability": probability, "shade": shade}.items():
            if not 0 <= value <= 1:
                msg = f"`{name}` must be within [0, 1], but got {value}."
                raise ValueError(msg)
        for name, (least, most) in {"exposure": exposure, "contrast": contrast}.items():
            if not 0 < least <= most:
                msg = f"`{name}` must be (smallest, largest) above 0, but got {(least, most)}."
                raise ValueError(msg)
        for name, value in {"blur": blur, "noise": noise}.items():
            if not value >= 0:
                msg = f"`{name}` must be at least 0, but got {value}."
                raise ValueError(msg)
        self.probability = probability
        self.exposure = exposure
        self.contrast = contrast
        self.shade = shade
        self.blur = blur
        self.noise = noise

    @full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Draw from PyTorch's global random state, which the adversary lends its own."""
        if self.blur > 0:
            images = self._blurred(images)
        # Before the light changes: noise of its own would drown what is dark.
        deviation = self._draw(images, 0.0, self.noise, neutral=0.0)
        images = images + deviation * torch.randn_like(images)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = mean + (images - mean) * self._draw(images, *self.contrast, neutral=1.0)
        low, high = map(math.log, self.exposure)
        images = images * self._draw(images, low, high, neutral=0.0).exp()
        return images * self._light_from_a_side(images)

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
        radius = min(math.ceil(2.5 * most), min(images.shape[-2:]) - 1)
        deviation = self._draw(images, 0.0, most, neutral=0.0).flatten(1)
        steps = torch.arange(-radius, radius + 1, device=images.device)
        # kornia's own kernels read the deviation to check it, for which a device is waited for.
        kernel = torch.exp(-0.5 * (steps / deviation.clamp(min=0.1)) ** 2)
        kernel = (kernel / kernel.sum(dim=1, keepdim=True)).to(images.dtype)
        return filter2d_separable(images, kernel, kernel)


def seen_as(appearance: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The pictures as the detector sees them.

    Raises:
        ShapeError: If the appearance changes their shape.
    """
    seen = appearance(images)
    if seen.shape != images.shape:
        msg = (
            f"`appearance` must give pictures {tuple(images.shape)}, as it gets them, but gave "
            f"{tuple(seen.shape)}."
        )
        raise ShapeError(msg)
    return seen

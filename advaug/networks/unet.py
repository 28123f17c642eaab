"""The U-Net of pix2pix (Isola et al., CVPR 2017), for networks that output maps of a picture."""

import torch
from torch import Tensor, nn

from advaug.base.checks import check_within
from advaug.errors import ShapeError
from advaug.networks.layers import Norm, initialise_like_pix2pix, norm_layer

__all__ = ["UNet"]

WIDEST = 8  # the deepest layers of pix2pix are 8 times as wide as its first
LIGHT_DEPTH = 5
DEEPEST = 8
LEAST_LEVELS = 2  # the outermost and the innermost


class UNet(nn.Module):
    """4 x 4 convolutions of stride 2, LeakyReLU 0.2, skip connections.

    There is no normalisation on the innermost layer, which may be a single pixel. The weights of
    the last layer start small. Abstract: a subclass defines the input and what the maps mean.

    Args:
        channels: Of the input.
        outputs: Channels of the output.
        image_size: Side of the square pictures, or `(height, width)`: halved as often as both sides
            allow, at most eight times. None for five times.
        base_width: Channels of the first layer.
        norm: `"group"` or `"batch"`.
        dropout: Probability of dropout in the three innermost decoder layers, also when sampling.
        coarse: How many times the picture is halved by averaging before the first layer, and the
            maps are doubled bilinearly after the last.

    Attributes:
        depth: How many times the picture is halved.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        image_size: int | tuple[int, int] | None,
        *,
        base_width: int,
        norm: Norm,
        dropout: float,
        coarse: int = 0,
    ) -> None:
        super().__init__()
        deepest = LIGHT_DEPTH if image_size is None else DEEPEST
        check_within(0, deepest - LEAST_LEVELS, coarse=coarse)
        self.coarse = coarse
        self.depth = LIGHT_DEPTH if image_size is None else _depth_for(image_size, coarse)
        levels = self.depth - coarse
        widths = [base_width * min(2**level, WIDEST) for level in range(levels)]
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            inner = level in (0, levels - 1)
            self.down.append(_down(channels, width, None if inner else norm, first=level == 0))
            channels = width
        self.up = nn.ModuleList()
        for level in reversed(range(1, levels)):
            drop = dropout if level >= levels - 3 else 0.0
            self.up.append(_up(channels, widths[level - 1], norm, drop))
            channels = 2 * widths[level - 1]
        self.last = nn.ConvTranspose2d(channels, outputs, 4, stride=2, padding=1)
        self.apply(initialise_like_pix2pix)
        nn.init.normal_(self.last.weight, std=1e-3)

    def maps(self, features: Tensor) -> Tensor:
        """`(B, outputs, H, W)`, unbounded, from `(B, channels, H, W)` of any size.

        Sides that cannot be halved `depth` times are padded with their last pixels, and the maps
        are cropped to the picture again.
        """
        height, width = features.shape[-2:]
        step = 2**self.depth
        below, right = -height % step, -width % step
        if below or right:
            features = nn.functional.pad(features, (0, right, 0, below), mode="replicate")
        return self._maps(features)[..., :height, :width]

    def _maps(self, features: Tensor) -> Tensor:
        size = (features.shape[-2], features.shape[-1])
        if self.coarse:
            features = nn.functional.avg_pool2d(features, 2**self.coarse)
        skips: list[Tensor] = []
        for layer in self.down:
            features = layer(features)
            skips.append(features)
        skips.pop()
        for layer in self.up:
            features = torch.cat([layer(features), skips.pop()], dim=1)
        maps = self.last(torch.relu(features))
        return nn.functional.interpolate(maps, size, mode="bilinear") if self.coarse else maps


def _depth_for(image_size: int | tuple[int, int], coarse: int) -> int:
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    depth = 0
    while depth < DEEPEST and all(side >= 2 ** (depth + 1) for side in sides):
        if any(side % 2 ** (depth + 1) for side in sides):
            break
        depth += 1
    least = coarse + LEAST_LEVELS
    if depth < least:
        msg = (
            f"`image_size` must be divisible by {2**least} at least, but got {image_size}. Choose "
            f"a multiple of {max(32, 2**least)}: the more often both sides can be halved, the "
            "deeper the U-Net."
        )
        raise ShapeError(msg)
    return depth


def _down(channels: int, width: int, norm: Norm | None, *, first: bool) -> nn.Sequential:
    # Biases only where nothing after them takes the mean away; none at all in pix2pix's encoder.
    layers: list[nn.Module] = [] if first else [nn.LeakyReLU(0.2)]
    layers.append(nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False))
    if norm is not None:
        layers.append(norm_layer(norm, width))
    return nn.Sequential(*layers)


def _up(channels: int, width: int, norm: Norm, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.ReLU(),
        nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1, bias=False),
        norm_layer(norm, width),
    ]
    if dropout:
        layers.append(_AlwaysDropout(dropout))
    return nn.Sequential(*layers)


class _AlwaysDropout(nn.Dropout):
    """Dropout as a source of noise, both in training and in evaluation (pix2pix)."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.dropout(input, self.p, training=True)

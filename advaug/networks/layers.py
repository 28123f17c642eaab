"""The building blocks that the attacker and the discriminator share (pix2pix)."""

from typing import Literal

from torch import nn

__all__ = ["initialise_like_pix2pix", "norm_layer"]

Norm = Literal["batch", "group"]
GROUPS = 8


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Normalise `channels` channels.

    `"group"` normalises every sample separately. `"batch"` is pix2pix's: it uses batch statistics
    both in training and in sampling, so it keeps no running ones.

    Raises:
        ValueError: If `norm` is unknown.
    """
    if norm == "group":
        return nn.GroupNorm(min(GROUPS, channels), channels)
    if norm == "batch":
        return nn.BatchNorm2d(channels, track_running_stats=False)
    msg = f"`norm` must be 'batch' or 'group', but got {norm!r}. Choose one of them."
    raise ValueError(msg)


def initialise_like_pix2pix(module: nn.Module) -> None:
    """Draw convolution weights from N(0, 0.02), as pix2pix does; for `Module.apply`."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, mean=1.0, std=0.02)

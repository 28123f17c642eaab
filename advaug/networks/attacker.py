"""The structure-guided attacker A(I, S, z) of [SAAT], section 3.2: a pix2pix U-Net."""

import torch
from torch import Tensor

from advaug.networks.layers import Norm
from advaug.networks.unet import UNet

__all__ = ["UNetAttacker"]


class UNetAttacker(UNet):
    """U-Net from a picture, its structure map and noise to a perturbation.

    Follows pix2pix (see `advaug.networks.unet`) up to the tanh. The last layer starts small, so
    that an untrained attacker barely perturbs.

    Where it differs from [SAAT]: the defaults are lighter (a twentieth of the cost) and normalise
    each sample separately; `UNetAttacker.paper()` is the published size.

    Args:
        image_size: Side of the square pictures, or `(height, width)`: halved as often as both sides
            allow, at most eight times. By default five times. Pictures of any size are accepted;
            those that cannot be halved as often are padded inside.
        base_width: Channels of the first layer.
        norm: `"group"` or `"batch"`.
        dropout: Probability of dropout in the three innermost decoder layers, also when sampling.
        structure: False leaves out the structure map (Table 7, "w/o S").
        strength: Largest perturbation, in image units; 1 in the paper.
        coarse: How many times pictures are halved before the U-Net; its perturbation is enlarged
            bilinearly. Nothing finer than a stroke of make-up remains, and at 1 it needs a fifth of
            the operations. 0 in the paper.
        channels: Of the pictures.

    Attributes:
        depth: How many times the picture is halved.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] | None = None,
        *,
        base_width: int = 32,
        norm: Norm = "group",
        dropout: float = 0.0,
        structure: bool = True,
        strength: float = 1.0,
        coarse: int = 1,
        channels: int = 3,
    ) -> None:
        super().__init__(
            channels + int(structure) + 1,
            channels,
            image_size,
            base_width=base_width,
            norm=norm,
            dropout=dropout,
            coarse=coarse,
        )
        self.channels = channels
        self.structure = structure
        self.strength = strength

    @classmethod
    def paper(
        cls, image_size: int | tuple[int, int] = 256, *, structure: bool = True, channels: int = 3
    ) -> "UNetAttacker":
        """The attacker in the size of [SAAT]: 54,416,003 parameters at 256 px."""
        return cls(
            image_size,
            base_width=64,
            norm="batch",
            dropout=0.5,
            structure=structure,
            coarse=0,
            channels=channels,
        )

    def forward(self, images: Tensor, structure: Tensor | None, noise: Tensor) -> Tensor:
        """Draw a perturbation for each picture, the second term of Eq. 2.

        Args:
            images: I, `(B, C, H, W)` in `[0, 1]`.
            structure: S, `(B, 1, H, W)`; None for an attacker built with `structure=False`.
            noise: z, `(B, 1, H, W)`, standard normal.

        Returns:
            `(B, C, H, W)` in `(-strength, strength)`, to be added to the pictures.
        """
        guides = [structure] if self.structure and structure is not None else []
        noise = 2**self.coarse * noise  # of unit variance where the picture has been halved
        features = torch.cat([images, *guides, noise], dim=1)
        return self.strength * torch.tanh(self.maps(features))

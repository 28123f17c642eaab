"""The discriminator D(I, S) of [SAAT], section 3.2."""

from typing import Literal

import torch
from torch import Tensor, nn

from advaug.errors import ShapeError
from advaug.networks.layers import Norm, initialise_like_pix2pix, norm_layer

__all__ = ["PatchDiscriminator"]

SMALLEST = 32  # pixels


class PatchDiscriminator(nn.Module):
    """Judge whether a picture is the original of its structure map, patch by patch.

    The 70 x 70 PatchGAN of pix2pix (Isola et al., CVPR 2017). With `head="global"` it is the
    network of the authors' release instead: 5 x 5 convolutions and one linear score per picture.

    Args:
        base_width: Channels of the first layer: 64 in the paper, 32 by default.
        norm: `"group"` (each sample separately) or `"batch"` (pix2pix).
        head: `"patch"` for a map of logits, `"global"` for one logit.
        image_size: Side of the square pictures; only the global head needs it.
        structure: False leaves out the structure map (Table 7, "w/o S").
        channels: Of the pictures.

    Raises:
        ValueError: If `head` is unknown, or is global without an `image_size` divisible by 8.
    """

    def __init__(
        self,
        *,
        base_width: int = 32,
        norm: Norm = "group",
        head: Literal["patch", "global"] = "patch",
        image_size: int | None = None,
        structure: bool = True,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if head not in ("patch", "global"):
            msg = f"`head` must be 'patch' or 'global', but got {head!r}. Choose one of them."
            raise ValueError(msg)
        if head == "global" and (image_size is None or image_size % 8):
            msg = (
                "`image_size` must be divisible by 8 for a global head, whose linear layer sees "
                f"every pixel, but got {image_size}. Resize the pictures, or use `head='patch'`."
            )
            raise ValueError(msg)
        self.channels = channels
        self.structure = structure
        self.image_size = image_size if head == "global" else None
        kernel = 4 if head == "patch" else 5
        # pix2pix omits the biases that a normalisation cancels; the release keeps them.
        bias = head == "global"
        layers: list[nn.Module] = [
            _conv(channels + int(structure), base_width, kernel, stride=2),
            nn.LeakyReLU(0.2),
        ]
        for level, stride in ((1, 2), (2, 2), (3, 1)):
            width = base_width * 2**level
            layers += [
                _conv(width // 2, width, kernel, stride=stride, bias=bias),
                norm_layer(norm, width),
                nn.LeakyReLU(0.2),
            ]
        self.body = nn.Sequential(*layers)
        width = base_width * 8
        if self.image_size is None:
            self.score: nn.Module = _conv(width, 1, kernel, stride=1)
        else:
            side = self.image_size // 8
            self.score = nn.Sequential(nn.Flatten(), nn.Linear(width * side * side, 1))
        self.apply(initialise_like_pix2pix)

    @classmethod
    def paper(cls, *, structure: bool = True, channels: int = 3) -> "PatchDiscriminator":
        """The PatchGAN in pix2pix's size: 2,766,657 parameters."""
        return cls(base_width=64, norm="batch", structure=structure, channels=channels)

    @classmethod
    def released(cls, image_size: int = 256, *, structure: bool = True) -> "PatchDiscriminator":
        """The network of the authors' release: 4,834,241 parameters at 256 px."""
        return cls(
            base_width=64, norm="batch", head="global", image_size=image_size, structure=structure
        )

    def forward(self, images: Tensor, structure: Tensor | None) -> Tensor:
        """Logits that are high for originals.

        Args:
            images: I or I_adv, `(B, C, H, W)`, about `[0, 1]`.
            structure: S, `(B, 1, H, W)`; None for one built with `structure=False`.

        Returns:
            `(B, 1, h, w)`, one logit per patch, or `(B, 1)` with the global head.

        Raises:
            ShapeError: If the global head was built for another size.
        """
        size = tuple(images.shape[-2:])
        if self.image_size is not None and size != (self.image_size, self.image_size):
            msg = (
                f"`images` must be {self.image_size} x {self.image_size}, for which the global "
                f"head was built, but got {size}. Pass that `image_size` to PatchDiscriminator."
            )
            raise ShapeError(msg)
        guides = [structure] if self.structure and structure is not None else []
        features = torch.cat([images, *guides], dim=1)
        below, right = (max(0, SMALLEST - side) for side in size)
        if below or right:  # four layers of stride and kernel 4 need this many pixels
            features = nn.functional.pad(features, (0, right, 0, below), mode="replicate")
        return self.score(self.body(features))


def _conv(channels: int, width: int, kernel: int, *, stride: int, bias: bool = True) -> nn.Conv2d:
    # Padding 1 for 4 x 4 is pix2pix's; 2 for 5 x 5 is TensorFlow's "same".
    return nn.Conv2d(channels, width, kernel, stride=stride, padding=(kernel - 1) // 2, bias=bias)

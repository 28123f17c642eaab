"""The map of structural similarity under Eq. 9 of [SAAT], after [Wang04].

[Wang04]: Z. Wang et al., "Image quality assessment: from error visibility to structural
similarity", IEEE TIP 2004.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from advaug.base.checks import SSIM_WINDOW, require_axes, require_same_shape
from advaug.base.precision import full_precision
from advaug.errors import ShapeError

__all__ = ["mean_over_region", "ssim_map"]

SSIM_SIGMA = 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # (K L)^2 of [Wang04] with the data range L = 1


@full_precision
def ssim_map(images: Tensor, adversarial: Tensor) -> Tensor:
    """Structural similarity of every 11 x 11 window: `(B, C, H - 10, W - 10)`."""
    require_axes("images", images, "(B, C, H, W)")
    require_same_shape("adversarial", adversarial, "images", images)
    if min(images.shape[-2:]) < SSIM_WINDOW:
        msg = (
            f"`images` must have sides of at least {SSIM_WINDOW} pixels, the window of SSIM, but "
            f"got {tuple(images.shape[-2:])}. Use larger pictures."
        )
        raise ShapeError(msg)
    # Variances do not change with a shift, but rounding does: around 0 their two terms are small.
    shift_x, shift_y = (
        maps.detach().mean(dim=(2, 3), keepdim=True) for maps in (images, adversarial)
    )
    x, y = images - shift_x, adversarial - shift_y
    mean_x, mean_y, xx, yy, xy = _blur(torch.stack([x, y, x * x, y * y, x * y])).unbind(0)
    sigma_x, sigma_y, sigma_xy = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    mu_x, mu_y = mean_x + shift_x, mean_y + shift_y
    luminance = (2 * mu_x * mu_y + SSIM_C1) / (mu_x * mu_x + mu_y * mu_y + SSIM_C1)
    # Rounding can leave a variance of nothing slightly below zero.
    contrast = (2 * sigma_xy + SSIM_C2) / ((sigma_x + sigma_y).clamp(min=0) + SSIM_C2)
    return luminance * contrast


def _blur(maps: Tensor) -> Tensor:
    """Gaussian window over the last two axes, one axis after the other, no padding."""
    half = SSIM_WINDOW // 2
    offsets = torch.arange(-half, half + 1, dtype=maps.dtype, device=maps.device)
    window = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    window = window / window.sum()
    # As products with banded matrices: depthwise convolutions are slow on an accelerator.
    rows, columns = (_band(window, side) for side in maps.shape[-2:])
    return rows @ (maps @ columns.T)


def _band(window: Tensor, side: int) -> Tensor:
    """`(side - 10, side)`: the window at each of its places along a side."""
    padded = F.pad(window, (0, side + 1 - len(window)))
    # Row i begins at place i of a sequence with period side + 1, and so is shifted by i.
    return padded.repeat(side)[: side * (side + 1 - len(window))].view(-1, side)


def mean_over_region(similarity: Tensor, mask: Tensor) -> Tensor:
    """Mean of an SSIM map over the semantic regions of `mask`: `(B,)`, 1 where there are none."""
    border = SSIM_WINDOW // 2
    region = (mask[..., border:-border, border:-border] >= 1).to(similarity.dtype)
    loss = ((1 - similarity.mean(dim=1, keepdim=True)) * region).sum(dim=(1, 2, 3))
    return 1 - loss / region.sum(dim=(1, 2, 3)).clamp(min=1)

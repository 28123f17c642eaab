"""Square patches of a picture around its landmarks, as a differentiable function of both."""

import torch
import torch.nn.functional as F
from torch import Tensor

from advaug.base.precision import full_precision

__all__ = ["sample_patches"]


@full_precision
def sample_patches(images: Tensor, landmarks: Tensor, patch_size: int) -> Tensor:
    """Cut out a patch around every landmark, bilinearly; outside the picture its edge is repeated.

    Sample (i, j) of a patch is `(j, i) - (patch_size - 1) / 2` pixels from the landmark. So an odd
    patch around an integer position, or an even one half a pixel from it, holds the pixels
    themselves.

    Args:
        images: `(B, C, H, W)`.
        landmarks: `(B, N, 2)`, x then y, in pixels.
        patch_size: Side P of a patch, in pixels.

    Returns:
        `(B * N, C, P, P)`, the N patches of a picture one after the other.
    """
    batch, channels, height, width = images.shape
    count = landmarks.shape[1]
    steps = torch.arange(patch_size, dtype=landmarks.dtype, device=landmarks.device)
    steps = steps - (patch_size - 1) / 2
    x = landmarks[:, :, None, None, 0] + steps
    y = landmarks[:, :, None, None, 1] + steps[:, None]
    # -1 and 1 are the centres of the first and the last pixel: `align_corners=True`.
    x, y = 2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1
    grid = torch.stack(torch.broadcast_tensors(x, y), dim=-1)  # (B, N, P, P, 2)
    patches = F.grid_sample(
        images,
        grid.view(batch, count * patch_size, patch_size, 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    patches = patches.view(batch, channels, count, patch_size, patch_size)
    return patches.transpose(1, 2).flatten(0, 1)

"""Move landmarks and maps by the same mirror and affine map, by kornia's functions.

The per-sample parameters stay on the CPU, where reading a value stalls no device.
"""

from collections.abc import Callable

import torch
from kornia.geometry.linalg import transform_points
from kornia.geometry.transform import warp_affine
from torch import Tensor
from torch.nn.functional import grid_sample

from advaug.base.precision import full_precision

__all__ = ["change_where", "displace", "inside", "move", "send"]


@full_precision
def move(values: Tensor, flip: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Mirror some samples, exactly, then move those whose matrix is not the identity.

    Args:
        values: Landmarks `(B, N, 2)` in pixels, or pictures or heatmaps `(B, C, h, w)`.
        flip: `(B,)` bool on the CPU, which samples are mirrored.
        matrix: `(B, 3, 3)` float64 on the CPU, from pixels to pixels of the picture.
        size: `(height, width)` of the picture, which maps of any stride cover.

    Returns:
        Same shape; half precision is widened to float32.
    """
    moved = (matrix != torch.eye(3)).any(2).any(1)
    if values.ndim == 3:
        values = change_where(flip, lambda points: _mirror(points, size[1]), values)
        return change_where(moved, lambda points: _transform(points, matrix), values)
    values = change_where(flip, lambda maps: maps.flip(-1), values)
    return change_where(moved, lambda maps: _warp(maps, matrix, size), values)


def inside(landmarks: Tensor, size: tuple[int, int]) -> Tensor:
    """Tell which landmarks `(B, N, 2)` are on a pixel of a picture of `size`."""
    x, y = landmarks.unbind(-1)
    return (x >= -0.5) & (x < size[1] - 0.5) & (y >= -0.5) & (y < size[0] - 0.5)


def change_where(mask: Tensor, change: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Change only the samples that the CPU's `mask` `(B,)` selects."""
    if not mask.any():
        return values
    changed = change(values)
    if mask.all():
        return changed
    mask = mask.to(values.device, non_blocking=True)
    return torch.where(mask.view(-1, *[1] * (values.ndim - 1)), changed, values)


def displace(images: Tensor, offsets: Tensor) -> Tensor:
    """Show in each pixel of `(B, C, H, W)` what lies `offsets` `(B, 2, H, W)` away.

    Offsets are x, then y, in pixels. Outside the picture its border is repeated.
    """
    height, width = images.shape[-2:]
    x = torch.arange(width, dtype=images.dtype, device=images.device)
    y = torch.arange(height, dtype=images.dtype, device=images.device)
    right = (2 * (x + offsets[:, 0]) + 1) / width - 1
    below = (2 * (y[:, None] + offsets[:, 1]) + 1) / height - 1
    grid = torch.stack([right, below], dim=-1)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def send(values: Tensor, like: Tensor) -> Tensor:
    """Bring values from the CPU to the device and type of `like` without waiting."""
    return values.to(like.dtype).to(like.device, non_blocking=True)


def _mirror(landmarks: Tensor, width: int) -> Tensor:
    x, y = landmarks.unbind(-1)
    return torch.stack([width - 1 - x, y], dim=-1)


def _transform(landmarks: Tensor, matrix: Tensor) -> Tensor:
    # If the caller allows TF32, float32 would be off by a tenth of a pixel. MPS has no float64.
    points = landmarks if landmarks.device.type == "mps" else landmarks.double()
    return transform_points(send(matrix, points), points).to(landmarks.dtype)


def _warp(maps: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    grid = (maps.shape[-2], maps.shape[-1])
    matrix = _rescaling(size, grid) @ matrix @ _rescaling(grid, size)
    # With `True` the matrix refers to pixel centres in every release of kornia.
    return warp_affine(maps, send(matrix[:, :2], maps), grid, align_corners=True)


def _rescaling(size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """Return `advaug.heatmaps.resize_landmarks` as a matrix, `(3, 3)`."""
    ratio = torch.tensor([new_size[1] / size[1], new_size[0] / size[0], 1.0], dtype=torch.float64)
    matrix = ratio.diag()
    matrix[:, 2] += (ratio - 1) / 2
    return matrix

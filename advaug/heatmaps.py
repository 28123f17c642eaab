"""Landmarks to heatmaps and back: the only place that knows where pixel centres are.

Landmarks are in pixels of the picture, 0-based, with integers at pixel centres. Pixel k of a
heatmap with stride s is at `(k + 0.5) * s - 0.5` in the picture.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from advaug.base.precision import full_precision
from advaug.errors import ShapeError

__all__ = ["decode_heatmaps", "encode_heatmaps", "resize_heatmaps", "resize_landmarks"]

NEGLIGIBLE = 1e-12
SIGMA_OF_SIDE = 0.02  # 5.1 px at 256 px, as in the authors' release


def resize_landmarks(landmarks: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """Move landmarks from a grid of one size to a grid of another over the same picture.

    Args:
        landmarks: `(..., 2)`, x then y, in pixels of the first grid.
        size: `(height, width)` of the first grid.
        new_size: `(height, width)` of the second.

    Returns:
        Same shape, in pixels of the second grid.
    """
    x, y = landmarks.unbind(-1)
    # As Python numbers: a tensor made of them would have to wait for the device.
    x = (x + 0.5) * (new_size[1] / size[1]) - 0.5
    y = (y + 0.5) * (new_size[0] / size[0]) - 0.5
    return torch.stack([x, y], dim=-1)


def resize_heatmaps(heatmaps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample heatmaps `(B, N, h, w)` to `size` by the same pixel-centre rule.

    Returns:
        `(B, N, height, width)`; the same tensor if the size already fits.
    """
    if tuple(heatmaps.shape[-2:]) == tuple(size):
        return heatmaps
    return F.interpolate(heatmaps, size=size, mode="bilinear", align_corners=False)


def default_sigma(size: tuple[int, int]) -> float:
    """Standard deviation of a landmark's Gaussian in pixels of a heatmap of this size.

    At least one pixel: a narrower Gaussian falls between the pixels and cannot be read back.
    """
    return max(1.0, SIGMA_OF_SIDE * max(size))


@full_precision
def encode_heatmaps(
    landmarks: Tensor,
    size: tuple[int, int],
    *,
    image_size: tuple[int, int] | None = None,
    sigma: float | None = None,
    visible: Tensor | None = None,
) -> Tensor:
    """Draw one Gaussian of peak 1 for each landmark.

    Args:
        landmarks: `(B, N, 2)`, x then y, in pixels of the picture.
        size: `(height, width)` of the heatmaps.
        image_size: `(height, width)` of the picture; `size` if not given (stride 1).
        sigma: Standard deviation in heatmap pixels; by default 0.02 of the longer
            side, and at least 1.
        visible: `(B, N)` bool; the heatmap of an invisible landmark is zero.

    Returns:
        `(B, N, height, width)` in `[0, 1]`.

    Raises:
        ShapeError: If `landmarks` is not `(B, N, 2)` or `visible` does not fit it.
        TypeError: If a size is one number.
    """
    _check_pairs(size=size, image_size=image_size)
    if landmarks.ndim != 3 or landmarks.shape[-1] != 2:
        fix = "Add the batch: `landmarks[None]`." if landmarks.ndim == 2 else "Put x and y last."
        msg = f"`landmarks` must be (B, N, 2), but got {tuple(landmarks.shape)}. {fix}"
        raise ShapeError(msg)
    if not landmarks.is_floating_point():
        landmarks = landmarks.float()
    if image_size is not None:
        landmarks = resize_landmarks(landmarks, image_size, size)
    sigma = default_sigma(size) if sigma is None else sigma
    columns = _gaussian(landmarks[..., 0], size[1], sigma)
    rows = _gaussian(landmarks[..., 1], size[0], sigma)
    if visible is not None:
        if visible.shape != landmarks.shape[:2]:
            msg = (
                f"`visible` must be {tuple(landmarks.shape[:2])}, but got {tuple(visible.shape)}. "
                "Give one value for each landmark."
            )
            raise ShapeError(msg)
        # `where`, not a product: an invisible landmark may hold NaN.
        columns = torch.where(visible.to(torch.bool)[..., None], columns, 0.0)
        rows = torch.where(visible.to(torch.bool)[..., None], rows, 0.0)
    return rows[..., :, None] * columns[..., None, :]


def _check_pairs(**sizes: object) -> None:
    for name, value in sizes.items():
        if isinstance(value, int):
            msg = (
                f"`{name}` must be (height, width), but got {value}. For a square pass "
                f"`({value}, {value})`."
            )
            raise TypeError(msg)


def _gaussian(centre: Tensor, length: int, sigma: float) -> Tensor:
    pixels = torch.arange(length, dtype=centre.dtype, device=centre.device)
    values = torch.exp(-((pixels - centre[..., None]) ** 2) / (2 * sigma**2))
    # Far tails would be subnormal numbers, which make convolutions on a CPU crawl.
    return torch.where(values < NEGLIGIBLE, 0.0, values)


@full_precision
def decode_heatmaps(
    heatmaps: Tensor, *, image_size: tuple[int, int] | None = None, sigma: float | None = None
) -> Tensor:
    """Locate each heatmap's landmark with sub-pixel precision.

    A parabola through the logarithm of three pixels around the peak, one standard deviation apart,
    has its vertex at the centre of a Gaussian, wherever the three lie on it. So landmarks near a
    border, where the three are moved inwards, are found too.

    Args:
        heatmaps: `(B, N, h, w)`.
        image_size: `(height, width)` of the picture; `(h, w)` if not given (stride 1).
        sigma: Standard deviation of the Gaussians in heatmap pixels; by default as
            `encode_heatmaps` draws them.

    Returns:
        `(B, N, 2)`, x then y, in pixels of the picture.

    Raises:
        ShapeError: If `heatmaps` is not `(B, N, h, w)` with sides of at least 3 pixels.
        TypeError: If `image_size` is one number.
    """
    _check_pairs(image_size=image_size)
    if heatmaps.ndim != 4 or min(heatmaps.shape[-2:]) < 3:
        msg = (
            "`heatmaps` must be (B, N, h, w) with sides of at least 3 pixels, but got "
            f"{tuple(heatmaps.shape)}. Decode a whole batch of finer ones."
        )
        raise ShapeError(msg)
    size = (heatmaps.shape[-2], heatmaps.shape[-1])
    sigma = default_sigma(size) if sigma is None else sigma
    peak = heatmaps.flatten(2).argmax(dim=-1)
    row, column = peak // size[1], peak % size[1]
    along_x = heatmaps.gather(2, row[..., None, None].expand(-1, -1, 1, size[1])).squeeze(2)
    along_y = heatmaps.gather(3, column[..., None, None].expand(-1, -1, size[0], 1)).squeeze(3)
    landmarks = torch.stack([_vertex(along_x, column, sigma), _vertex(along_y, row, sigma)], dim=-1)
    return landmarks if image_size is None else resize_landmarks(landmarks, size, image_size)


def _vertex(profile: Tensor, peak: Tensor, sigma: float) -> Tensor:
    """Sub-pixel position of the peak of `(B, N, L)` profiles whose maximum is at `peak`."""
    length = profile.shape[-1]
    step = max(1, min(round(sigma), (length - 1) // 2))
    middle = peak.clamp(step, length - 1 - step)
    # A floor relative to the peak: the logarithm of a network's noise far down is meaningless.
    floor = 1e-4 * profile.amax(dim=-1, keepdim=True).clamp(min=1e-8)
    logs = profile.clamp(min=floor).log()
    left, centre, right = (
        logs.gather(-1, (middle + offset)[..., None]).squeeze(-1) for offset in (-step, 0, step)
    )
    bend = 2 * centre - left - right
    shift = 0.5 * step * (right - left) / torch.where(bend > 0, bend, torch.inf)
    # The true centre is within a pixel of the peak, and at most a sigma beyond the border.
    reach = torch.where(middle == peak, 1.0, step + sigma)
    return middle + torch.maximum(torch.minimum(shift, reach), -reach)

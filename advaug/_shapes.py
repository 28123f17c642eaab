"""Shapes, and means over the landmarks that are visible."""

import torch
from torch import Tensor

from advaug.errors import ShapeError


def mean_over_visible(values: Tensor, visible: Tensor | None) -> Tensor:
    """Mean of `(B, N)` values over the visible landmarks: `(B,)`, 0 where none is visible.

    Raises:
        ShapeError: If `visible` is not `(B, N)`.
    """
    if visible is None:
        return values.mean(dim=1)
    require_same_shape("visible", visible, "the landmarks", values)
    shown = visible.to(torch.bool)
    kept = torch.where(shown, values, 0.0).sum(dim=1)
    return kept / shown.sum(dim=1).clamp(min=1)


def require_axes(name: str, tensor: Tensor, axes: str) -> None:
    """Raise unless `tensor` has as many axes as `axes`, such as "(B, N, 2)", names."""
    if tensor.ndim != axes.count(",") + 1:
        msg = f"`{name}` must be {axes}, but got {tuple(tensor.shape)}."
        raise ShapeError(msg)


def require_same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless two tensors have one shape."""
    if tensor.shape != other.shape:
        msg = (
            f"`{name}` must have the shape of {other_name}, {tuple(other.shape)}, but got "
            f"{tuple(tensor.shape)}."
        )
        raise ShapeError(msg)

"""Shapes, parts of batches, small vectors, and means over the landmarks that are visible."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from advaug.base.checks import require_same_shape

__all__ = ["copied", "first_part", "mean_over_visible", "vector"]


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


def vector(numbers: Sequence[float], like: Tensor) -> Tensor:
    """The numbers in the dtype of `like`, on its device and made there: no step waits for them."""
    return torch.stack([like.new_full((), number) for number in numbers])


def copied(value: Any) -> Any:  # noqa: ANN401 # any task's target
    """A target whose tensors are copies, for code that may write to them."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    if isinstance(value, list) or type(value) is tuple:
        return type(value)(copied(part) for part in value)
    return value


def first_part(images: Tensor, target: Any, fraction: float) -> tuple[Tensor, Any]:  # noqa: ANN401 # any task's target
    """The first pictures of a batch, at least one, and their part of its target.

    The target may be a tensor, or tuples, lists and dicts of tensors, each with the batch's length;
    or a list that holds something for each picture.
    """
    if fraction >= 1 or len(images) == 0:
        return images, target
    batch = len(images)
    count = max(1, math.ceil(fraction * batch))
    return images[:count], _first(target, count, batch)


def _first(value: Any, count: int, batch: int) -> Any:  # noqa: ANN401 # any nesting
    if isinstance(value, Tensor):
        return value[:count]
    if isinstance(value, dict):
        return {key: _first(part, count, batch) for key, part in value.items()}
    if isinstance(value, list) and not _is_batched(value, batch):
        return value[:count]
    if isinstance(value, tuple | list):
        return type(value)(_first(part, count, batch) for part in value)
    return value


def _is_batched(values: list[Any], batch: int) -> bool:
    """Whether a list holds whole batches, not something for each picture."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    return bool(tensors) and all(len(tensor) == batch for tensor in tensors)

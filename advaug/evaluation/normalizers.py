"""What errors are divided by: the distance of the eyes, the size of the box, or any pair's."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from advaug.errors import ShapeError
from advaug.schemes import SCHEMES

__all__ = ["Normalizer", "check_normalizer", "normalizer_distance"]

EyeDistance = Literal["inter_ocular", "inter_pupil"]
BoxSize = Literal["box", "diagonal"]
Normalizer = EyeDistance | BoxSize | tuple[int, int] | Tensor

_FACE_SCHEMES = {s.num_landmarks: s for s in SCHEMES.values() if s.eye_corners is not None}


def check_normalizer(normalizer: Normalizer, num_landmarks: int) -> None:
    """Raise `ValueError` unless `nme` knows this normaliser for this number of landmarks."""
    normalizer_distance(
        torch.zeros(1, num_landmarks, 2),
        torch.ones(1, num_landmarks, dtype=torch.bool),
        normalizer,
    )


def normalizer_distance(target: Tensor, visible: Tensor, normalizer: Normalizer) -> Tensor:
    """The distance d of each sample, `(B,)`."""
    if isinstance(normalizer, Tensor):
        if normalizer.shape != target.shape[:1]:
            message = (
                f"`normalizer` must be ({target.shape[0]},), one distance a sample, but got "
                f"{tuple(normalizer.shape)}. Give one per sample."
            )
            raise ShapeError(message)
        return normalizer.to(target)
    if not isinstance(normalizer, str):
        first, second = _require_pair(normalizer, target.shape[1])
        return _distance(target, (first,), (second,))
    if normalizer in get_args(BoxSize):
        width, height = _box_sides(target, visible)
        return (width * height).sqrt() if normalizer == "box" else torch.hypot(width, height)
    if normalizer in get_args(EyeDistance):
        return _distance(target, *_eyes(normalizer, target.shape[1]))
    allowed = ", ".join((*get_args(EyeDistance), *get_args(BoxSize)))
    message = (
        f"`normalizer` must be one of {allowed}, a pair of indices or a (B,) tensor, but got "
        f"{normalizer!r}. Choose the one of the protocol you compare with."
    )
    raise ValueError(message)


def _distance(target: Tensor, first: tuple[int, ...], second: tuple[int, ...]) -> Tensor:
    """Distance between the centres of two groups of landmarks, `(B,)`."""
    centers = target[:, list(first)].mean(dim=1), target[:, list(second)].mean(dim=1)
    return torch.linalg.vector_norm(centers[0] - centers[1], dim=-1)


def _box_sides(target: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of the tight box of the visible landmarks, each `(B,)`."""
    lowest = target.masked_fill(~visible[..., None], torch.inf).amin(dim=1)
    highest = target.masked_fill(~visible[..., None], -torch.inf).amax(dim=1)
    width, height = (highest - lowest).unbind(dim=-1)
    return width, height


def _eyes(normalizer: str, num_landmarks: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The landmarks of each eye whose centres the distance is measured between."""
    scheme = _FACE_SCHEMES.get(num_landmarks)
    if scheme is None or scheme.eye_corners is None or scheme.pupils is None:
        known = ", ".join(map(str, sorted(_FACE_SCHEMES)))
        message = (
            f'`normalizer="{normalizer}"` must have a scheme of {known} landmarks, but got '
            f'{num_landmarks} landmarks. Pass a pair of indices, "box" or a (B,) tensor '
            "(`--normalizer 0,1`, `--normalizer box`)."
        )
        raise ValueError(message)
    if normalizer == "inter_pupil":
        return scheme.pupils
    left, right = scheme.eye_corners
    return (left,), (right,)


def _require_pair(pair: Sequence[int], num_landmarks: int) -> tuple[int, int]:
    indices = tuple(pair)
    if len(indices) != 2 or not all(0 <= index < num_landmarks for index in indices):
        message = (
            f"`normalizer` must be two indices from 0 to {num_landmarks - 1}, but got {indices}. "
            "Give the two landmarks whose distance is 1."
        )
        raise ValueError(message)
    return indices[0], indices[1]

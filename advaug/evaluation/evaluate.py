"""Measure a detector on clean, masked and occluded pictures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from advaug.augment import occlude
from advaug.augment.masks import add_masks
from advaug.evaluation.metrics import (
    auc,
    failure_rate,
    landmark_errors,
    mean_errors,
)
from advaug.evaluation.normalizers import Normalizer

__all__ = ["CONDITIONS", "Condition", "Errors", "evaluate", "predict", "predict_under"]

Condition = Callable[[Tensor, Tensor, Tensor], Tensor]
Decode = Callable[[Any, tuple[int, int]], Tensor]


def _clean(images: Tensor, landmarks: Tensor, numbers: Tensor) -> Tensor:
    return images


def _masked(images: Tensor, landmarks: Tensor, numbers: Tensor) -> Tensor:
    return add_masks(images, landmarks, seeds=numbers)


def _occluded(images: Tensor, landmarks: Tensor, numbers: Tensor) -> Tensor:
    return occlude(images, numbers)


CONDITIONS: Mapping[str, Condition] = {
    "clean": _clean,
    "masked": _masked,
    "occluded": _occluded,
}
"""From pictures `(B, 3, H, W)`, landmarks `(B, N, 2)` and the pictures' numbers `(B,)`, which seed
everything random, to changed pictures. Landmarks do not change."""


@dataclass(frozen=True)
class Errors:
    """The errors of one detector under one condition.

    Attributes:
        values: NME of each picture, a fraction, `(B,)` on the CPU; NaN if no landmark is visible.
        threshold: Of failure rate and AUC.
        apart: The same over some of the landmarks, by name: "visible" and "occluded" if the set
            knows which are; NaN if a picture has none of them.
    """

    values: Tensor
    threshold: float = 0.1
    apart: Mapping[str, Tensor] = field(default_factory=dict)

    def summary(self) -> dict[str, float]:
        """NME, failure rate and AUC, and the NME of each part as "nme_PART", all as fractions."""
        return {
            "nme": self.values.nanmean().item(),
            "failure_rate": failure_rate(self.values, threshold=self.threshold),
            "auc": auc(self.values, threshold=self.threshold),
            **{f"nme_{part}": values.nanmean().item() for part, values in self.apart.items()},
        }


@torch.no_grad()
def predict(detector: nn.Module, decode: Decode, images: Tensor, *, batch_size: int = 64) -> Tensor:
    """Landmarks `(B, N, 2)` in pixels for pictures `(B, 3, H, W)`, in evaluation mode.

    The detector's modes are restored afterwards.
    """
    size = (images.shape[-2], images.shape[-1])
    modes = {module: module.training for module in detector.modules()}
    detector.eval()
    try:
        parts = [decode(detector(part), size) for part in images.split(batch_size)]
    finally:
        for module, mode in modes.items():
            module.training = mode
    return torch.cat(parts)


def predict_under(
    detector: nn.Module,
    decode: Decode,
    images: Tensor,
    landmarks: Tensor,
    *,
    conditions: Mapping[str, Condition] = CONDITIONS,
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """Landmarks `(B, N, 2)` in pixels, as a detector finds them under every condition.

    Args:
        detector: On the device of the pictures.
        decode: From the detector's output and `(height, width)` to landmarks in pixels.
        images: `(B, 3, H, W)` in `[0, 1]`.
        landmarks: `(B, N, 2)` in pixels: the true ones, which some conditions need.
        conditions: By name.
        batch_size: Pictures at a time.
    """
    numbers = torch.arange(len(images))
    found = {}
    for name, condition in conditions.items():
        parts = [
            predict(detector, decode, condition(*part), batch_size=batch_size)
            for part in zip(
                images.split(batch_size),
                landmarks.split(batch_size),
                numbers.split(batch_size),
                strict=True,
            )
        ]
        found[name] = torch.cat(parts)
    return found


def evaluate(
    detector: nn.Module,
    decode: Decode,
    images: Tensor,
    landmarks: Tensor,
    visible: Tensor,
    *,
    normalizer: Normalizer,
    occluded: Tensor | None = None,
    conditions: Mapping[str, Condition] = CONDITIONS,
    batch_size: int = 64,
) -> dict[str, Errors]:
    """Errors of a detector under every condition.

    Args:
        detector: As for `predict_under`, like the others.
        decode: From the detector's output to landmarks.
        images: `(B, 3, H, W)` in `[0, 1]`.
        landmarks: `(B, N, 2)` in pixels.
        visible: `(B, N)` bool.
        normalizer: Of the NME.
        occluded: `(B, N)` bool, which landmarks something covers; these are also measured
            separately. None if unknown.
        conditions: By name.
        batch_size: Pictures at a time.
    """
    found = predict_under(
        detector, decode, images, landmarks, conditions=conditions, batch_size=batch_size
    )
    return {
        name: _errors(
            landmark_errors(preds, landmarks, normalizer=normalizer, visible=visible), occluded
        )
        for name, preds in found.items()
    }


def _errors(errors: Tensor, occluded: Tensor | None) -> Errors:
    """Errors of pictures from those of their landmarks, `(B, N)`."""
    apart = {}
    if occluded is not None:
        parts = {"visible": ~occluded, "occluded": occluded}
        apart = {name: mean_errors(errors, part).cpu() for name, part in parts.items()}
    return Errors(errors.nanmean(dim=1).cpu(), apart=apart)

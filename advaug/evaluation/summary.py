"""Summarise a detector's predictions: by subset and condition, landmark and region."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advaug.evaluation.corruptions import CorruptionErrors
from advaug.evaluation.evaluate import Errors
from advaug.evaluation.metrics import (
    auc,
    ced,
    failure_rate,
    landmark_errors,
    mean_errors,
)
from advaug.evaluation.normalizers import Normalizer
from advaug.evaluation.predictions import Predictions
from advaug.schemes import LandmarkScheme

__all__ = [
    "CURVE_REACH",
    "Curve",
    "Details",
    "Measured",
    "Measures",
    "Protocol",
    "SubsetSummary",
    "measure_errors",
    "summarize",
]

CURVE_POINTS, CURVE_REACH = 201, 2  # up to twice the threshold


@dataclass(frozen=True)
class Protocol:
    """How errors are measured.

    Attributes:
        normalizer: Of the NME.
        threshold: Of failure rate, AUC and CED, a fraction.
    """

    normalizer: Normalizer
    threshold: float = 0.1


@dataclass(frozen=True)
class Measures:
    """The errors of some pictures under one condition, fractions.

    Attributes:
        pictures: How many could be measured: those with a visible landmark.
        nme: Mean of the pictures' errors.
        failure_rate: Share of the pictures whose error exceeds the threshold.
        auc: Area under the CED, exact.
        auc_simpson: The same by Simpson's rule at steps of 1e-4.
        nme_visible: NME over the landmarks that nothing covers; None if the set does not know.
        nme_occluded: NME over the landmarks that something covers, of the pictures that have any;
            None if the set does not know, or has none.
    """

    pictures: int
    nme: float
    failure_rate: float
    auc: float
    auc_simpson: float
    nme_visible: float | None = None
    nme_occluded: float | None = None


@dataclass(frozen=True)
class Curve:
    """A cumulative error distribution.

    Attributes:
        thresholds: Fractions.
        shares: Share of the pictures whose error is at most each of them.
    """

    thresholds: list[float]
    shares: list[float]


@dataclass(frozen=True)
class Details:
    """Where the errors are, fractions.

    Attributes:
        ced: From 0 to twice the threshold.
        landmarks: Mean error of each landmark; None if it is visible in no picture.
        regions: Mean error of each region's landmarks.
    """

    ced: Curve
    landmarks: list[float | None]
    regions: dict[str, float | None]


@dataclass(frozen=True)
class SubsetSummary:
    """A subset, measured.

    Attributes:
        pictures: How many it has.
        conditions: The measures under each condition.
        details: The same under the plain conditions, those without corruption.
        landmark_c: What `CorruptionErrors.summary` says, with "kinds", the mean NME of each kind by
            severity; None if Landmark-C was not requested.
    """

    pictures: int
    conditions: dict[str, Measures]
    details: dict[str, Details]
    landmark_c: dict[str, Any] | None = None


@dataclass(frozen=True)
class Measured:
    """The error of every landmark of every picture.

    Attributes:
        landmarks: `(B, N)` for each condition, fractions; NaN where a landmark is not visible.
        occluded: `(B, N)` bool; None if the set does not know.
    """

    landmarks: Mapping[str, Tensor]
    occluded: Tensor | None

    def pictures(self, condition: str) -> Tensor:
        """NME of every picture under a condition: `(B,)`."""
        return self.landmarks[condition].nanmean(dim=1)


def measure_errors(predictions: Predictions, protocol: Protocol) -> Measured:
    """Measure predictions, in float64.

    Raises:
        ValueError: If the normaliser does not suit the landmarks.
    """
    truth = predictions.landmarks.double()
    errors = {
        name: landmark_errors(
            found.double(), truth, normalizer=protocol.normalizer, visible=predictions.visible
        )
        for name, found in predictions.found.items()
    }
    return Measured(errors, predictions.occluded)


def summarize(
    measured: Measured,
    subsets: Mapping[str, Sequence[int]],
    protocol: Protocol,
    scheme: LandmarkScheme | None,
) -> dict[str, SubsetSummary]:
    """Summarise the errors of every subset.

    Args:
        measured: The errors of all pictures.
        subsets: Indices of each subset's pictures.
        protocol: How they were measured.
        scheme: Its regions are reported separately.
    """
    regions = {} if scheme is None else scheme.regions
    found = {}
    for name, indices in subsets.items():
        chosen = torch.as_tensor(list(indices))
        errors = {key: value[chosen] for key, value in measured.landmarks.items()}
        occluded = None if measured.occluded is None else measured.occluded[chosen]
        found[name] = SubsetSummary(
            len(chosen),
            {key: _measures(value, occluded, protocol) for key, value in errors.items()},
            {
                key: _details(value, regions, protocol)
                for key, value in errors.items()
                if "/" not in key
            },
            _landmark_c(errors),
        )
    return found


def _measures(errors: Tensor, occluded: Tensor | None, protocol: Protocol) -> Measures:
    pictures = errors.nanmean(dim=1)
    apart = {}
    if occluded is not None:
        apart = {
            "nme_visible": _number(mean_errors(errors, ~occluded).nanmean()),
            "nme_occluded": _number(mean_errors(errors, occluded).nanmean()),
        }
    return Measures(
        pictures=int((~pictures.isnan()).sum()),
        nme=pictures.nanmean().item(),
        failure_rate=failure_rate(pictures, threshold=protocol.threshold),
        auc=auc(pictures, threshold=protocol.threshold),
        auc_simpson=auc(pictures, threshold=protocol.threshold, rule="simpson"),
        **apart,
    )


def _details(errors: Tensor, regions: Mapping[str, Sequence[int]], protocol: Protocol) -> Details:
    end = CURVE_REACH * protocol.threshold
    thresholds = torch.linspace(0, end, CURVE_POINTS, dtype=torch.float64)
    return Details(
        Curve(thresholds.tolist(), ced(errors.nanmean(dim=1), thresholds).tolist()),
        [_number(value) for value in errors.nanmean(dim=0)],
        {
            name: _number(errors[:, list(indices)].nanmean(dim=1).nanmean())
            for name, indices in regions.items()
        },
    )


def _landmark_c(errors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    corruptions: dict[str, dict[int, Errors]] = {}
    for name, value in errors.items():
        kind, _, severity = name.partition("/")
        if severity:
            corruptions.setdefault(kind, {})[int(severity)] = Errors(value.nanmean(dim=1))
    if not corruptions:
        return None
    clean = {"clean": Errors(errors["clean"].nanmean(dim=1))}
    kinds = {
        kind: {str(level): found.values.nanmean().item() for level, found in levels.items()}
        for kind, levels in corruptions.items()
    }
    return {**CorruptionErrors(clean, corruptions).summary(), "kinds": kinds}


def _number(value: Tensor) -> float | None:
    return None if value.isnan() else value.item()

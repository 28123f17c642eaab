"""Measure detectors on Landmark-C: mean corrupted NME, its ratio to the clean one, worst kind."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from advaug.augment.corruptions import (
    GROUPS,
    SEVERITIES,
    check_kinds,
    check_severities,
    corrupt,
)
from advaug.base.checks import check_choice
from advaug.evaluation.evaluate import CONDITIONS, Condition, Decode, Errors, evaluate
from advaug.evaluation.normalizers import Normalizer

__all__ = [
    "CorruptionErrors",
    "corruption_conditions",
    "evaluate_corruptions",
    "kinds_for",
]


@dataclass(frozen=True)
class CorruptionErrors:
    """The errors of one detector on the benchmark, and under the plain conditions.

    Attributes:
        conditions: By name, "clean" among them.
        corruptions: By kind and severity.
    """

    conditions: Mapping[str, Errors]
    corruptions: Mapping[str, Mapping[int, Errors]]

    def by_kind(self) -> dict[str, float]:
        """Mean NME of each kind over its severities, fractions."""
        return {
            kind: math.fsum(_mean(errors) for errors in found.values()) / len(found)
            for kind, found in self.corruptions.items()
        }

    def summary(self) -> dict[str, float | str]:
        """What a table shows of it.

        Returns:
            - "corrupted": mean corrupted NME, the mean over the kinds of their means, a fraction
            - "ratio": "corrupted" divided by the clean NME; 1 for a detector that nothing disturbs
            - "worst": the worst kind's mean NME, and "worst_kind" its name
        """
        kinds = self.by_kind()
        corrupted = math.fsum(kinds.values()) / len(kinds)
        worst = max(kinds, key=lambda kind: kinds[kind])
        return {
            "corrupted": corrupted,
            "ratio": corrupted / _mean(self.conditions["clean"]),
            "worst": kinds[worst],
            "worst_kind": worst,
        }


def evaluate_corruptions(
    detector: nn.Module,
    decode: Decode,
    images: Tensor,
    landmarks: Tensor,
    visible: Tensor,
    *,
    normalizer: Normalizer,
    group: str = "akin",
    kinds: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    conditions: Mapping[str, Condition] = CONDITIONS,
    batch_size: int = 64,
) -> CorruptionErrors:
    """Errors of a detector on clean pictures, under the other conditions, and on Landmark-C.

    Args:
        detector: On the device of the pictures.
        decode: From the detector's output and `(height, width)` to landmarks in pixels.
        images: Crops of faces, `(B, 3, H, W)` in `[0, 1]`; their numbers seed everything random.
        landmarks: `(B, N, 2)` in pixels.
        visible: `(B, N)` bool.
        normalizer: Of the NME.
        group: `"akin"`, the twenty kinds of `CORRUPTIONS`, many of which resemble what this library
            trains on, or `"unlike"`, those of `UNLIKE`, which nothing in it resembles. Report the
            two separately.
        kinds: Names of the group's; None for all, without those for faces if N is not 68.
        severities: From 1 to 5. Numbers that are compared with others' require all; `(1, 3, 5)` is
            faster.
        conditions: What else to measure, by name; "clean" must be among them.
        batch_size: Pictures at a time.

    Raises:
        ValueError: If a group, kind or severity is unknown, or "clean" is missing.
    """
    kinds = kinds_for(landmarks.shape[1], group) if kinds is None else kinds
    corrupted = corruption_conditions(kinds, severities, group)
    if "clean" not in conditions:
        msg = f"`conditions` must have 'clean', but got {list(conditions)}. Add it for the ratio."
        raise ValueError(msg)
    found = evaluate(
        detector,
        decode,
        images,
        landmarks,
        visible,
        normalizer=normalizer,
        conditions={**conditions, **corrupted},
        batch_size=batch_size,
    )
    return CorruptionErrors(
        conditions={name: found[name] for name in conditions},
        corruptions={
            kind: {severity: found[f"{kind}/{severity}"] for severity in severities}
            for kind in kinds
        },
    )


def kinds_for(num_landmarks: int, group: str = "akin") -> list[str]:
    """All kinds of a group, without those for faces if there are not 68 landmarks.

    Raises:
        ValueError: If there is no such group.
    """
    check_choice("group", group, tuple(GROUPS))
    face = num_landmarks == 68
    return [kind for kind, corruption in GROUPS[group].items() if face or not corruption.face]


def corruption_conditions(
    kinds: Sequence[str], severities: Sequence[int] = SEVERITIES, group: str = "akin"
) -> dict[str, Condition]:
    """The corruptions as conditions, by "kind/severity".

    Raises:
        ValueError: If a group is unknown, or a kind or severity in it.
    """
    check_kinds(kinds, group)
    check_severities(severities)
    return {
        f"{kind}/{severity}": _condition(kind, severity)
        for kind in kinds
        for severity in severities
    }


def _condition(kind: str, severity: int) -> Condition:
    def apply(images: Tensor, landmarks: Tensor, numbers: Tensor) -> Tensor:
        return corrupt(images, kind, severity, seeds=numbers, landmarks=landmarks)

    return apply


def _mean(errors: Errors) -> float:
    return errors.values.nanmean().item()

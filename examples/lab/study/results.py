"""The results of a study: reading them, and what they come to over the seeds."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import t as student

__all__ = ["Paired", "paired", "read_result", "read_results", "spread"]

NEEDED = ("arm", "seed", "steps", "nme", "seconds")
Result = Mapping[str, Any]


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of a run, or None if it has none that is whole."""
    try:
        found = json.loads((folder / "result.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    whole = isinstance(found, dict) and all(name in found for name in NEEDED)
    return found if whole else None


def read_results(output: Path) -> list[dict[str, Any]]:
    """All results of a study that are whole, by arm, steps and seed."""
    folders = sorted({path.parent for path in (output / "runs").glob("*/*/*/result.json")})
    found = [result for result in map(read_result, folders) if result is not None]
    return sorted(found, key=lambda result: (result["arm"], result["steps"], result["seed"]))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of a sample; NaN for the deviation of one value."""
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return statistics.fmean(values), deviation


@dataclass(frozen=True)
class Paired:
    """A comparison of two arms, seed by seed.

    Attributes:
        differences: Arm less control, one a seed that both have.
        mean: Their mean.
        p: Two-sided p of the paired t test; NaN for fewer than two seeds.
    """

    differences: tuple[float, ...]
    mean: float
    p: float


def paired(arm: Mapping[int, float], control: Mapping[int, float]) -> Paired | None:
    """Compare two arms by the seeds that both have.

    Args:
        arm: Value by seed.
        control: Likewise.

    Returns:
        None if they have no seed in common.
    """
    differences = tuple(arm[seed] - control[seed] for seed in sorted(set(arm) & set(control)))
    if not differences:
        return None
    mean, deviation = spread(differences)
    if len(differences) < 2:
        return Paired(differences, mean, math.nan)
    if deviation == 0:
        return Paired(differences, mean, 1.0 if mean == 0 else 0.0)
    statistic = mean / (deviation / math.sqrt(len(differences)))
    return Paired(differences, mean, float(2 * student.sf(abs(statistic), len(differences) - 1)))

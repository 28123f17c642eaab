"""What an example trains for: the pictures, what a mirror swaps, and how a detector is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import Dataset

from advaug.datasets import LandmarkSample
from advaug.evaluation.evaluate import Condition, Errors
from advaug.schemes import LandmarkScheme
from advaug.training.loading import Batch

__all__ = ["Measure", "Problem"]

Measure = Callable[[Tensor, Batch], Errors]
"""From predicted landmarks `(B, N, 2)` and the test pictures they are for to their errors."""


@dataclass(frozen=True)
class Problem:
    """What the runs of a comparison have to learn.

    Attributes:
        train: Pictures to train on.
        test: Pictures to measure on.
        scheme: What the landmarks are.
        conditions: Under which detectors are measured, by name.
        measure: How.
        unit: What the NME is divided by, in words.
    """

    train: Dataset[LandmarkSample]
    test: Dataset[LandmarkSample]
    scheme: LandmarkScheme
    conditions: Mapping[str, Condition]
    measure: Measure
    unit: str

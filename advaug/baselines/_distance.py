"""How far apart two outputs of a detector are, in the units of its task's error."""

import copy
import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from advaug.base.checks import describe
from advaug.base.precision import widen
from advaug.tasks import (
    CoordinateTask,
    HeatmapTask,
    LandmarkTask,
    split_target,
    stages_of,
)

__all__ = ["Distance", "distance_of"]

Distance = Callable[[Any, Any, Any], Tensor]
"""From `(output, reference, target)` to `(B,)`; zero where the two outputs are the same."""


def distance_of(task: LandmarkTask, distance: Distance | None) -> Distance:
    """The given distance, or the one that follows from a task of ours.

    Raises:
        TypeError: If there is neither.
    """
    if distance is not None:
        return distance
    if not isinstance(task, HeatmapTask | CoordinateTask):
        msg = (
            "`distance` must be given for a task of your own, which only knows how far an output "
            f"is from the truth, but got None for {describe(task)}. Pass a callable "
            "`(output, reference, target) -> (B,)` that compares two outputs."
        )
        raise TypeError(msg)
    return functools.partial(_distance, task)


def _distance(
    task: HeatmapTask | CoordinateTask,
    output: Any,  # noqa: ANN401 # the detector's
    reference: Any,  # noqa: ANN401 # the detector's
    target: Any,  # noqa: ANN401 # the task's
) -> Tensor:
    """The error that the task would give, were the truth where the reference is.

    Squared for heatmaps, a distance for coordinates, summed over the stages, each of which is
    compared with the same stage of the reference. Only visible landmarks count, and coordinates
    are divided by the size of the true face, which a young detector's output does not have.
    """
    truth, _ = split_target(target)
    axes = "(B, N, h, w)" if isinstance(task, HeatmapTask) else "(B, N, 2)"
    stages, references = (
        stages_of(each, task.output, type(task).__name__, truth.shape, axes)
        for each in (output, reference)
    )
    shifted = [
        widen(stage) - widen(other) + widen(truth)
        for stage, other in zip(stages, references, strict=True)
    ]
    bare = copy.copy(task)
    bare.output = None  # the stages are picked out already
    return bare.error(shifted, target)

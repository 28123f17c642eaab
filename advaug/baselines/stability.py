"""Stability training: the output for a noisy picture should be that for the clean one."""

from typing import Any, Unpack

import torch
from torch import Tensor

from advaug.base.checks import check_within
from advaug.baselines._defence import Call, Defence, DefenceOptions, Example
from advaug.baselines._distance import Distance, distance_of
from advaug.tasks import LandmarkTask

__all__ = ["StabilityTraining"]


class StabilityTraining(Defence):
    """Pull the output for a noisy copy of each picture to the output for the picture itself.

    Zheng et al., *Improving the Robustness of Deep Neural Networks via Stability Training*, CVPR
    2016, with a distance in the units of the task's error. Both passes draw the same dropout.

    Where we differ: the clean output is held fixed. It is what the caller's own loss teaches, and
    pulling it towards the noisy one would cost another 2 F.

    Cost: 1 F for the clean output and 3 F for the noisy one, beside the 3 F of the plain step.

    Args:
        task: What the detector's output means.
        noise: Standard deviation of the Gaussian noise, in image units.
        distance: From `(output, reference, target)` to `(B,)`, zero where the outputs are the same.
            Required only for your own task.
        options: Those of every baseline: `pixels`, `batch_norm`, `weight`, `loss_weight`,
            `optimizer`, `seed`; see `advaug.baselines.Defence`.

    Raises:
        TypeError, ValueError: If the task is none, or one without a distance, or an option is out
            of range.
    """

    def __init__(
        self,
        task: LandmarkTask,
        *,
        noise: float = 0.04,
        distance: Distance | None = None,
        **options: Unpack[DefenceOptions],
    ) -> None:
        super().__init__(task, **options)
        check_within(0, 1, noise=noise)
        self.noise = noise
        self.distance = distance_of(task, distance)

    def _example(self, call: Call, *, learn: bool) -> Example:
        with self.batch_norms.feedback(call.detector):  # normalised as the noisy pictures are
            reference = call.reference(call.images)
        noisy = call.images + self.noise * torch.randn_like(call.images)
        return Example(noisy, call.target, reference)

    def _error(self, output: Any, example: Example) -> Tensor:  # noqa: ANN401 # the detector's
        return self.distance(output, example.reference, example.target)

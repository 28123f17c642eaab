"""Virtual adversarial training, for regressors."""

import math
from typing import Any, Unpack

import torch
from torch import Tensor

from advaug.base.checks import check_within
from advaug.baselines._defence import Call, Defence, DefenceOptions, Example
from advaug.baselines._distance import Distance, distance_of
from advaug.tasks import LandmarkTask

__all__ = ["VirtualAdversary"]

PROBE = 1e-3  # how far the power iteration looks, as an RMS in image units


class VirtualAdversary(Defence):
    """Keep the output where it is in the direction in which it is most easily moved.

    Miyato et al., *Virtual Adversarial Training: A Regularization Method for Supervised and
    Semi-Supervised Learning*, TPAMI 2019. The divergence between distributions becomes a distance
    between outputs, in the units of the task's error. The direction comes from power iterations on
    its second derivative, by differences, for which the two passes draw the same dropout and are
    computed in float32, outside the caller's autocast.

    Cost: 1 F for the clean output, 2 F a power iteration and 3 F for the defence, beside the 3 F of
    the plain step.

    Args:
        task: What the detector's output means.
        epsilon: Size of the perturbation: its RMS over pixels and channels, in image units, so that
            it means the same at every picture size (an L2 norm of epsilon sqrt(3 H W)).
        power_iterations: One in the paper.
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
        epsilon: float = 8 / 255,
        power_iterations: int = 1,
        distance: Distance | None = None,
        **options: Unpack[DefenceOptions],
    ) -> None:
        super().__init__(task, **options)
        check_within(0, 1, epsilon=epsilon)
        check_within(1, math.inf, power_iterations=power_iterations)
        self.epsilon = epsilon
        self.power_iterations = power_iterations
        self.distance = distance_of(task, distance)

    def _example(self, call: Call, *, learn: bool) -> Example:
        with self.batch_norms.feedback(call.detector):  # normalised as the perturbed pictures are
            reference = call.reference(call.images, exact=True)

        def measure(output: Any) -> Tensor:  # noqa: ANN401 # the detector's
            return self.distance(output, reference, call.target)

        direction = _to_unit_rms(torch.randn_like(call.images))
        for _ in range(self.power_iterations):
            probe = call.images + PROBE * direction
            gradient = self._gradient(call, probe, measure, exact=True)
            flat = gradient.abs().amax(dim=(1, 2, 3), keepdim=True) == 0
            direction = torch.where(flat, direction, _to_unit_rms(gradient))
        return Example(call.images + self.epsilon * direction, call.target, reference)

    def _error(self, output: Any, example: Example) -> Tensor:  # noqa: ANN401 # the detector's
        return self.distance(output, example.reference, example.target)


def _to_unit_rms(values: Tensor) -> Tensor:
    """Each sample's direction, with a root mean square of one; NaN where there is none."""
    # The largest first: the square of a small gradient is zero in float32.
    values = values / values.abs().amax(dim=(1, 2, 3), keepdim=True)
    return values / values.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()

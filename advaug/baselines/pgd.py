"""Adversarial training with projected gradient steps, for regressors."""

import math
from typing import Unpack

import torch
from torch import Tensor

from advaug.base.checks import check_within
from advaug.baselines._defence import Call, Defence, DefenceOptions, Example
from advaug.tasks import LandmarkTask

__all__ = ["PGDAdversary"]


class PGDAdversary(Defence):
    """Train on pictures moved within a small box to raise the task's error.

    Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, ICLR 2018, with
    the task's error in the place of a classifier's loss. One step from a random start is the fast
    variant (RS-FGSM) of Wong et al., *Fast is better than free*, ICLR 2020. With
    `batch_norm="split"` it is AdvProp (Xie et al., *Adversarial Examples Improve Image
    Recognition*, CVPR 2020), whose attacks are of this kind.

    Cost: 2 F a step of the attack and 3 F for the defence, beside the 3 F of the plain step.

    Args:
        task: What the detector's output means.
        steps: Of the attack.
        epsilon: Largest change of a pixel, in image units.
        step_size: Change of a pixel in one step, in image units; by default 2.5 epsilon over the
            steps as in Madry et al., and 1.25 epsilon for a single one as in Wong et al.
        options: Those of every baseline: `pixels`, `batch_norm`, `weight`, `loss_weight`,
            `optimizer`, `seed`; see `advaug.baselines.Defence`.

    Raises:
        TypeError, ValueError: If the task is none or an option is out of range.
    """

    def __init__(
        self,
        task: LandmarkTask,
        *,
        steps: int = 7,
        epsilon: float = 8 / 255,
        step_size: float | None = None,
        **options: Unpack[DefenceOptions],
    ) -> None:
        super().__init__(task, **options)
        check_within(1, math.inf, steps=steps)
        check_within(0, 1, epsilon=epsilon)
        self.steps = steps
        self.epsilon = epsilon
        self.step_size = 2.5 * epsilon / max(steps, 2) if step_size is None else step_size
        check_within(0, 1, step_size=self.step_size)

    def _example(self, call: Call, *, learn: bool) -> Example:
        start = torch.empty_like(call.images).uniform_(-self.epsilon, self.epsilon)
        pictures = self._project(call.images + start, call.images)
        for _ in range(self.steps):
            gradient = self._gradient(call, pictures, lambda out: self.task.error(out, call.target))
            moved = pictures + self.step_size * gradient.sign()
            pictures = self._project(moved, call.images)
        return Example(pictures, call.target)

    def _project(self, pictures: Tensor, clean: Tensor) -> Tensor:
        """Back into `[0, 1]`, then into the box, which counts more where a picture overshoots."""
        return pictures.clamp(0, 1).clamp(clean - self.epsilon, clean + self.epsilon)

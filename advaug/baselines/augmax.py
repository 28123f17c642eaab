"""AugMax: the weights of AugMix's chains are chosen against the detector."""

import math
from typing import Unpack

import torch
from torch import Tensor

from advaug.base.checks import check_within
from advaug.baselines._defence import Call, Defence, DefenceOptions, Example
from advaug.baselines._photometric import CHAINS, AugMix
from advaug.tasks import LandmarkTask

__all__ = ["AugMax", "mix_chains"]

TRAVEL = 0.5  # five of the published steps of 0.1


class AugMax(Defence):
    """Train on the hardest mix of random chains of photometric operations.

    H. Wang et al., "AugMax: Adversarial Composition of Random Augmentations for Robust Training",
    NeurIPS 2021. The chains are random as in AugMix. Their weights, the softmax of one number a
    chain, and the share of the mix in the picture start at random and take steps of a fixed length
    up the detector's error.

    Where we differ: one step by default, as long as five of the published ones. The operations move
    no landmark. There is no consistency term between outputs, which compares distributions of
    classes, and no second normalisation unless you ask for `batch_norm="split"`.

    Cost: 2 F a step and 3 F for the defence, beside the 3 F of the plain step.

    Args:
        task: What the detector's output means.
        steps: Of the choice.
        step_size: Change of a weight's number and of the share in one step; by default 0.5 over the
            steps.
        options: Those of every baseline: `pixels`, `batch_norm`, `weight`, `loss_weight`,
            `optimizer`, `seed`; see `advaug.baselines.Defence`.

    Raises:
        TypeError, ValueError: If the task is none or an option is out of range.
    """

    def __init__(
        self,
        task: LandmarkTask,
        *,
        steps: int = 1,
        step_size: float | None = None,
        **options: Unpack[DefenceOptions],
    ) -> None:
        super().__init__(task, **options)
        check_within(1, math.inf, steps=steps)
        self.steps = steps
        self.step_size = TRAVEL / steps if step_size is None else step_size
        check_within(0, 1, step_size=self.step_size)
        self._augmix = AugMix()

    def _example(self, call: Call, *, learn: bool) -> Example:
        count, device = len(call.images), call.images.device
        chains = self._augmix.chains(call.images)
        share = torch.rand(count, 1, device=device).to(call.images.dtype)
        scores = torch.rand(count, CHAINS, device=device).to(call.images.dtype)
        for _ in range(self.steps):
            share, scores = (part.detach().requires_grad_() for part in (share, scores))
            mixed = mix_chains(call.images, chains, share, scores)
            gradient = self._gradient(call, mixed, lambda out: self.task.error(out, call.target))
            up, towards = torch.autograd.grad(mixed, [share, scores], gradient)
            share = (share + self.step_size * up.sign()).clamp(0, 1)
            scores = scores + self.step_size * towards.sign()
        return Example(mix_chains(call.images, chains, share, scores).detach(), call.target)


def mix_chains(images: Tensor, chains: Tensor, share: Tensor, scores: Tensor) -> Tensor:
    """Pictures mixed with their chains.

    Args:
        images: `(B, 3, H, W)`.
        chains: `(3, B, 3, H, W)`.
        share: Of the mix in the picture, `(B, 1)`.
        scores: Of the chains, `(B, 3)`; their softmax gives the weights.
    """
    weights = scores.softmax(dim=1).T[..., None, None, None]
    return torch.lerp(images, (weights * chains).sum(dim=0), share[..., None, None])

"""Whether the samples of a batch affect each other's errors: tried, not guessed by class names."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from advaug.base.checks import CUT_OFF
from advaug.base.distributed import rank, world_size, worst
from advaug.step.batch_norm import BatchNorms
from advaug.step.loan import Loan
from advaug.step.modes import APART, IN_DOUBT, MIXED
from advaug.step.randomness import private_randomness

__all__ = ["Neighbours"]

Measure = Callable[[Tensor], Tensor]


class Neighbours:
    """Try whether samples mix, detector by detector, and remember the answer.

    The errors of one half of the batch must have no gradient at all at the pictures of the other
    half. That takes one forward and one backward, on loan and with private random numbers: no state
    changes. A path that is closed at first, such as a gate that starts at zero, may open later, so
    the trial is repeated in the 2nd, 4th, 8th ... call. A detector that has mixed samples once is
    never trusted again in the same modes.
    """

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[nn.Module, dict[Any, _Answer]] = (
            weakref.WeakKeyDictionary()
        )

    def __reduce__(self) -> tuple[type["Neighbours"], tuple[()]]:
        """A copy starts empty: it may meet the detector in another process."""
        return Neighbours, ()

    def found(self, loan: Loan, norms: BatchNorms, images: Tensor, measure: Measure) -> int:
        """`APART`, `MIXED`, or `IN_DOUBT` where no error depends on any picture yet.

        Args:
            loan: Of a module.
            norms: Lends it under its policy.
            images: A batch as the detector expects it, `(B, C, H, W)`.
            measure: From such pictures to the detector's error on each, `(B,)`.

        Raises:
            ValueError: If no graph leads from the error to the pictures.
        """
        assert loan.module is not None
        key = norms.policy, tuple(module.training for module in loan.modules)
        answer = self._known.setdefault(loan.module, {}).setdefault(key, _Answer())
        if images.is_cuda and torch.cuda.is_current_stream_capturing():
            return answer.value
        if len(images) == 1 and world_size() == 1:
            return APART  # no neighbours in this call, which says nothing of larger ones
        answer.calls += 1
        due = answer.calls & (answer.calls - 1) == 0
        if due and answer.value != MIXED:
            with norms.feedback(loan):
                tried = worst(_try(images, measure, seed=answer.calls), images.device)
            # Doubt, as about a detector that has died, does not change an earlier answer.
            answer.value = answer.value if tried == IN_DOUBT else tried
        return answer.value


class _Answer:
    """What is known of a detector in one set of modes under one policy."""

    def __init__(self) -> None:
        self.calls = 0
        self.value = IN_DOUBT


def _try(images: Tensor, measure: Measure, *, seed: int) -> int:
    draws = torch.Generator().manual_seed(seed)
    half = _half(len(images), draws).to(images.device)
    leaf = images.detach().clone().requires_grad_()
    with private_randomness(draws, images.device):
        error = measure(leaf)
        if not error.requires_grad:
            raise ValueError(CUT_OFF)
        own = torch.where(half, error, 0.0).sum()
        (gradient,) = torch.autograd.grad(own, leaf, allow_unused=True)
    if gradient is None:
        raise ValueError(CUT_OFF)
    others = gradient[~half]
    dead = bool(half.any()) and not bool(gradient[half].any())
    if dead or not bool(others.isfinite().all()):
        return IN_DOUBT
    return MIXED if bool(others.any()) else APART


def _half(count: int, draws: torch.Generator) -> Tensor:
    """Which pictures' errors count: `(B,)` bool, about half of them over all processes."""
    if count == 1:  # its neighbours are in other processes, where statistics may reach
        return torch.tensor([rank() % 2 == 0])
    return torch.randperm(count, generator=draws) < (count + 1) // 2

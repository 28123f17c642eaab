"""Whether the samples of a batch reach each other's output: tried, not guessed from class names."""

import contextlib
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from advaug.base.checks import CUT_OFF
from advaug.base.distributed import world_size, worst
from advaug.base.precision import without_graph
from advaug.step.batch_norm import BatchNorms
from advaug.step.loan import Loan, private_randomness, sharded
from advaug.step.modes import APART, IN_DOUBT, MIXED

__all__ = ["Mixing"]

ROUNDS = 2  # with random numbers of their own, which some detectors shuffle or skip by
Measure = Callable[[Tensor], Tensor]


class Mixing:
    """Try whether samples mix, detector by detector, and remember the answer.

    A sample's error must stay the same, bit for bit, when its neighbours are exchanged. It is tried
    in the modes and under the BatchNorm policy in force, on loan and with random numbers of its
    own: nothing moves. What starts at zero, such as a gate, may open later, so it is tried again in
    the 2nd, 4th, 8th ... call. Who has mixed once is never trusted again.
    """

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[nn.Module, dict[Any, _Answer]] = (
            weakref.WeakKeyDictionary()
        )

    def __reduce__(self) -> tuple[type["Mixing"], tuple[()]]:
        """A copy begins anew: it may meet the detector in another process."""
        return Mixing, ()

    def found(self, loan: Loan, norms: BatchNorms, images: Tensor, measure: Measure) -> int:
        """`APART`, `MIXED`, or `IN_DOUBT` where the errors answer to no picture.

        Args:
            loan: A module on loan.
            norms: Lends it under its policy.
            images: A batch as the detector takes it, `(B, 3, H, W)`.
            measure: From such pictures to the detector's error on each, `(B,)`.

        Raises:
            ValueError: If the error does not depend on the pictures at all.
        """
        assert loan.module is not None
        key = norms.policy, tuple(module.training for module in loan.modules)
        answer = self._known.setdefault(loan.module, {}).setdefault(key, _Answer())
        if images.is_cuda and torch.cuda.is_current_stream_capturing():
            return answer.value
        answer.calls += 1
        if len(images) == 1 and world_size() == 1:
            return APART  # no neighbours in this call; nothing is learned about others
        due = answer.calls & (answer.calls - 1) == 0
        if due and answer.value != MIXED:
            first = answer.calls == 1
            seeds = range(ROUNDS) if first else (answer.calls,)
            tried = _try(loan, norms, images.detach(), measure, seeds)
            tried = worst(tried, images.device)
            if tried != IN_DOUBT:  # as of a detector that has died: no reason to think anew
                answer.value = tried
        return answer.value


class _Answer:
    """What is known of a detector in one set of modes under one policy."""

    def __init__(self) -> None:
        self.calls = 0
        self.value = IN_DOUBT


def _try(
    loan: Loan, norms: BatchNorms, images: Tensor, measure: Measure, seeds: Iterable[int]
) -> int:
    with norms.feedback(loan):
        _check_reached(images, measure)
    return max(_compare(loan, norms, images, measure, seed) for seed in seeds)


def _check_reached(images: Tensor, measure: Measure) -> None:
    leaf = images.clone().requires_grad_()
    with private_randomness(torch.Generator().manual_seed(0), images.device):
        error = measure(leaf)
        if not error.requires_grad:
            raise ValueError(CUT_OFF)
        (gradient,) = torch.autograd.grad(error.sum(), leaf, allow_unused=True)
    if gradient is None:
        raise ValueError(CUT_OFF)


def _compare(loan: Loan, norms: BatchNorms, images: Tensor, measure: Measure, seed: int) -> int:
    """Exchange all but one sample, then that one only, and see whose error changes."""

    def errors_of(batch: Tensor) -> Tensor:
        # With a graph, as a compiled detector is used to; but shards would wait for a backward.
        quiet = without_graph if sharded(loan.modules) else _nothing
        draws = torch.Generator().manual_seed(seed)
        # A loan for each pass: some detectors change their own buffers in every forward.
        with norms.feedback(loan), private_randomness(draws, images.device), quiet(images.device):
            return measure(batch.clone().requires_grad_(torch.is_grad_enabled())).detach()

    other = images.amin() + images.amax() - images.flip(-1)  # another picture, in the same range
    plain = errors_of(images)
    answering = (errors_of(other) != plain).nonzero().flatten().tolist()
    if not answering or not bool(plain.isfinite().all()):
        return IN_DOUBT  # as from a head that starts at zero
    chosen = torch.arange(len(images), device=images.device) == answering[seed % len(answering)]
    view = chosen.view(-1, 1, 1, 1)
    others_changed = errors_of(torch.where(view, images, other))
    one_changed = errors_of(torch.where(view, other, images))
    same = torch.where(chosen, others_changed == plain, one_changed == plain)
    return APART if bool(same.all()) else MIXED


def _nothing(_: torch.device) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()

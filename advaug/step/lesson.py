"""Catch the attacker's gradient in the caller's own backward.

The attacker needs the gradient of the detector's error at I_adv. A backward of the caller's that
passes through I_adv brings it there, up to a factor per sample that depends on the caller's loss.
That factor is removed in one of two ways:

- If the weight u_i that arrives at each error e_i is known, the gradient times
  -1 / ((e_i + λ)² B u_i) is exactly that of the mean of Eq. 3.
- If only the gradient is known, its direction is used: every sample pushes equally hard, and
  neither the scale of the loss nor its reduction matters.
"""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Variable

from advaug.base.precision import in_float16, widen
from advaug.functional import feedback_loss

__all__ = ["Facts", "Lesson", "weighted_mean"]

# Weight of a sample that should have none, relative to the loss's own scale. Its gradient still
# reaches the pictures, and what it adds to the detector's gradient is below rounding.
LEAST, LEAST_HALF = 2.0**-40, 2.0**-12


class Facts(NamedTuple):
    """What is known about the detector's errors when the attacker learns.

    Attributes:
        error: On the adversarial pictures, `(B,)`; NaN if unknown.
        rises: How far they exceed those of other pictures; see `StepReport`.
    """

    error: Tensor
    rises: tuple[Tensor, Tensor] | None = None


Finish = Callable[[], None]
Teach = Callable[[Tensor, bool, Facts], Finish]


class Lesson:
    """What one backward of the caller's will teach, once.

    The pictures hold this object only weakly. The owner that waits for the lesson keeps it, and
    drops the whole scene with it if the backward never comes.

    Args:
        adversarial: I_adv, a leaf, which the detector is about to see.

    Attributes:
        teach: Called during the backward with the gradient of L_F at I_adv, with whether that is
            only a direction, and with the facts. What it returns is called when the whole backward
            is done.
        facts: What is known by then.
    """

    def __init__(self, adversarial: Tensor) -> None:
        self.teach: Teach | None = None
        self.facts = Facts(adversarial.new_full((len(adversarial),), torch.nan))
        self._wanted: Tensor | None = None
        self._arrived: Tensor | None = None
        this = weakref.ref(self)

        def arrive(leaf: Tensor) -> None:
            gradient, leaf.grad = leaf.grad, None
            lesson = this()
            if lesson is not None and gradient is not None:
                lesson._take(gradient)

        adversarial.register_post_accumulate_grad_hook(arrive)

    @property
    def waits(self) -> bool:
        """Whether the backward has not reached the pictures yet."""
        return self.teach is not None

    def follow(self, error: Tensor, relaxation: float) -> None:
        """Weigh each sample as Eq. 3 does, for these errors e, `(B,)`."""
        own = error.detach().requires_grad_()
        feedback = feedback_loss(own, relaxation=relaxation).mean()
        (self._wanted,) = torch.autograd.grad(feedback, own)

    def weigh(self, arrived: Tensor) -> None:
        """Record the weight u of each error in the caller's loss, `(B,)`, loss scale included."""
        self._arrived = arrived

    def weigh_by(self, errors: Tensor, chosen: Tensor) -> None:
        """Record the weights when they arrive at the caller's errors; ours are the chosen ones."""
        this = weakref.ref(self)

        def arrive(gradient: Tensor) -> None:
            lesson = this()
            if lesson is not None:
                lesson.weigh(widen(gradient)[chosen])

        errors.register_hook(arrive)

    def _take(self, gradient: Tensor) -> None:
        """Teach, at the first backward only: a second one brings nothing new."""
        teach, self.teach = self.teach, None
        if teach is not None:
            known = self._wanted is not None and self._arrived is not None
            finish = teach(self._push(gradient), not known, self.facts)
            # As DistributedDataParallel waits for the detector's last gradient.
            Variable._execution_engine.queue_callback(finish)

    def _push(self, gradient: Tensor) -> Tensor:
        """Gradient of L_F at I_adv."""
        if self._wanted is None or self._arrived is None:
            return -directions(gradient)
        weighed = self._arrived != 0
        ratio = torch.where(weighed, self._wanted / self._arrived, 0.0)
        # A loss with weight 0 tells nothing: the gradient is NaN, so the step is skipped.
        ratio = torch.where(weighed.any(), ratio, torch.nan)
        return gradient * ratio.view(-1, 1, 1, 1)


def directions(gradient: Tensor) -> Tensor:
    """The gradient of each sample, with norm 1, or 0 where there is none."""
    # Divide by the largest value first: a loss scale may overflow or underflow the squares.
    largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    gradient = torch.where(largest > 0, gradient / largest, gradient)
    norms = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return gradient / norms.clamp(min=1.0)


def weighted_mean(error: Tensor, weights: Tensor, scale: float, lesson: Lesson) -> Tensor:
    """Eq. 8: the mean of weights times errors, whose first backward tells the lesson its weights.

    Args:
        error: e of Eq. 3, `(B,)`.
        weights: β times the loss's weight, `(B,)`.
        scale: The loss's weight; the weight that counts as zero is relative to it.
        lesson: The lesson that waits at the pictures.
    """
    least = scale * (LEAST_HALF if in_float16(error.device) else LEAST)
    return _WeightedMean.apply(error, weights, least, lesson)


class _WeightedMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, error: Tensor, weights: Tensor, least: float, lesson: Lesson) -> Tensor:  # noqa: ANN401 # autograd's
        ctx.save_for_backward(weights)
        ctx.least, ctx.lesson = least, lesson
        return (weights * error).mean()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 # autograd's
        (scale,), (weights,) = grad_outputs, ctx.saved_tensors
        # Never zero: even a picture with β = 0 teaches the attacker, and so does a loss that the
        # caller multiplies by zero, as in a warm-up.
        wanted = torch.where(scale == 0, ctx.least, scale * weights.clamp(min=ctx.least))
        gradient = wanted / len(weights)
        ctx.lesson.weigh(gradient)
        return gradient, None, None, None

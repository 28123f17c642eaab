"""Three ways to run one step, which differ in cost alone, and which of them is exact for whom.

In forward passes F of the detector (a backward is one for the pictures and one for the weights);
the clean loss costs 3 F more:

- `"alternating"`, the paper: a pass for the attacker's feedback (2 F), one for the defence (3 F).
- `"shared"`: one pass, two backwards (4 F). Exact with any normalisation.
- `"fused"`: one pass, one backward, the caller's own (3 F). Exact where no sample of a batch
  reaches the output of another.

Fused works because both losses see the detector through the same error e_i of each sample: the
defence wants w_i ∂e_i/∂θ, the attacker -1/(e_i + λ)² ∂e_i/∂I_adv. So what the caller's backward
brings to I_adv is the attacker's gradient up to one factor a sample.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.nn.modules.batchnorm import _BatchNorm

from advaug.functional import feedback_loss
from advaug.step.batch_norm import BatchNormPolicy
from advaug.step.loan import Loan, batch_norms
from advaug.step.recompute import recomputes

__all__ = ["APART", "IN_DOUBT", "MIXED", "MODES", "Lesson", "Mode", "choose_mode"]

Mode = Literal["alternating", "shared", "fused"]
APART, IN_DOUBT, MIXED = 0, 1, 2  # samples; of several processes the worst counts
MODES = ("auto", "alternating", "shared", "fused")
# Weight of a sample that should have none, relative to the loss's own scale: its gradient survives
# on the way to the pictures, and what it adds to the detector's is below rounding.
LEAST, LEAST_HALF = 2.0**-40, 2.0**-12


def choose_mode(
    wanted: Mode | Literal["auto"],
    loan: Loan,
    policy: BatchNormPolicy,
    *,
    transformed: bool,
    mixes: Callable[[], int],
) -> Mode:
    """The cheapest mode that is exact, or the one that is wanted.

    Args:
        wanted: One of `MODES`.
        loan: The detector.
        policy: What BatchNorm does with adversarial pictures.
        transformed: Whether the detector defends on other pictures than it is attacked on.
        mixes: Runs the detector to see whether a sample depends on its neighbours, only where
            nothing else decides: `APART`, `IN_DOUBT` or `MIXED`. Doubt is enough against fused,
            unless it is wanted.

    Raises:
        ValueError: If fused is wanted and not exact.
    """
    if wanted in ("alternating", "shared"):
        return wanted
    if wanted == "auto" and transformed:
        return "alternating"
    obstacle = _obstacle(loan, policy, mixes, limit=APART if wanted == "auto" else IN_DOUBT)
    if obstacle is None:
        return "fused"
    if wanted == "auto":
        return "shared"
    msg = (
        "`mode='fused'` needs a detector in which the samples of a batch do not mix, but "
        f"{obstacle}, or `mode='shared'`."
    )
    raise ValueError(msg)


def _obstacle(
    loan: Loan, policy: BatchNormPolicy, mixes: Callable[[], int], *, limit: int
) -> str | None:
    """Why mode fused is not exact, and what to do, for its error message."""
    if loan.module is None:
        return (
            "nothing is known of one that is not an nn.Module. Pass the network itself, with "
            "`forward=lambda net, x: ...`"
        )
    mixer = _mixer(loan.modules, policy)
    if mixer is not None:
        return (
            f"its {type(mixer).__name__} normalises with batch statistics under "
            f"`batch_norm={policy!r}`. Use `batch_norm='running'`"
        )
    if mixes() > limit:
        return (
            "an output of this one changes with its neighbours in the batch. Use a "
            "normalisation of each sample by itself, such as GroupNorm"
        )
    if recomputes(loan.module):
        return (
            "this one checkpoints its activations, for which gradients are taken in the call. "
            "Turn that off"
        )
    return None


def _mixer(modules: list[nn.Module], policy: BatchNormPolicy) -> _BatchNorm | None:
    """A BatchNorm that will normalise adversarial pictures with the statistics of their batch."""
    for norm in batch_norms(modules):
        batch = norm.training and policy != "running"
        if batch or norm.running_mean is None:
            return norm
    return None


class Lesson:
    """Catch the attacker's gradient in the caller's own backward: mode fused.

    In a backward through `loss`, the weight that arrives at each e_i is known first, then the
    gradient that arrives at the tapped pictures. Scaled by the ratio of what L_F wants of e_i to
    that weight, it is the gradient of L_F.
    """

    def tap(self, adversarial: Tensor) -> None:
        """Watch these pictures, a leaf, which the detector is about to see."""
        adversarial.register_post_accumulate_grad_hook(self._finish)

    def loss(
        self,
        error: Tensor,
        weights: Tensor,
        scale: float,
        relaxation: float,
        teach: Callable[[Tensor], Callable[[], None]],
    ) -> Tensor:
        """Eq. 8: the mean of weights times errors, whose first backward teaches.

        Args:
            error: e of Eq. 3, `(B,)`.
            weights: β times the loss's weight, `(B,)`.
            scale: The loss's weight: what counts as nothing is measured by it.
            relaxation: λ of Eq. 3.
            teach: Called with the gradient of L_F's mean at I_adv, `(B, 3, H, W)`, on the way.
                What it gives is called when the whole backward is done.
        """
        own = error.detach().requires_grad_()
        feedback = feedback_loss(own, relaxation=relaxation).mean()
        (self._wanted,) = torch.autograd.grad(feedback, own)
        self._teach: Callable[[Tensor], Callable[[], None]] | None = teach
        half = _in_half(error.device)
        return _WeightedMean.apply(error, weights, scale * (LEAST_HALF if half else LEAST), self)

    def weigh(self, arrived: Tensor) -> None:
        """Take the gradient at each error, `(B,)`, the caller's loss scale included."""
        self._arrived = arrived

    def _finish(self, adversarial: Tensor) -> None:
        """Take the gradient at the pictures, and teach; a second backward teaches nothing new."""
        gradient, adversarial.grad = adversarial.grad, None
        teach, self._teach = self._teach, None
        if teach is not None and gradient is not None:
            ratio = self._wanted / self._arrived
            finish = teach(gradient * ratio.view(-1, 1, 1, 1))
            # As DistributedDataParallel waits for the detector's last gradient.
            Variable._execution_engine.queue_callback(finish)


def _in_half(device: torch.device) -> bool:
    enabled = torch.is_autocast_enabled(device.type)
    return enabled and torch.get_autocast_dtype(device.type) == torch.float16


class _WeightedMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, error: Tensor, weights: Tensor, least: float, lesson: Lesson) -> Tensor:  # noqa: ANN401 # autograd's
        ctx.save_for_backward(weights)
        ctx.least, ctx.lesson = least, lesson
        return (weights * error).mean()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 # autograd's
        (scale,), (weights,) = grad_outputs, ctx.saved_tensors
        # Never zero: a picture with β = 0 teaches the attacker all the same, and so does a loss
        # that the caller counts zero times, as in a warm-up.
        wanted = torch.where(scale == 0, ctx.least, scale * weights.clamp(min=ctx.least))
        gradient = wanted / len(weights)
        ctx.lesson.weigh(gradient)
        return gradient, None, None, None


def check_schedule(
    mode: str,
    transform: object,
    attacker_every: int,
    discriminator_every: int,
    adversarial_fraction: float,
) -> None:
    """Raise where the ways to save time are out of range or exclude each other."""
    if transform is not None and mode in ("shared", "fused"):
        msg = (
            f"`mode` must be 'alternating' or 'auto' with a `transform`, after which attack and "
            f"defence see different pictures, but got {mode!r}. Leave one of the two out."
        )
        raise ValueError(msg)
    every = {"attacker_every": attacker_every, "discriminator_every": discriminator_every}
    for name, value in every.items():
        if not isinstance(value, int) or value < 1:
            msg = f"`{name}` must be a whole number of steps from 1, but got {value!r}."
            raise ValueError(msg)
    if not 0 < adversarial_fraction <= 1:
        msg = (
            f"`adversarial_fraction` must be above 0 and at most 1, but got {adversarial_fraction}."
            " For a plain training leave the adversary out."
        )
        raise ValueError(msg)

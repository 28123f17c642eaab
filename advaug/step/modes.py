"""Three ways to run one step, which differ only in cost, and how to choose one that is exact.

In forward passes F of the detector (a backward is one for the pictures and one for the weights);
the clean loss costs 3 F more:

- `"alternating"`, the paper: a pass for the attacker's feedback (2 F), one for the defence (3 F).
- `"shared"`: one pass, two backwards (4 F). Exact with any normalisation.
- `"fused"`: one pass, one backward, the caller's own (3 F). Exact where no sample of a batch
  reaches the output of another.

Fused works because both losses see the detector through the same error e_i of each sample: the
defence needs w_i ∂e_i/∂θ, the attacker -1/(e_i + λ)² ∂e_i/∂I_adv. So what the caller's backward
brings to I_adv is the attacker's gradient up to one factor per sample.
"""

from collections.abc import Callable
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from advaug.step.batch_norm import BatchNormPolicy
from advaug.step.loan import Loan, batch_norms
from advaug.step.recompute import recomputes

__all__ = ["APART", "IN_DOUBT", "MIXED", "Mode", "choose_mode"]

Mode = Literal["alternating", "shared", "fused"]
APART, IN_DOUBT, MIXED = 0, 1, 2  # samples; of several processes the worst counts


def choose_mode(
    requested: Mode | Literal["auto"],
    loan: Loan,
    policy: BatchNormPolicy,
    *,
    transformed: bool,
    mixes: Callable[[], int],
) -> Mode:
    """The requested mode, or for `"auto"` the cheapest one that is exact.

    Args:
        requested: A mode, or `"auto"`.
        loan: The detector.
        policy: What BatchNorm does with adversarial pictures.
        transformed: Whether the defence sees other pictures than the attack.
        mixes: Runs the detector to see whether a sample depends on its neighbours: `APART`,
            `IN_DOUBT` or `MIXED`. Called only if nothing else decides. In doubt, fused runs only
            on request.

    Raises:
        ValueError: If fused is requested and not exact.
    """
    if requested in ("alternating", "shared"):
        return requested
    if requested == "auto" and transformed:
        return "alternating"
    obstacle = _obstacle(loan, policy, mixes, limit=APART if requested == "auto" else IN_DOUBT)
    if obstacle is None:
        return "fused"
    if requested == "auto":
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
            "nothing is known about one that is not an nn.Module. Pass the network itself, with "
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
            "an output of this one depends on its neighbours in the batch. Use a "
            "normalisation of each sample separately, such as GroupNorm"
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

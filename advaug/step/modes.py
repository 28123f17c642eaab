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

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from advaug.step.batch_norm import BatchNormPolicy
from advaug.step.loan import Detector, batch_norms, modules_of

__all__ = ["Mode", "choose_mode"]

Mode = Literal["alternating", "shared", "fused"]


def choose_mode(
    wanted: Mode | Literal["auto"],
    detector: Detector,
    policy: BatchNormPolicy,
    *,
    transformed: bool,
) -> Mode:
    """The cheapest mode that is exact, or the one that is wanted.

    Args:
        wanted: A mode, or `"auto"`.
        detector: As the adversary gets it.
        policy: What BatchNorm does with adversarial pictures.
        transformed: Whether the detector defends on other pictures than it is attacked on.

    Raises:
        ValueError: If fused is wanted and samples mix.
    """
    if wanted in ("alternating", "shared"):
        return wanted
    modules = modules_of(detector)
    mixer = _mixer(modules, policy)
    if wanted == "fused":
        if mixer is not None:
            msg = (
                "`mode='fused'` needs a detector in which the samples of a batch do not mix, but "
                f"its {type(mixer).__name__} normalises with batch statistics under "
                f"`batch_norm={policy!r}`. Use `batch_norm='running'`, or `mode='shared'`."
            )
            raise ValueError(msg)
        return "fused"
    if transformed:
        return "alternating"
    # Of a callable that hides its modules nothing is known.
    return "fused" if modules and mixer is None else "shared"


def _mixer(modules: list[nn.Module], policy: BatchNormPolicy) -> _BatchNorm | None:
    """A BatchNorm that will normalise adversarial pictures with the statistics of their batch."""
    for norm in batch_norms(modules):
        batch = norm.training and policy != "running"
        if batch or norm.running_mean is None:
            return norm
    return None

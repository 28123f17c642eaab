"""What a training step did, and whether the run is healthy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Health", "RunningMeans", "Similarity", "StepLosses", "StepReport", "make_report"]


class StepLosses(NamedTuple):
    """The losses of one step, each `(B,)`.

    Attributes:
        feedback: L_F, Eq. 3.
        adversarial: L_A, Eq. 4; zero without a discriminator.
        reconstruction: L_R, Eq. 6.
        discriminator: L_D, Eq. 5, to be minimised; zero without a discriminator.

    With `attacker_every` or `discriminator_every` above 1, NaN stands for what a step did not need
    and therefore did not compute.
    """

    feedback: Tensor
    adversarial: Tensor
    reconstruction: Tensor
    discriminator: Tensor


class Similarity(NamedTuple):
    """SSIM of Eq. 9, `(B,)`: of all of `M * I`, and of the semantic regions only."""

    whole: Tensor
    semantic: Tensor


@dataclass(frozen=True)
class StepReport:
    """Scalars of one step, on the device until they are read.

    Attributes:
        error: The detector's error on the adversarial pictures (Eq. 1 for heatmaps); NaN in
            `augment` unless it was told the errors.
        feedback: L_F, Eq. 3; NaN in the same case.
        adversarial: L_A, Eq. 4.
        reconstruction: L_R, Eq. 6.
        discriminator: L_D, Eq. 5 (to be minimised); NaN if it was not used.
        discriminator_accuracy: Share of real and adversarial pictures that it tells apart; NaN in
            the same case.
        ssim: SSIM of Eq. 9.
        semantic_ssim: SSIM of the semantic regions only.
        beta: β, Eq. 9.
        zero_beta: Share of samples with β = 0.
        rms_inside: Root mean square of the perturbation in the semantic regions, image units.
        rms_outside: The same for the rest.
        reconstruction_weight: Mean weight of L_R.
        share_feedback: Share of L_F in the attacker's gradient, at I_adv.
        share_adversarial: Share of L_A.
        share_reconstruction: Share of L_R. The three add up to 1.
        alignment: Cosine between the perturbation and the gradient of the detector's loss: how well
            the attacker hits what hurts. About 0 for one that has learned nothing.
        rise: How far the error on attacked pictures exceeds that on the other pictures of the
            batch, as a fraction of the latter; NaN unless `augment` was told the errors.
        rise_over_appearance: The same, relative to pictures in the appearance but without a
            perturbation. `augment` shows some of them in every tenth call for this; NaN in other
            calls. About 0 for an attacker that has learned nothing.
    """

    error: Tensor
    feedback: Tensor
    adversarial: Tensor
    reconstruction: Tensor
    discriminator: Tensor
    discriminator_accuracy: Tensor
    ssim: Tensor
    semantic_ssim: Tensor
    beta: Tensor
    zero_beta: Tensor
    rms_inside: Tensor
    rms_outside: Tensor
    reconstruction_weight: Tensor
    share_feedback: Tensor
    share_adversarial: Tensor
    share_reconstruction: Tensor
    alignment: Tensor
    rise: Tensor
    rise_over_appearance: Tensor

    def stacked(self) -> Tensor:
        """All scalars in one float32 tensor, in the order of the fields."""
        return torch.stack([getattr(self, name).detach().float() for name in REPORT_NAMES])

    def read(self) -> dict[str, float]:
        """The scalars as numbers; waits for the device, once."""
        return dict(zip(REPORT_NAMES, self.stacked().tolist(), strict=True))


HORIZON = 100  # steps that the running means cover
REPORT_NAMES = tuple(field.name for field in fields(StepReport))
# What a step may not know.
OPTIONAL = (
    *("error", "feedback", "adversarial", "discriminator", "discriminator_accuracy"),
    *("rise", "rise_over_appearance"),
)
REQUIRED = tuple(name for name in REPORT_NAMES if name not in OPTIONAL)


@torch.no_grad()
def make_report(
    losses: StepLosses,
    similarity: Similarity,
    error: Tensor,
    beta: Tensor,
    accuracy: Tensor,
    perturbation: Tensor,
    mask: Tensor,
    pulls: Mapping[str, Tensor],
    weights: Tensor,
    rises: tuple[Tensor, Tensor] | None = None,
) -> StepReport:
    """Reduce one step to scalars, without waiting for the device.

    Args:
        losses: Per sample.
        similarity: Per sample.
        error: The detector's error on the adversarial pictures, `(B,)`.
        beta: `(B,)`.
        accuracy: Of the discriminator, any shape.
        perturbation: `(B, 3, H, W)`.
        mask: Semantic mask M, `(B, 1, H, W)`.
        pulls: Gradient at I_adv of each term of Eq. 7, by name.
        weights: Of L_R, `(B,)`.
        rises: Relative to the other pictures, and to those in the appearance only; None if unknown.
    """
    unknown = torch.full_like(weights[0], torch.nan)
    over_others, over_appearance = rises or (unknown, unknown)
    region = (mask >= 1).to(perturbation.dtype)
    energy = perturbation.square().mean(dim=1, keepdim=True)
    norms = {name: pull.norm() for name, pull in pulls.items()}
    total = torch.stack(list(norms.values())).sum().clamp(min=torch.finfo(torch.float32).tiny)
    return StepReport(
        error=error.mean(),
        feedback=losses.feedback.mean(),
        adversarial=losses.adversarial.mean(),
        reconstruction=losses.reconstruction.mean(),
        discriminator=losses.discriminator.mean(),
        discriminator_accuracy=accuracy.mean(),
        ssim=similarity.whole.mean(),
        semantic_ssim=similarity.semantic.mean(),
        beta=beta.mean(),
        zero_beta=(beta == 0).float().mean(),
        rms_inside=_rms(energy, region),
        rms_outside=_rms(energy, 1 - region),
        reconstruction_weight=weights.mean(),
        share_feedback=norms["feedback"] / total,
        share_adversarial=norms.get("adversarial", torch.zeros_like(total)) / total,
        share_reconstruction=norms["reconstruction"] / total,
        alignment=_alignment(perturbation, pulls["feedback"]),
        rise=over_others,
        rise_over_appearance=over_appearance,
    )


def _rms(energy: Tensor, region: Tensor) -> Tensor:
    return ((energy * region).sum() / region.sum().clamp(min=1)).sqrt()


def _alignment(perturbation: Tensor, push: Tensor) -> Tensor:
    """Mean cosine over the pictures that got a push; L_F is lowered, so its gradient is negated."""
    cosine = nn.functional.cosine_similarity(perturbation.flatten(1), -push.flatten(1), eps=1e-20)
    pushed = (push.flatten(1).abs().amax(dim=1) > 0).to(cosine)
    return (cosine * pushed).sum() / pushed.sum().clamp(min=1)


@dataclass(frozen=True)
class Health:
    """What is wrong with a run, in words.

    Attributes:
        messages: One sentence per finding; empty for a healthy run.
        means: Running means of the step report.
        steps: How many steps the means come from.
    """

    messages: tuple[str, ...]
    means: dict[str, float]
    steps: int

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.messages

    def __str__(self) -> str:
        """The findings, one per line."""
        if self.messages:
            return "\n".join(self.messages)
        if self.steps < HORIZON:
            return f"too early to say: {self.steps} of {HORIZON} steps"
        return f"healthy after {self.steps} steps"


class RunningMeans(nn.Module):
    """Running means of the step reports, kept on the device; buffers, so they are resumed."""

    values: Tensor
    steps: Tensor
    lost: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lost", torch.zeros(()))
        self.register_buffer("values", torch.full((len(REPORT_NAMES),), torch.nan))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, report: StepReport) -> None:
        """Add a step: a plain mean at first, exponential with the horizon later.

        A step with infinities, as when float16 overflows, counts as lost and changes no mean. A
        value that a step does not know is NaN, and leaves its mean as it is.
        """
        self.steps += 1
        weight = (1 / self.steps.clamp(max=HORIZON)).to(self.values.dtype)
        latest = report.stacked().to(self.values)
        for name in OPTIONAL:
            place = REPORT_NAMES.index(name)
            latest[place] = torch.where(latest[place].isnan(), self.values[place], latest[place])
        required = [
            value for name, value in zip(REPORT_NAMES, latest, strict=True) if name not in OPTIONAL
        ]
        whole = torch.stack(required).isfinite().all() & latest.isinf().any().logical_not()
        moved = torch.where(self.values.isnan(), latest, self.values.lerp(latest, weight))
        self.values.copy_(torch.where(whole, moved, self.values))
        self.lost.lerp_((~whole).to(self.lost), weight)

    def known(self, name: str) -> float:
        """A running mean; NaN before it can be trusted. Waits for the device."""
        if int(self.steps) < HORIZON:
            return float("nan")
        return float(self.values[REPORT_NAMES.index(name)])

    def health(self, more: Sequence[str] = (), *, constant_beta: bool = False) -> Health:
        """Compare with the operating point of a healthy run; waits for the device.

        The point is that of the authors' own figure: β between .26 and .31, SSIM between .80 and
        .87, perturbation RMS of .04 to .07.

        Args:
            more: The caller's own findings, which come first.
            constant_beta: Whether β is a chosen number, which says nothing about the attack.
        """
        steps = int(self.steps)
        means = dict(zip(REPORT_NAMES, self.values.tolist(), strict=True))
        messages = [] if steps < HORIZON else _findings(means, constant_beta=constant_beta)
        if steps >= HORIZON and self.lost > 0.5:
            messages = [
                "Most steps hold NaN or infinity: the attacker or the detector has diverged."
            ]
        return Health((*more, *messages), means, steps)


def _findings(means: dict[str, float], *, constant_beta: bool) -> list[str]:
    """One sentence for each sign of a run that has left its operating point."""
    rms = max(means["rms_inside"], means["rms_outside"])
    findings = []
    won = means["zero_beta"] > 0.5 and not constant_beta
    if won:
        findings.append(
            f"β is 0 for {means['zero_beta']:.0%} of the samples: the attacker has won by making "
            "false samples, and the detector learns nothing from them. Raise the weight of L_R, "
            "or use the controller (the default)."
        )
    if means["ssim"] > 0.98 and rms < 0.02:
        findings.append(
            f"SSIM is {means['ssim']:.3f} and the perturbation's RMS {rms:.3f}: the attacker does "
            "nothing. Lower the weight of L_R, or train on until the detector's error falls, "
            "since L_F is weak while the error is far above λ."
        )
    if not won and means["semantic_ssim"] < 0.7:
        findings.append(
            f"The semantic regions keep an SSIM of only {means['semantic_ssim']:.2f}: features "
            "are painted over, and labels may be false although β is not 0. Look at the "
            "pictures; raise the weight of L_R or use `beta='semantic'`."
        )
    if means["discriminator_accuracy"] > 0.98 and means["share_adversarial"] > 0.5:
        findings.append(
            f"The discriminator is right for {means['discriminator_accuracy']:.0%} of the pictures "
            "and L_A dominates the attacker's gradient: it drowns the detector's feedback. Lower "
            "`adversarial_weight` or the discriminator's learning rate."
        )
    return findings

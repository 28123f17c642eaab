"""What can be said about adversarial pictures without the detector: L_A, L_R, L_D, SSIM and β."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from advaug import functional as saat
from advaug.base.ssim import mean_over_region, ssim_map
from advaug.report import Similarity, StepLosses
from advaug.step.learner import Due, Learner
from advaug.step.scene import Scene
from advaug.step.stepping import trainable

__all__ = ["AdversarialBatch", "Verdict", "judge", "losses_of", "parts_of"]


@dataclass(frozen=True)
class AdversarialBatch:
    """The parts of an attack, all detached, for users who write their own step.

    Attributes:
        images: Adversarial pictures, `(B, C, H, W)`, as the detector expects and sees them: after
            `appearance`, if there is one.
        perturbation: What was added before that, `(B, C, H, W)`, in image units.
        structure: Structure map S, `(B, 1, H, W)`.
        mask: Semantic mask M, `(B, 1, H, W)`.
        ssim: SSIM of Eq. 9, `(B,)`.
        beta: β, `(B,)`.
        losses: The losses of the step.
    """

    images: Tensor
    perturbation: Tensor
    structure: Tensor
    mask: Tensor
    ssim: Tensor
    beta: Tensor
    losses: StepLosses


class Verdict(NamedTuple):
    """What can be said about a scene without the detector.

    Attributes:
        similarity: Both SSIMs, each `(B,)`.
        beta: β of Eq. 9 or its ablations, `(B,)`.
        adversarial: L_A, `(B,)`; NaN if the discriminator was not used.
        reconstruction: L_R, `(B,)`.
        discriminator: L_D, `(B,)`; NaN if the discriminator was not run on I.
        accuracy: How often the discriminator is right, any shape; NaN in the same case.
        pulls: Gradients at I_adv of L_R and L_A; none if the attacker does not learn.
        gradients: Of L_D, for the discriminator's parameters; none if it does not learn.
    """

    similarity: Similarity
    beta: Tensor
    adversarial: Tensor
    reconstruction: Tensor
    discriminator: Tensor
    accuracy: Tensor
    pulls: dict[str, Tensor]
    gradients: list[Tensor]


def judge(
    learner: Learner, scene: Scene, due: Due, *, update: bool = True, blind: bool = False
) -> Verdict:
    """Measure a scene, and compute the gradients that do not need the detector: Eq. 4 to 6 and 9.

    One pass of the discriminator over the adversarial pictures serves Eq. 4 and Eq. 5.

    Args:
        learner: Its discriminator and objective.
        scene: Its `adversarial` requires a gradient if the attacker learns.
        due: Who learns.
        update: False computes every loss and no gradient.
        blind: Leave the discriminator out.
    """
    discriminator = None if blind else learner.discriminator
    guide = scene.structure if learner.structure else None
    objective, stepper = learner.objective, learner.stepper
    clean, adversarial, mask = scene.clean, scene.adversarial, scene.mask
    reconstruction = saat.semantic_reconstruction_loss(clean, adversarial, mask)
    pulls = {}
    if due.attacker:
        pulls["reconstruction"] = stepper.pull(reconstruction, adversarial)
    similarity = _similarity(scene)
    nothing = torch.full_like(reconstruction, 0.0 if discriminator is None else torch.nan)
    beta = _trust(objective.beta, similarity)
    verdict = Verdict(similarity, beta, nothing, reconstruction, nothing, nothing, pulls, [])
    asked = due.discriminator or not update
    if discriminator is None or not (due.attacker or asked):
        return verdict
    fake = discriminator(adversarial, guide)
    imitation = saat.attacker_adversarial_loss(fake, form=objective.adversarial_form)
    verdict = verdict._replace(adversarial=imitation)
    if due.attacker:
        # The graph stays where Eq. 5 shares it.
        pull = objective.adversarial_weight * imitation
        pulls["adversarial"] = stepper.pull(pull, adversarial, keep_graph=asked)
    if not asked:
        return verdict
    real = discriminator(clean, guide)
    loss = saat.discriminator_loss(real, fake)
    gradients: list[Tensor] = []
    if update and trainable(discriminator):
        mean = stepper.scaled(loss.mean())
        gradients += torch.autograd.grad(mean, trainable(discriminator), materialize_grads=True)
    accuracy = torch.cat([real.detach() > 0, fake.detach() < 0]).float()
    return verdict._replace(discriminator=loss, accuracy=accuracy, gradients=gradients)


def losses_of(learner: Learner, verdict: Verdict, error: Tensor) -> StepLosses:
    """The losses of a step, detached."""
    feedback = saat.feedback_loss(error, relaxation=learner.objective.relaxation)
    losses = (verdict.adversarial, verdict.reconstruction, verdict.discriminator)
    return StepLosses(feedback, *(loss.detach() for loss in losses))


def parts_of(learner: Learner, scene: Scene, verdict: Verdict, error: Tensor) -> AdversarialBatch:
    """The parts of an attack, detached."""
    return AdversarialBatch(
        images=scene.shown.detach(),
        perturbation=scene.adversarial.detach() - scene.clean,
        structure=scene.structure,
        mask=scene.mask,
        ssim=verdict.similarity.whole,
        beta=verdict.beta,
        losses=losses_of(learner, verdict, error),
    )


def _trust(beta: str | float, similarity: Similarity) -> Tensor:
    """β, Eq. 9 or its ablations."""
    if isinstance(beta, str):
        return saat.beta_from_ssim(similarity.whole if beta == "adaptive" else similarity.semantic)
    return torch.full_like(similarity.whole, float(beta))


@torch.no_grad()
def _similarity(scene: Scene) -> Similarity:
    """SSIM of Eq. 9, over all of M * I and over the semantic regions only, from one map."""
    similarity = ssim_map(scene.mask * scene.clean, scene.mask * scene.adversarial)
    if scene.inside is None:
        whole = similarity.mean(dim=(1, 2, 3))
    else:
        whole = mean_over_region(similarity, scene.inside)
    return Similarity(whole, mean_over_region(similarity, scene.mask))

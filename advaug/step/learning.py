"""What one adversarial batch teaches: the losses of Eq. 4 to 7 and their gradients at I_adv."""

import contextlib
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from advaug import functional as saat
from advaug.base.checks import CUT_OFF
from advaug.base.ssim import mean_over_region, ssim_map
from advaug.report import Similarity
from advaug.step.controller import ReconstructionController
from advaug.step.recompute import keeping_buffers
from advaug.step.scene import Scene
from advaug.step.stepping import Stepper

__all__ = ["Due", "Verdict", "combine", "judge", "pull_of", "trainable"]


class Due(NamedTuple):
    """Who learns in a step."""

    attacker: bool
    discriminator: bool


class Verdict(NamedTuple):
    """What can be said about a scene without the detector.

    Attributes:
        similarity: Both SSIMs, each `(B,)`.
        adversarial: L_A, `(B,)`; NaN if the discriminator was not used.
        reconstruction: L_R, `(B,)`.
        discriminator: L_D, `(B,)`; NaN if the discriminator was not run on I.
        accuracy: How often the discriminator is right, any shape; NaN in the same case.
        pulls: Gradients at I_adv of L_R and L_A; none if the attacker does not learn.
        gradients: Of L_D, for the discriminator's parameters; none if it does not learn.
    """

    similarity: Similarity
    adversarial: Tensor
    reconstruction: Tensor
    discriminator: Tensor
    accuracy: Tensor
    pulls: dict[str, Tensor]
    gradients: list[Tensor]


def judge(
    scene: Scene,
    discriminator: nn.Module | None,
    guide: Tensor | None,
    stepper: Stepper,
    *,
    form: Literal["non_saturating", "minimax"],
    weight: float,
    due: Due,
    update: bool,
) -> Verdict:
    """Measure a scene, and compute the gradients that do not need the detector.

    One pass of the discriminator over the adversarial pictures serves Eq. 4 and Eq. 5.

    Args:
        scene: Its `adversarial` requires a gradient if the attacker learns.
        discriminator: D(I, S), or None.
        guide: S for it, or None.
        stepper: Scales losses under float16.
        form: Of Eq. 4.
        weight: Of L_A.
        due: Who learns.
        update: False computes every loss and no gradient.
    """
    clean, adversarial, mask = scene.clean, scene.adversarial, scene.mask
    reconstruction = saat.semantic_reconstruction_loss(clean, adversarial, mask)
    pulls = {}
    if due.attacker:
        pulls["reconstruction"] = pull_of(reconstruction, adversarial, stepper)
    nothing = torch.full_like(reconstruction, 0.0 if discriminator is None else torch.nan)
    verdict = Verdict(
        _similarity(scene), nothing, reconstruction, nothing, nothing, pulls, gradients=[]
    )
    if discriminator is None or (update and not any(due)):
        return verdict
    fake = discriminator(adversarial, guide)
    imitation = saat.attacker_adversarial_loss(fake, form=form)
    verdict = verdict._replace(adversarial=imitation)
    asked = due.discriminator or not update
    if due.attacker:
        # The graph stays where Eq. 5 shares it.
        pulls["adversarial"] = pull_of(weight * imitation, adversarial, stepper, keep_graph=asked)
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


def combine(
    verdict: Verdict,
    push: Tensor,
    *,
    limit: float | None,
    reconstruction_weight: float | ReconstructionController,
    unit: bool = False,
) -> tuple[dict[str, Tensor], Tensor]:
    """The terms of Eq. 7 as they pull at I_adv.

    Args:
        verdict: With the pulls of L_R and L_A.
        push: Gradient of L_F at I_adv.
        limit: Of L_A's norm relative to L_F's, in each sample, or None.
        reconstruction_weight: Of L_R.
        unit: Whether the push is only a direction. It then has no scale for the other two terms to
            keep: L_A pulls at its limit, and a fixed weight of L_R is relative to the push.

    Returns:
        The weighted gradient of each term, by name, and the weight of L_R, `(B,)`.
    """
    pulls = {"feedback": push, **verdict.pulls}
    similarity, pull = verdict.similarity.semantic, pulls["reconstruction"]
    # A sample without a push, because the detector did not see it, is still held to its target.
    strength = torch.ones_like(similarity) if unit else _norms(push)
    if isinstance(reconstruction_weight, ReconstructionController):
        weights = reconstruction_weight.weights(similarity, strength, _norms(pull))
    else:
        weights = torch.full_like(similarity, reconstruction_weight)
        if unit:
            weights = weights / _norms(pull).clamp(min=1e-20)
    pulls["reconstruction"] = pull * weights.view(-1, 1, 1, 1)
    if "adversarial" in pulls and (unit or limit is not None):
        # Sample by sample, so that it does not matter how pictures are split across processes.
        pull = pulls["adversarial"]
        most = (1.0 if limit is None else limit) * strength / _norms(pull).clamp(min=1e-20)
        pulls["adversarial"] = pull * (most if unit else most.clamp(max=1.0)).view(-1, 1, 1, 1)
    return pulls, weights


def _norms(pull: Tensor) -> Tensor:
    """`(B,)`: how strong a gradient at I_adv is in each sample."""
    return pull.flatten(1).norm(dim=1)


def pull_of(
    loss: Tensor, adversarial: Tensor, stepper: Stepper, *, keep_graph: bool = False
) -> Tensor:
    """Gradient of a loss's mean at I_adv.

    Raises:
        ValueError: If the loss does not depend on it.
    """
    mean = stepper.scaled(loss.mean())
    with keeping_buffers() if keep_graph else contextlib.nullcontext():
        (pull,) = torch.autograd.grad(mean, adversarial, retain_graph=keep_graph, allow_unused=True)
    if pull is None:
        raise ValueError(CUT_OFF)
    return pull


def trainable(network: nn.Module | None) -> list[nn.Parameter]:
    """The parameters of a network that learn; none if there is no network."""
    return [] if network is None else [p for p in network.parameters() if p.requires_grad]


@torch.no_grad()
def _similarity(scene: Scene) -> Similarity:
    """SSIM of Eq. 9, over all of M * I and over the semantic regions only, from one map."""
    similarity = ssim_map(scene.mask * scene.clean, scene.mask * scene.adversarial)
    if scene.inside is None:
        whole = similarity.mean(dim=(1, 2, 3))
    else:
        whole = mean_over_region(similarity, scene.inside)
    return Similarity(whole, mean_over_region(similarity, scene.mask))

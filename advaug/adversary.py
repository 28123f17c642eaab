"""Sample-adaptive adversarial training: one step of [SAAT], in the paper's order."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from advaug import functional as saat
from advaug._checks import (
    check_choice,
    check_error,
    check_images,
    check_not_negative,
    check_structure,
    check_target_tensors,
    check_task,
    check_values,
)
from advaug._distributed import average, broadcast
from advaug._precision import widen
from advaug._ssim import mean_over_region, ssim_map
from advaug.attacker import UNetAttacker
from advaug.batch_norm import BatchNormPolicy, BatchNorms
from advaug.controller import ReconstructionController
from advaug.discriminator import PatchDiscriminator
from advaug.isolation import Detector, private_randomness, unwrapped
from advaug.pixels import PixelSpec
from advaug.report import Health, RunningMeans, Similarity, StepLosses, StepReport, make_report
from advaug.stepping import Stepper
from advaug.tasks import LandmarkTask, sum_of

__all__ = ["AdversarialBatch", "SampleAdaptiveAdversary", "StepLosses"]

Transform = Callable[[Tensor, Any], tuple[Tensor, Any]]


@dataclass(frozen=True)
class AdversarialBatch:
    """The parts of an attack, all detached, for those who write their own step.

    Attributes:
        images: Adversarial pictures, `(B, 3, H, W)`, as the detector takes them.
        perturbation: What was added, `(B, 3, H, W)`, in image units.
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


class SampleAdaptiveAdversary(nn.Module):
    """Attack a landmark detector, learn from its failures, and give the loss that defends it.

    The method of [SAAT]: C. Zhu et al., ICCV 2021. The detector is an argument of the call, never a
    part of this module; what the caller owns is the same after a call, bit for bit.

    Args:
        task: What the detector's output means: a `HeatmapTask`, a `CoordinateTask`, or any object
            with the two methods of `LandmarkTask`.
        attacker: A(I, S, z); by default a light `UNetAttacker`, for sides divisible by 32.
        discriminator: D(I, S); by default a light `PatchDiscriminator`; None for none (Table 7,
            "w/o D").
        networks: `"light"` or `"paper"`: the size of the default attacker and discriminator.
        pixels: How the detector wants its pictures; `images` are given that way.
        relaxation: λ of Eq. 3, in units of the task's error.
        beta: `"adaptive"` (Eq. 9), `"semantic"` (from the SSIM of the semantic regions alone), or a
            constant (Table 6).
        structure: False leaves out S in attacker and discriminator (Table 7, "w/o S").
        reconstruction_weight: Weight of L_R in Eq. 7: a number, 0 for none (Table 7, "w/o L_R"),
            or a controller; by default a `ReconstructionController()`.
        adversarial_weight: Weight of L_A in Eq. 7.
        adversarial_limit: How hard L_A may pull at I_adv relative to L_F. L_F is weak while the
            detector is, and L_A, which is not, would drown it: then the attacker learns to do
            nothing. None for no limit (the literal paper).
        adversarial_form: `"non_saturating"`, or `"minimax"` for the literal Eq. 4.
        batch_norm: `"isolated"`, `"running"`, `"shared"` (the literal paper) or `"split"`; see
            `advaug.batch_norm`.
        transform: Handcrafted transform of the adversarial pictures and their target, after β is
            known: a callable `(images, target) -> (images, target)`.
        optimizer: From parameters to an optimizer, called once for the attacker and once for the
            discriminator; by default Adam, 1e-4, betas .5 and .999.
        loss_weight: Scale of the returned loss. `HeatmapTask`'s error is 65536 times a mean squared
            error, so beside `torch.nn.MSELoss()` use `1 / 65536`.
        seed: Seed of everything random in here; the processes of a run differ by themselves.

    Raises:
        ValueError: If an option is unknown or out of range.
    """

    def __init__(
        self,
        task: LandmarkTask,
        *,
        attacker: nn.Module | None = None,
        discriminator: nn.Module | Literal["default"] | None = "default",
        networks: Literal["light", "paper"] = "light",
        pixels: PixelSpec = PixelSpec(),
        relaxation: float = 0.1,
        beta: Literal["adaptive", "semantic"] | float = "adaptive",
        structure: bool = True,
        reconstruction_weight: float | ReconstructionController | None = None,
        adversarial_weight: float = 1.0,
        adversarial_limit: float | None = 0.5,
        adversarial_form: Literal["non_saturating", "minimax"] = "non_saturating",
        batch_norm: BatchNormPolicy = "isolated",
        transform: Transform | None = None,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        loss_weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_task(task)
        check_choice("networks", networks, ("light", "paper"))
        check_choice("adversarial_form", adversarial_form, ("non_saturating", "minimax"))
        if isinstance(beta, str):
            check_choice("beta", beta, ("adaptive", "semantic"), " or a number")
        paper = networks == "paper"
        if attacker is None:
            make = UNetAttacker.paper if paper else UNetAttacker
            attacker = make(structure=structure)
        if isinstance(discriminator, str):
            check_choice("discriminator", discriminator, ("default",), ", a module or None")
            make = PatchDiscriminator.paper if paper else PatchDiscriminator
            discriminator = make(structure=structure)
        if reconstruction_weight is None:
            reconstruction_weight = ReconstructionController()
        check_not_negative(
            relaxation=relaxation,
            adversarial_weight=adversarial_weight,
            adversarial_limit=adversarial_limit,
            reconstruction_weight=reconstruction_weight,
            beta=beta,
        )
        for name, network in (("attacker", attacker), ("discriminator", discriminator)):
            check_structure(name, network, structure=structure)
        make_optimizer = optimizer or _adam
        self.task = task
        self.attacker = attacker
        self.discriminator = discriminator
        self.pixels = pixels
        self.relaxation = relaxation
        self.beta = beta
        self.structure = structure
        self.reconstruction_weight = reconstruction_weight
        self.adversarial_weight = adversarial_weight
        self.adversarial_limit = adversarial_limit
        self.adversarial_form: Literal["non_saturating", "minimax"] = adversarial_form
        self.batch_norms = BatchNorms(batch_norm, make_optimizer)
        self.transform = transform
        self.loss_weight = loss_weight
        self.running_means = RunningMeans()
        self.attacker_optimizer = make_optimizer(attacker.parameters())
        self.discriminator_optimizer = (
            None if discriminator is None else make_optimizer(discriminator.parameters())
        )
        self.report: StepReport | None = None
        self._stepper = Stepper()
        self._generator = torch.Generator().manual_seed(seed)
        self._calls = 0

    def forward(self, detector: Detector, images: Tensor, target: Any) -> Tensor:  # noqa: ANN401 # the task's
        """One step: attack, learn, and give the loss of Eq. 8 for the detector to learn from.

        Args:
            detector: Any callable from pictures to what the task understands.
            images: `(B, 3, H, W)`, as the detector takes them.
            target: What the task takes.

        Returns:
            Scalar, the mean of β times the error on the adversarial pictures. Its graph reaches the
            detector's parameters and nothing else.

        Raises:
            ValueError, TypeError: If an input is unfit, or gradients are disabled; nothing has
                changed then. `ShapeError` is a ValueError.
        """
        if not torch.is_grad_enabled():
            msg = (
                "the adversary must be called with gradients enabled, but they are off. For "
                "adversarial pictures alone use `adversary.attack(..., update=False)`."
            )
            raise ValueError(msg)
        attack = self.attack(detector, images, target)
        with private_randomness(self._generator, images.device):
            adversarial = attack.images
            if self.transform is not None:
                adversarial, target = self.transform(self.pixels.to_unit(adversarial), target)
                adversarial = self.pixels.from_unit(adversarial)
            with self.batch_norms.defence(detector):
                error = self.task.error(unwrapped(detector)(adversarial), target)
        return self.loss_weight * (attack.beta * error).mean()  # Eq. 8

    @torch.enable_grad()
    def attack(
        self,
        detector: Detector,
        images: Tensor,
        target: Any,  # noqa: ANN401 # the task's
        *,
        update: bool = True,
    ) -> AdversarialBatch:
        """Draw adversarial pictures where the detector is weak, and learn from its answer.

        Args:
            detector: Any callable from pictures to what the task understands.
            images: `(B, 3, H, W)`, as the detector takes them.
            target: What the task takes.
            update: False leaves attacker and discriminator as they are.

        Returns:
            The adversarial pictures and everything about them, detached.

        Raises:
            ValueError, TypeError: As the call itself.
        """
        clean, structure, mask = self._prepare(images, target)
        if update and self._calls == 0:
            broadcast(self)  # all processes of a run start from the same weights
        with private_randomness(self._generator, images.device):
            noise = torch.randn_like(clean[:, :1])
            perturbed = clean + self.attacker(clean, self._guide(structure), noise)  # Eq. 2
            # A leaf, where the gradients of all losses meet before one way back to the attacker.
            adversarial = perturbed.detach().requires_grad_()
            error, push = self._feedback(detector, adversarial, images.dtype, target, update)
            similarity = _similarity(clean, adversarial.detach(), mask)
            losses, accuracy = self._losses(clean, adversarial, structure, mask, error)
            learned = (
                self._learn(perturbed, adversarial, losses, push, similarity) if update else None
            )
        shown = self.pixels.from_unit(adversarial.detach()).to(images.dtype)
        perturbation = adversarial.detach() - clean
        beta = self._beta(similarity)
        losses = StepLosses(*(loss.detach() for loss in losses))
        if learned is not None:
            self.report = make_report(
                losses, similarity, error, beta, accuracy, perturbation, mask, *learned
            )
            self.running_means.update(self.report)
            self.batch_norms.step()
            self._calls += 1
        return AdversarialBatch(
            shown, perturbation, structure, mask, similarity.whole, beta, losses
        )

    def health(self) -> Health:
        """What is wrong with the run, in words; waits for the device."""
        return self.running_means.health()

    def _prepare(self, images: Tensor, target: Any) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401 # the task's
        """Check the inputs and give I in `[0, 1]`, S and M. No state moves."""
        check_images(images, next(self.attacker.parameters()))
        check_target_tensors(target, images)
        size = (images.shape[-2], images.shape[-1])
        if isinstance(self.attacker, UNetAttacker):
            self.attacker.check_size(size)
        with torch.no_grad():
            clean = widen(self.pixels.to_unit(images.detach()))
            structure = saat.structure_map(self.task.landmark_heatmaps(target, size))
            mask = saat.semantic_mask(structure)
            if self._reads(images.device):
                check_values(clean, structure)
        return clean, structure, mask

    def _feedback(
        self,
        detector: Detector,
        adversarial: Tensor,
        dtype: torch.dtype,
        target: Any,  # noqa: ANN401 # the task's
        update: bool,
    ) -> tuple[Tensor, Tensor]:
        """Error e of Eq. 3, which teaches the attacker and nobody else.

        The gradient is taken while the detector is on loan: one that checkpoints its activations
        computes again in the backward.

        Returns:
            e, `(B,)`, detached, and the gradient of L_F at I_adv (zero without `update`).
        """
        with self.batch_norms.feedback(detector):
            output = unwrapped(detector)(self.pixels.from_unit(adversarial).to(dtype))
            error = self.task.error(output, target)
            check_error(error, len(adversarial), read=self._reads(adversarial.device))
            if not update:
                return error.detach(), torch.zeros_like(adversarial)
            feedback = saat.feedback_loss(error, relaxation=self.relaxation)
            return error.detach(), self._pull(feedback, adversarial)

    def _losses(
        self, clean: Tensor, adversarial: Tensor, structure: Tensor, mask: Tensor, error: Tensor
    ) -> tuple[StepLosses, Tensor]:
        """Eq. 3 to 6, per sample, and how often the discriminator is right.

        One pass of the discriminator over the adversarial pictures serves Eq. 4 and Eq. 5.
        """
        feedback = saat.feedback_loss(error, relaxation=self.relaxation)
        reconstruction = saat.semantic_reconstruction_loss(clean, adversarial, mask)
        if self.discriminator is None:
            none = torch.zeros_like(feedback)
            return StepLosses(feedback, none, reconstruction, none), none
        fake = self.discriminator(adversarial, self._guide(structure))
        real = self.discriminator(clean, self._guide(structure))
        losses = StepLosses(
            feedback=feedback,
            adversarial=saat.attacker_adversarial_loss(fake, form=self.adversarial_form),
            reconstruction=reconstruction,
            discriminator=saat.discriminator_loss(real, fake),
        )
        return losses, torch.cat([real.detach() > 0, fake.detach() < 0]).float()

    def _learn(
        self,
        perturbed: Tensor,
        adversarial: Tensor,
        losses: StepLosses,
        push: Tensor,
        similarity: Similarity,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Step attacker (Eq. 7) and discriminator (Eq. 5).

        Returns:
            The gradient of each term of Eq. 7 at I_adv, and the weight of L_R, `(B,)`.
        """
        pulls = {
            "feedback": push,
            "reconstruction": self._pull(losses.reconstruction, adversarial),
        }
        weights = self._reconstruction_weights(similarity.semantic, **pulls)
        pulls["reconstruction"] *= weights.view(-1, 1, 1, 1)
        if self.discriminator is not None:
            imitation = self.adversarial_weight * losses.adversarial
            # The graph stays: Eq. 5 shares it.
            pull = self._pull(imitation, adversarial, keep_graph=True)
            if self.adversarial_limit is not None:
                most = self.adversarial_limit * pulls["feedback"].norm()
                pull = pull * (most / pull.norm().clamp(min=1e-20)).clamp(max=1.0)
            pulls["adversarial"] = pull
        # All gradients before the first step, which writes to weights that graphs still need.
        ours, theirs = trainable(self.attacker), trainable(self.discriminator)
        gradients: list[Tensor] = []
        if ours:
            push = sum_of(pulls.values())
            gradients += torch.autograd.grad(perturbed, ours, push, materialize_grads=True)
        if theirs:
            loss = self._stepper.scaled(losses.discriminator.mean())
            gradients += torch.autograd.grad(loss, theirs, materialize_grads=True)
        *gradients, mean = average([*gradients, similarity.semantic.mean()])
        steps = [(self.attacker_optimizer, ours, gradients[: len(ours)])]
        if self.discriminator_optimizer is not None:
            steps.append((self.discriminator_optimizer, theirs, gradients[len(ours) :]))
        self._stepper.step([step for step in steps if step[1]])
        if isinstance(self.reconstruction_weight, ReconstructionController):
            self.reconstruction_weight.update(mean)
        return pulls, weights

    def _pull(self, loss: Tensor, adversarial: Tensor, *, keep_graph: bool = False) -> Tensor:
        """Gradient of a loss's mean at I_adv."""
        mean = self._stepper.scaled(loss.mean())
        (pull,) = torch.autograd.grad(mean, adversarial, retain_graph=keep_graph, allow_unused=True)
        if pull is None:
            msg = (
                "the detector's output must carry a graph to its input, but its error does not "
                "depend on the pictures. Do not detach them on the way through the detector."
            )
            raise ValueError(msg)
        return pull

    def _guide(self, structure: Tensor) -> Tensor | None:
        return structure if self.structure else None

    def _reconstruction_weights(
        self, similarity: Tensor, feedback: Tensor, reconstruction: Tensor
    ) -> Tensor:
        """Weight of L_R for each sample, from the similarity and the gradients at I_adv."""
        if isinstance(self.reconstruction_weight, ReconstructionController):
            push, pull = (part.flatten(1).norm(dim=1) for part in (feedback, reconstruction))
            return self.reconstruction_weight.weights(similarity, push, pull)
        return torch.full_like(similarity, self.reconstruction_weight)

    def _beta(self, similarity: Similarity) -> Tensor:
        """β, Eq. 9 or its ablations."""
        if self.beta == "adaptive":
            return saat.beta_from_ssim(similarity.whole)
        if self.beta == "semantic":
            return saat.beta_from_ssim(similarity.semantic)
        return torch.full_like(similarity.whole, float(self.beta))

    def _reads(self, device: torch.device) -> bool:
        """Whether values may be read back: always on a CPU, elsewhere in the first call alone."""
        return device.type == "cpu" or self._calls == 0

    def get_extra_state(self) -> dict[str, Any]:
        """What an exact resume needs beside weights and buffers."""
        discriminator = self.discriminator_optimizer
        return {
            "attacker_optimizer": self.attacker_optimizer.state_dict(),
            "discriminator_optimizer": None
            if discriminator is None
            else discriminator.state_dict(),
            "generator": self._generator.get_state(),
            "loss_scale": self._stepper.state_dict(),
            "calls": self._calls,
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take up where the state was taken."""
        self.attacker_optimizer.load_state_dict(state["attacker_optimizer"])
        if self.discriminator_optimizer is not None:
            self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        self._generator.set_state(state["generator"].cpu())
        self._stepper.load_state_dict(state["loss_scale"])
        self._calls = state["calls"]


def _adam(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return Adam(parameters, lr=1e-4, betas=(0.5, 0.999))


def trainable(network: nn.Module | None) -> list[nn.Parameter]:
    """The parameters of a network, if there is one, that learn."""
    return [] if network is None else [p for p in network.parameters() if p.requires_grad]


@torch.no_grad()
def _similarity(clean: Tensor, adversarial: Tensor, mask: Tensor) -> Similarity:
    """SSIM of Eq. 9, over the whole of M * I and over the semantic regions, from one map."""
    similarity = ssim_map(mask * clean, mask * adversarial)
    return Similarity(similarity.mean(dim=(1, 2, 3)), mean_over_region(similarity, mask))

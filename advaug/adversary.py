"""Sample-adaptive adversarial training: one step of [SAAT], in the paper's order."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from advaug import functional as saat
from advaug.base.checks import (
    check_choice,
    check_error,
    check_images,
    check_not_negative,
    check_target_tensors,
    check_values,
)
from advaug.base.distributed import average, broadcast
from advaug.base.precision import widen, without_graph
from advaug.base.shapes import copied, first_part
from advaug.networks.attacker import UNetAttacker
from advaug.networks.choice import Structure, choose_networks
from advaug.pixels import PixelSpec
from advaug.report import Health, RunningMeans, Similarity, StepLosses, StepReport, make_report
from advaug.step.batch_norm import BatchNormPolicy, BatchNorms
from advaug.step.controller import ReconstructionController
from advaug.step.learning import Due, Scene, Verdict, combine, judge, pull_of, trainable
from advaug.step.loan import Detector, Forward, Loan, as_borrowed, private_randomness
from advaug.step.mixing import Mixing
from advaug.step.modes import MODES, Lesson, Mode, check_schedule, choose_mode
from advaug.step.stepping import Stepper, overflowed
from advaug.tasks import LandmarkTask, check_task, structure_of, sum_of
from advaug.view.appearance import RandomAppearance, seen_as
from advaug.view.regions import RandomRegions, within

__all__ = ["AdversarialBatch", "SampleAdaptiveAdversary", "StepLosses"]

Transform = Callable[[Tensor, Any], tuple[Tensor, Any]]
Regions = Callable[[Tensor], Tensor]
Appearance = Callable[[Tensor], Tensor]
INFERENCE = (
    "the adversary must be called outside of `torch.inference_mode()` to learn, but it is on. For "
    "adversarial pictures only use `adversary.attack(..., update=False)`."
)
NEVER_WENT_BACKWARD = (
    "the loss of the last call must have gone through a backward before the next call, since that "
    "is what teaches the attacker in mode 'fused', but it has not. Add it to your loss and call "
    "`loss.backward()`, without `inputs=`, or use `mode='shared'`."
)


@dataclass(frozen=True)
class AdversarialBatch:
    """The parts of an attack, all detached, for those who write their own step.

    Attributes:
        images: Adversarial pictures, `(B, 3, H, W)`, as the detector takes and sees them: with
            their `appearance`, if there is one.
        perturbation: What was added before that, `(B, 3, H, W)`, in image units.
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
        structure: Who is told S: `"discriminator"` alone, True for the attacker as well (Eq. 2), or
            False for neither (Table 7, "w/o S"). What an attacker paints that knows where the
            landmarks are tells the detector where they are.
        reconstruction_weight: Weight of L_R in Eq. 7: a number, 0 for none (Table 7, "w/o L_R"),
            or a controller; by default a `ReconstructionController()`.
        adversarial_weight: Weight of L_A in Eq. 7.
        adversarial_limit: How hard L_A may pull at each I_adv relative to L_F. L_F is weak while
            the detector is, and L_A, which is not, would drown it: then the attacker learns to do
            nothing. None for no limit (the literal paper).
        adversarial_form: `"non_saturating"`, or `"minimax"` for the literal Eq. 4.
        batch_norm: `"isolated"`, `"running"`, `"shared"` (the literal paper) or `"split"`; see
            `advaug.step.batch_norm`.
        regions: Where the attacker may draw: a callable from pictures I to a map `(B, 1, H, W)` in
            `[0, 1]` that the perturbation is multiplied with; `"random"` for `RandomRegions()`;
            None for the whole picture (the literal paper).
        appearance: How the detector sees I_adv, for attack and defence alike: a differentiable
            callable from pictures in about `[0, 1]` to pictures of the same shape; `"random"` for
            `RandomAppearance(clamp=False)`; None for I_adv itself (the literal paper).
        transform: Handcrafted transform of the adversarial pictures and their target, after β is
            known: a callable `(images, target) -> (images, target)`. Attack and defence then see
            different pictures, which takes mode `"alternating"`.
        mode: `"alternating"` (the paper), `"shared"` or `"fused"`, which give the same gradients
            from fewer passes of the detector; see `advaug.step.modes`. `"auto"` takes the
            cheapest that is exact for the detector of each call, and `chosen_mode` says which.
        attacker_every: The attacker learns in every so-manieth call alone; the others do without
            the detector's feedback.
        discriminator_every: Likewise for the discriminator.
        adversarial_fraction: Part of each batch that gets adversarial twins: its first pictures.
        optimizer: From parameters to an optimizer, called once for the attacker and once for the
            discriminator; by default Adam, 1e-4, betas .5 and .999. PyTorch's `fused=True` kinds,
            like the default, skip a step that overflowed without waiting for the device.
        loss_weight: Scale of the returned loss. `HeatmapTask`'s error is 65536 times a mean squared
            error, so beside `torch.nn.MSELoss()` use `1 / 65536`.
        seed: Seed of everything random in here; the processes of a run differ by themselves.

    Attributes:
        chosen_mode: How the last call ran; None before the first.
        report: What the last step in which the attacker learned did; None before it.

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
        structure: Structure = "discriminator",
        reconstruction_weight: float | ReconstructionController | None = None,
        adversarial_weight: float = 1.0,
        adversarial_limit: float | None = 0.5,
        adversarial_form: Literal["non_saturating", "minimax"] = "non_saturating",
        batch_norm: BatchNormPolicy = "isolated",
        regions: Regions | Literal["random"] | None = "random",
        appearance: Appearance | Literal["random"] | None = "random",
        transform: Transform | None = None,
        mode: Mode | Literal["auto"] = "auto",
        attacker_every: int = 1,
        discriminator_every: int = 1,
        adversarial_fraction: float = 1.0,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        loss_weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_task(task)
        check_choice("adversarial_form", adversarial_form, ("non_saturating", "minimax"))
        check_choice("mode", mode, MODES)
        check_schedule(mode, transform, attacker_every, discriminator_every, adversarial_fraction)
        if isinstance(beta, str):
            check_choice("beta", beta, ("adaptive", "semantic"), " or a number")
        attacker, discriminator = choose_networks(attacker, discriminator, networks, structure)
        if isinstance(regions, str):
            check_choice("regions", regions, ("random",), ", a callable or None")
            regions = RandomRegions()
        if isinstance(appearance, str):
            check_choice("appearance", appearance, ("random",), ", a callable or None")
            appearance = RandomAppearance(clamp=False)
        if reconstruction_weight is None:
            reconstruction_weight = ReconstructionController()
        check_not_negative(
            relaxation=relaxation,
            adversarial_weight=adversarial_weight,
            adversarial_limit=adversarial_limit,
            reconstruction_weight=reconstruction_weight,
            beta=beta,
            loss_weight=loss_weight,
        )
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
        self.regions = regions
        self.appearance = appearance
        self.transform = transform
        self.mode: Mode | Literal["auto"] = mode
        self.chosen_mode: Mode | None = None
        self.attacker_every = attacker_every
        self.discriminator_every = discriminator_every
        self.adversarial_fraction = adversarial_fraction
        self.loss_weight = loss_weight
        self.running_means = RunningMeans()
        self.attacker_optimizer = make_optimizer(attacker.parameters())
        self.discriminator_optimizer = (
            None if discriminator is None else make_optimizer(discriminator.parameters())
        )
        self.report: StepReport | None = None
        self._stepper = Stepper()
        self._mixing = Mixing()
        self._pending: Lesson | None = None  # a fused step that waits for the caller's backward
        self._generator = torch.Generator().manual_seed(seed)
        self._calls = 0

    def forward(
        self,
        detector: Detector,
        images: Tensor,
        target: Any,  # noqa: ANN401 # the task's
        *,
        forward: Forward | None = None,
    ) -> Tensor:
        """One step: attack, learn, and give the loss of Eq. 8 for the detector to learn from.

        Args:
            detector: An nn.Module that gives what the task understands; see
                `advaug.step.loan.as_borrowed` for what else can be passed.
            images: `(B, 3, H, W)`, as the detector takes them.
            target: What the task takes.
            forward: How the detector is called, if not as `detector(images)`: from the module and
                the pictures to its output.

        Returns:
            Scalar, the mean of β times the error on the adversarial pictures. Its graph reaches the
            detector's parameters and nothing else. In mode `"fused"` its backward is what teaches
            attacker and discriminator, so call the adversary again only after it.

        Raises:
            ValueError, TypeError: If an input is unfit, gradients are disabled, or the mode does
                not fit the detector; nothing has changed then. `ShapeError` is a ValueError.
            RuntimeError: If the loss of the last call, in mode `"fused"`, never went through a
                backward.
        """
        if not torch.is_grad_enabled():
            msg = (
                "the adversary must be called with gradients enabled, but they are off. For "
                "adversarial pictures alone use `adversary.attack(..., update=False)`."
            )
            raise ValueError(msg)
        loan = as_borrowed(detector, forward)
        check_images(images, next(self.attacker.parameters()))
        check_target_tensors(target, images)
        images, target = first_part(images, target, self.adversarial_fraction)
        self.chosen_mode = choose_mode(
            self.mode,
            loan,
            self.batch_norms.policy,
            transformed=self.transform is not None,
            mixes=lambda: self._mixing.found(
                loan, self.batch_norms, images, lambda given: self.task.error(loan(given), target)
            ),
        )
        if self.chosen_mode == "alternating":
            return self._step_in_two_passes(loan, images, target)
        return self._step_in_one_pass(loan, images, target)

    def _step_in_two_passes(self, detector: Loan, images: Tensor, target: Any) -> Tensor:  # noqa: ANN401 # the task's
        """The paper's order: the detector sees I_adv for the attack, and again for the defence."""
        attack = self.attack(detector, images, target)
        with private_randomness(self._generator, images.device):
            adversarial = attack.images
            if self.transform is not None:
                unit = self.pixels.to_unit(adversarial).clone()
                adversarial, target = self.transform(unit, copied(target))
                adversarial = self.pixels.from_unit(adversarial)
            with self.batch_norms.defence(detector):
                error = self.task.error(detector(adversarial), target)
        loss = self.loss_weight * (attack.beta * error).mean()  # Eq. 8
        return self.batch_norms.settled(detector, loss)

    def _step_in_one_pass(self, detector: Loan, images: Tensor, target: Any) -> Tensor:  # noqa: ANN401 # the task's
        """The detector sees I_adv once, for attack and defence; see `advaug.step.modes`."""
        seen = self._look(images, target)
        due = self._begin()
        fused = self.chosen_mode == "fused" and due.attacker
        lesson = Lesson()
        with private_randomness(self._generator, images.device):
            scene = self._draw(*seen, learning=due.attacker)
            if fused:
                lesson.tap(scene.adversarial)
            with self.batch_norms.defence(detector):
                error = self._error(detector, scene.shown, images.dtype, target)
            push = None
            if due.attacker and not fused:
                with self.batch_norms.feedback(detector):  # as in `attack`
                    push = self._push(scene, error, keep_graph=True)
            verdict = self._judge(scene, due)
        weights = self.loss_weight * self._beta(verdict.similarity)
        if not fused:
            self._learn(scene, verdict, error.detach(), push, due)
            return self.batch_norms.settled(detector, (weights * error).mean())  # Eq. 8

        def teach(push: Tensor) -> Callable[[], None]:
            # The caller's loss scale may overflow on the way here: ours is not to blame.
            spoiled = push.isfinite().all().logical_not()
            push = self._stepper.scaled(torch.where(spoiled, 0.0, push))
            gradients = self._lessons(scene, verdict, error.detach(), push)

            def finish() -> None:
                self._pending = None
                # Nor where the caller's step will be skipped.
                self._move(verdict, gradients, due, spoiled | overflowed(detector))

            return finish

        self._pending = lesson
        least = self.loss_weight or 1.0
        loss = lesson.loss(error, weights, least, self.relaxation, teach)  # Eq. 8
        return self.batch_norms.settled(detector, loss)

    def attack(
        self,
        detector: Detector,
        images: Tensor,
        target: Any,  # noqa: ANN401 # the task's
        *,
        update: bool = True,
        forward: Forward | None = None,
    ) -> AdversarialBatch:
        """Draw adversarial pictures where the detector is weak, and learn from its answer.

        Args:
            detector: As in the call.
            images: `(B, 3, H, W)`, as the detector takes them.
            target: What the task takes.
            update: False leaves attacker and discriminator as they are, and the generator that
                training draws from. It needs no gradients: it may run under `no_grad` and
                `inference_mode`, and on a frozen detector.
            forward: As in the call.

        Returns:
            The adversarial pictures and everything about them, detached.

        Raises:
            ValueError, TypeError, RuntimeError: As the call itself.
        """
        loan = as_borrowed(detector, forward)
        if update and torch.is_inference_mode_enabled():
            raise ValueError(INFERENCE)
        seen = self._look(images, target)
        due = self._begin() if update else Due(attacker=False, discriminator=False)
        # A look draws what the next step will draw, and leaves it to that step.
        generator = self._generator if update else self._generator.clone_state()
        graphs = torch.enable_grad() if update else without_graph(images.device)
        with graphs, private_randomness(generator, images.device):
            scene = self._draw(*seen, learning=due.attacker)
            error, push = torch.full_like(images[:, 0, 0, 0], torch.nan), None
            if due.attacker or not update:
                # The gradient is taken while the detector is on loan: one that checkpoints its
                # activations computes again in the backward.
                with self.batch_norms.feedback(loan, keep_new=update):
                    error = self._error(loan, scene.shown, images.dtype, target)
                    push = self._push(scene, error) if due.attacker else None
            verdict = self._judge(scene, due, update=update)
        if update:
            self._learn(scene, verdict, error.detach(), push, due)
        return AdversarialBatch(
            images=self.pixels.from_unit(scene.shown.detach()).to(images.dtype),
            perturbation=scene.adversarial.detach() - scene.clean,
            structure=scene.structure,
            mask=scene.mask,
            ssim=verdict.similarity.whole,
            beta=self._beta(verdict.similarity),
            losses=self._losses(verdict, error.detach()),
        )

    def health(self) -> Health:
        """What is wrong with the run, in words; waits for the device."""
        return self.running_means.health(constant_beta=not isinstance(self.beta, str))

    def compile(self, **options: Any) -> None:  # noqa: ANN401 # torch.compile's
        """Compile attacker and discriminator in place, with `torch.compile`'s options."""
        self.attacker.compile(**options)
        if self.discriminator is not None:
            self.discriminator.compile(**options)

    def _look(self, images: Tensor, target: Any) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401 # the task's
        """Check the inputs and give I in `[0, 1]`, S and M. No state moves."""
        check_images(images, next(self.attacker.parameters()))
        check_target_tensors(target, images)
        size = (images.shape[-2], images.shape[-1])
        if isinstance(self.attacker, UNetAttacker):
            self.attacker.check_size(size)
        with torch.no_grad():
            clean = widen(self.pixels.to_unit(images.detach().clone()))
            structure = structure_of(self.task, target, size)
            mask = saat.semantic_mask(structure)
            if self._reads(images.device):
                check_values(clean, structure, saat.SEMANTIC_THRESHOLD)
        return clean, structure, mask

    def _begin(self) -> Due:
        """Get ready to learn, and say who does in this step."""
        if self._pending is not None:
            self._pending = None  # say it once: the next call goes on
            raise RuntimeError(NEVER_WENT_BACKWARD)
        if self._calls == 0:
            broadcast(self)  # all processes of a run start from the same weights
        self.batch_norms.step()  # with what the caller's last backward has left
        return Due(
            attacker=self._calls % self.attacker_every == 0,
            discriminator=self.discriminator is not None
            and self._calls % self.discriminator_every == 0,
        )

    def _draw(self, clean: Tensor, structure: Tensor, mask: Tensor, *, learning: bool) -> Scene:
        """I_adv, Eq. 2, and what the detector sees of it."""
        noise = torch.randn_like(clean[:, :1])
        with torch.set_grad_enabled(learning):
            guide = structure if self.structure is True else None
            perturbation = self.attacker(clean, guide, noise)
            if self.regions is not None:
                perturbation = within(self.regions(clean), perturbation)
            perturbed = clean + perturbation
        adversarial = perturbed.detach().requires_grad_(learning)
        shown = adversarial
        if self.appearance is not None:
            shown = seen_as(self.appearance, adversarial)
        return Scene(clean, structure, mask, perturbed, adversarial, shown)

    def _error(self, detector: Loan, shown: Tensor, dtype: torch.dtype, target: Any) -> Tensor:  # noqa: ANN401 # the task's
        """Error e of the detector, `(B,)`, with its graph."""
        output = detector(self.pixels.from_unit(shown).to(dtype))
        error = self.task.error(output, target)
        check_error(error, len(shown), read=self._reads(shown.device))
        return error

    def _push(self, scene: Scene, error: Tensor, *, keep_graph: bool = False) -> Tensor:
        """Gradient of L_F, Eq. 3, at I_adv."""
        feedback = saat.feedback_loss(error, relaxation=self.relaxation)
        return pull_of(feedback, scene.adversarial, self._stepper, keep_graph=keep_graph)

    def _judge(self, scene: Scene, due: Due, *, update: bool = True) -> Verdict:
        return judge(
            scene,
            self.discriminator,
            scene.structure if self.structure else None,
            self._stepper,
            form=self.adversarial_form,
            weight=self.adversarial_weight,
            due=due,
            update=update,
        )

    def _learn(
        self, scene: Scene, verdict: Verdict, error: Tensor, push: Tensor | None, due: Due
    ) -> None:
        """Step attacker and discriminator, as far as they are due."""
        # All gradients before the first step, which writes to weights that graphs still need.
        gradients = [] if push is None else self._lessons(scene, verdict, error, push)
        self._move(verdict, gradients, due, torch.zeros_like(error[0]))

    def _lessons(self, scene: Scene, verdict: Verdict, error: Tensor, push: Tensor) -> list[Tensor]:
        """Gradients of Eq. 7 for the attacker, and the report."""
        pulls, weights = combine(
            verdict,
            push,
            limit=self.adversarial_limit,
            reconstruction_weight=self.reconstruction_weight,
        )
        ours, gradients = trainable(self.attacker), []
        if ours:
            total = sum_of(pulls.values())
            gradients += torch.autograd.grad(scene.perturbed, ours, total, materialize_grads=True)
        self.report = make_report(
            self._losses(verdict, error),
            verdict.similarity,
            error,
            self._beta(verdict.similarity),
            verdict.accuracy,
            scene.adversarial.detach() - scene.clean,
            scene.mask,
            pulls,
            weights,
        )
        self.running_means.update(self.report)
        return gradients

    def _move(self, verdict: Verdict, gradients: list[Tensor], due: Due, spoiled: Tensor) -> None:
        """Step attacker (Eq. 7) and discriminator (Eq. 5) with their gradients.

        Not where any process's backward is `spoiled`: all of them stay alike.
        """
        ours = trainable(self.attacker) if due.attacker else []
        theirs = trainable(self.discriminator) if due.discriminator else []
        semantic = verdict.similarity.semantic.mean()
        gradients = average([*gradients, *verdict.gradients, semantic, spoiled.to(semantic)])
        *gradients, semantic, spoiled = gradients
        steps = [(self.attacker_optimizer, ours, gradients[: len(ours)])]
        if self.discriminator_optimizer is not None:
            steps.append((self.discriminator_optimizer, theirs, gradients[len(ours) :]))
        self._stepper.step([step for step in steps if step[1]], spoiled=spoiled)
        if due.attacker and isinstance(self.reconstruction_weight, ReconstructionController):
            self.reconstruction_weight.update(semantic)
        self._calls += 1

    def _losses(self, verdict: Verdict, error: Tensor) -> StepLosses:
        feedback = saat.feedback_loss(error, relaxation=self.relaxation)
        losses = (verdict.adversarial, verdict.reconstruction, verdict.discriminator)
        return StepLosses(feedback, *(loss.detach() for loss in losses))

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
    return Adam(parameters, lr=1e-4, betas=(0.5, 0.999), fused=True)

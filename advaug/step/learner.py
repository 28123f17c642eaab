"""Attacker and discriminator, and how they learn from one scene: Eq. 4 to 7.

Both entries to the adversary, `advaug.step.in_batch` and `advaug.step.paper_call`, build on this.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from advaug import functional as saat
from advaug.base.distributed import average, broadcast
from advaug.networks.choice import Structure
from advaug.options import Objective, Schedule, View
from advaug.pixels import PixelSpec
from advaug.report import RunningMeans, Similarity, StepLosses, StepReport, make_report
from advaug.step.controller import ReconstructionController
from advaug.step.home import Home
from advaug.step.learning import Due, Verdict, combine, judge, trainable
from advaug.step.lesson import Lesson, Teach
from advaug.step.scene import Scene
from advaug.step.stepping import Stepper
from advaug.tasks import sum_of

__all__ = ["AdversarialBatch", "Learner", "MakeOptimizer", "Seen", "adam"]

NO_GRADIENT = (
    "no gradient came back to the pictures of the adversary's last call, so the attacker learned "
    "nothing from it. `adversary.health()` counts such calls."
)
OURS = ("advaug.", "torch.")  # where a warning should not point
MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


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


class Seen(NamedTuple):
    """What is known about a batch before anything is drawn: I in `[0, 1]`, S and M."""

    clean: Tensor
    structure: Tensor
    mask: Tensor


class Facts(NamedTuple):
    """What is known about the detector's errors when the attacker learns.

    Attributes:
        error: On the adversarial pictures, `(B,)`; NaN if unknown.
        rises: How far they exceed those of other pictures; see `StepReport`.
    """

    error: Tensor
    rises: tuple[Tensor, Tensor] | None = None


class Learner(nn.Module):
    """What both entries to the adversary share: networks, optimizers, and one learning step.

    Args:
        attacker: A(I, S, z).
        discriminator: D(I, S), or None.
        structure: Which network gets S.
        pixels: How the detector expects its pictures.
        objective: The weights of Eq. 3 to 9.
        view: Where the attacker may draw, and how the detector sees it.
        schedule: Who learns when.
        make_optimizer: Called once for each network.
        seed: Seed of everything random.

    Attributes:
        report: What the last step in which the attacker learned did; None before the first.
    """

    def __init__(
        self,
        attacker: nn.Module,
        discriminator: nn.Module | None,
        *,
        structure: Structure,
        pixels: PixelSpec,
        objective: Objective,
        view: View,
        schedule: Schedule,
        make_optimizer: MakeOptimizer,
        seed: int,
    ) -> None:
        super().__init__()
        weight = objective.reconstruction_weight
        self.attacker = attacker
        self.discriminator = discriminator
        self.structure: Structure = structure
        self.pixels = pixels
        self.objective = objective
        self.view = view
        # Registered, so that those that are modules move with this one.
        self.regions, self.appearance = view.regions, view.appearance
        self.schedule = schedule
        self.reconstruction_weight = ReconstructionController() if weight is None else weight
        self.running_means = RunningMeans()
        self.attacker_optimizer = make_optimizer(attacker.parameters())
        self.discriminator_optimizer = (
            None if discriminator is None else make_optimizer(discriminator.parameters())
        )
        self.report: StepReport | None = None
        self._stepper = Stepper()
        self._pending: Lesson | None = None  # waits for the caller's backward
        self._unanswered = 0  # calls in a row whose pictures got no gradient
        self._generator = torch.Generator().manual_seed(seed)
        self._home = Home()
        self._calls = 0
        self.register_load_state_dict_pre_hook(_check_networks)

    def start(self) -> Due:
        """Drop the last call's lesson, and say who learns in this call."""
        self.leave_behind()
        return self.due()

    def leave_behind(self) -> None:
        """Stop waiting for the backward of the last call."""
        lesson, self._pending = self._pending, None
        if lesson is not None and lesson.waits:
            self._unanswered += 1
            if self._unanswered == 1:
                warnings.warn(NO_GRADIENT, stacklevel=_level_of_caller())

    def due(self) -> Due:
        """Who learns in this call."""
        if self._calls == 0:
            broadcast(self)  # all processes of a run start from the same weights
        every = self.schedule.attacker_every
        critic_every = self.schedule.discriminator_every or every
        return Due(
            attacker=self._calls % every == 0,
            discriminator=self.discriminator is not None and self._calls % critic_every == 0,
        )

    def judge(self, scene: Scene, due: Due, *, update: bool = True, blind: bool = False) -> Verdict:
        """What can be said about a scene without the detector; `blind` leaves D out."""
        return judge(
            scene,
            None if blind else self.discriminator,
            scene.structure if self.structure else None,
            self._stepper,
            form=self.objective.adversarial_form,
            weight=self.objective.adversarial_weight,
            due=due._replace(discriminator=due.discriminator and not blind),
            update=update,
        )

    def wait_for(self, scene: Scene) -> Lesson:
        """Watch I_adv, which the detector is about to see."""
        lesson = Lesson()
        lesson.tap(scene.adversarial)
        return lesson

    def teacher(
        self,
        scene: Scene,
        verdict: Verdict,
        due: Due,
        *,
        facts: Callable[[], Facts],
        lost: Callable[[], Tensor | bool] = lambda: False,
    ) -> Teach:
        """Make the lesson for the gradient of L_F that the caller's backward brings to I_adv.

        Args:
            scene: With the attacker's graph.
            verdict: What is known of the scene.
            due: Who learns.
            facts: The detector's errors, as far as they are known by then.
            lost: Whether the caller will skip its step; called when its backward is done.
        """

        def teach(push: Tensor, unit: bool) -> Callable[[], None]:
            # The caller's loss scale may overflow on the way here; our own scale is not to blame.
            spoiled = push.isfinite().all().logical_not()
            push = self._stepper.scaled(torch.where(spoiled, 0.0, push))
            gradients = self.lessons(scene, verdict, facts(), push, unit=unit)

            def finish() -> None:
                self._unanswered = 0
                self.move(verdict, gradients, due, spoiled | lost())

            return finish

        return teach

    def lessons(
        self,
        scene: Scene,
        verdict: Verdict,
        facts: Facts,
        push: Tensor,
        *,
        unit: bool = False,
    ) -> list[Tensor]:
        """Gradients of Eq. 7 for the attacker, and the report.

        Args:
            scene: With the attacker's graph.
            verdict: What is known of the scene.
            facts: The detector's errors.
            push: Gradient of L_F at I_adv.
            unit: Whether the push is only a direction.
        """
        pulls, weights = combine(
            verdict,
            push,
            limit=self.objective.adversarial_limit,
            reconstruction_weight=self.reconstruction_weight,
            unit=unit,
        )
        ours, gradients = trainable(self.attacker), []
        if ours:
            total = sum_of(pulls.values())
            gradients += torch.autograd.grad(scene.perturbed, ours, total, materialize_grads=True)
        self.report = make_report(
            self.losses(verdict, facts.error),
            verdict.similarity,
            facts.error,
            self.trust(verdict.similarity),
            verdict.accuracy,
            scene.adversarial.detach() - scene.clean,
            scene.mask,
            pulls,
            weights,
            facts.rises,
        )
        self.running_means.update(self.report)
        return gradients

    def move(
        self, verdict: Verdict, gradients: list[Tensor], due: Due, spoiled: Tensor | None = None
    ) -> None:
        """Step attacker (Eq. 7) and discriminator (Eq. 5) with their gradients.

        Skipped if any process's backward is `spoiled`, so that all processes stay identical.
        """
        ours = trainable(self.attacker) if due.attacker else []
        theirs = trainable(self.discriminator) if verdict.gradients else []
        semantic = verdict.similarity.semantic.mean()
        spoiled = torch.zeros_like(semantic) if spoiled is None else spoiled.to(semantic)
        gradients = average([*gradients, *verdict.gradients, semantic, spoiled])
        *gradients, semantic, spoiled = gradients
        steps = [(self.attacker_optimizer, ours, gradients[: len(ours)])]
        if self.discriminator_optimizer is not None:
            steps.append((self.discriminator_optimizer, theirs, gradients[len(ours) :]))
        self._stepper.step([step for step in steps if step[1]], spoiled=spoiled)
        if due.attacker and isinstance(self.reconstruction_weight, ReconstructionController):
            self.reconstruction_weight.update(semantic)

    def losses(self, verdict: Verdict, error: Tensor) -> StepLosses:
        """The losses of the step, detached."""
        feedback = saat.feedback_loss(error, relaxation=self.objective.relaxation)
        losses = (verdict.adversarial, verdict.reconstruction, verdict.discriminator)
        return StepLosses(feedback, *(loss.detach() for loss in losses))

    def trust(self, similarity: Similarity) -> Tensor:
        """β, Eq. 9 or its ablations."""
        beta = self.objective.beta
        if isinstance(beta, str):
            adaptive = beta == "adaptive"
            return saat.beta_from_ssim(similarity.whole if adaptive else similarity.semantic)
        return torch.full_like(similarity.whole, float(beta))

    @property
    def reference(self) -> Tensor:
        """A tensor that has the adversary's device and dtype."""
        return next(self.attacker.parameters(), self.running_means.values)

    def reads(self, device: torch.device) -> bool:
        """Whether values may be read back: always on a CPU, otherwise in the first call only."""
        return device.type == "cpu" or self._calls == 0

    def parts(
        self, scene: Scene, verdict: Verdict, error: Tensor, images: Tensor
    ) -> AdversarialBatch:
        """The parts of an attack, detached."""
        return AdversarialBatch(
            images=self.pixels.from_unit(scene.shown.detach()).to(images.dtype),
            perturbation=scene.adversarial.detach() - scene.clean,
            structure=scene.structure,
            mask=scene.mask,
            ssim=verdict.similarity.whole,
            beta=self.trust(verdict.similarity),
            losses=self.losses(verdict, error),
        )

    def compile(self, **options: Any) -> None:  # noqa: ANN401 # torch.compile's
        """Compile attacker and discriminator in place, with `torch.compile`'s options."""
        self.attacker.compile(**options)
        if self.discriminator is not None:
            self.discriminator.compile(**options)

    def get_extra_state(self) -> dict[str, Any]:
        """What an exact resume needs besides weights and buffers."""
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
        """Restore a state of `get_extra_state`."""
        self.attacker_optimizer.load_state_dict(state["attacker_optimizer"])
        if self.discriminator_optimizer is not None:
            self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        self._generator.set_state(state["generator"].cpu())
        self._stepper.load_state_dict(state["loss_scale"])
        self._calls = state["calls"]


def _level_of_caller() -> int:
    """Of the first frame that is neither ours nor PyTorch's, as `warnings.warn` counts them."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(OURS):
        frame, level = frame.f_back, level + 1
    return level


def _check_networks(
    learner: nn.Module,
    state: Mapping[str, Any],
    prefix: str,
    _metadata: Any,  # noqa: ANN401 # PyTorch's
    strict: bool,
    *_reports: list[str],
) -> None:
    """Raise where a checkpoint holds other networks, before PyTorch copies those that fit."""
    for name in ("attacker", "discriminator"):
        network, start = getattr(learner, name), f"{prefix}{name}."
        ours = {} if network is None else {start + k: v for k, v in network.state_dict().items()}
        theirs = {key: value for key, value in state.items() if key.startswith(start)}
        differ = sorted(ours.keys() ^ theirs.keys()) if strict else []
        shapes = [(k, _shape(theirs[k]), _shape(ours[k])) for k in ours.keys() & theirs.keys()]
        other = sorted(facts for facts in shapes if facts[1] != facts[2])
        if differ:
            fact = f"`{differ[0]}` is only in {'it' if differ[0] in theirs else 'this one'}"
        elif other:
            fact = "`{}` is {} in it and {} here".format(*other[0])
        else:
            continue
        msg = (
            f"`state_dict` must be that of an adversary with the same networks, but {fact}. Build "
            "the adversary with the arguments of the run that saved it."
        )
        raise ValueError(msg)


def _shape(value: Any) -> tuple[int, ...]:  # noqa: ANN401 # a tensor, or a module's extra state
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def adam(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The paper's choice."""
    return Adam(parameters, lr=1e-4, betas=(0.5, 0.999), fused=True)

"""The paper's call: run the detector on adversarial pictures, learn, and give the loss of Eq. 8."""

from typing import Any

import torch
from torch import Tensor

from advaug import functional as saat
from advaug.base.checks import check_error, check_images, check_target_tensors
from advaug.base.precision import without_graph
from advaug.base.shapes import copied, first_part
from advaug.step.batch_norm import BatchNorms
from advaug.step.beside import Beside, relaxation_findings
from advaug.step.learner import Due, Learner
from advaug.step.learning import learn, learn_later
from advaug.step.lesson import Facts, Lesson, weighted_mean
from advaug.step.loan import Detector, Forward, Loan, as_borrowed
from advaug.step.modes import Mode, choose_mode
from advaug.step.neighbours import Neighbours
from advaug.step.randomness import private_randomness
from advaug.step.scene import Scene, draw
from advaug.step.stepping import overflowed
from advaug.step.verdict import AdversarialBatch, judge, parts_of
from advaug.tasks import LandmarkTask, structure_of

__all__ = ["PaperCall"]

INFERENCE = (
    "the adversary must be called outside of `torch.inference_mode()` to learn, but it is on. For "
    "adversarial pictures only, use `adversary.attack(..., update=False)`."
)


class PaperCall(Learner):
    """`adversary(detector, images, target)` and `attack`.

    Attributes:
        task: What the detector's output means.
        channels: Of the pictures.
        loss_weight: Scale of the loss of Eq. 8.
        batch_norms: The BatchNorm policy of the loan.
        beside: The scale of that loss, for callers who pass their own.
        chosen_mode: How the last call ran; None before the first.
    """

    task: LandmarkTask | None
    channels: int
    loss_weight: float
    batch_norms: BatchNorms
    beside: Beside
    chosen_mode: Mode | None = None
    _neighbours: Neighbours

    def forward(
        self,
        detector: Detector,
        images: Tensor,
        target: Any,  # noqa: ANN401 # the task's
        *,
        forward: Forward | None = None,
        beside: Tensor | None = None,
    ) -> Tensor:
        """One step of the paper: attack, learn, and give the loss of Eq. 8.

        Args:
            detector: An nn.Module that gives what the task understands: plain, compiled, scripted,
                exported, or in DDP or FSDP2; or a bound method or `functools.partial` of one.
            images: `(B, C, H, W)`, as the detector expects them.
            target: As the task expects it.
            forward: How the detector is called, if not as `detector(images)`: from the module and
                the pictures to its output.
            beside: The caller's own loss on these pictures, a scalar. The loss is then brought to
                its scale, by their running ratio, measured in the first call and in every 50th;
                `loss_weight` is a factor on top. Pass it in every call or in none.

        Returns:
            Scalar, the mean of β times the error on the adversarial pictures, to be added to the
            caller's own loss. Its graph reaches the detector's parameters and nothing else. In mode
            `"fused"` its backward is what teaches attacker and discriminator.

        Raises:
            ValueError, TypeError: If an input is unfit, gradients are disabled, or the mode does
                not fit the detector; nothing has changed then. `ShapeError` is a ValueError.
            RuntimeError: As `augment`.
        """
        self._home.check("adversary(...)")
        if not torch.is_grad_enabled():
            msg = (
                "the adversary must be called with gradients enabled, but they are off. For "
                "adversarial pictures only, use `adversary.attack(..., update=False)`."
            )
            raise ValueError(msg)
        task, loan = self._checked(images, target), as_borrowed(detector, forward)
        measured = None
        self.beside.check_given(beside)
        if beside is not None:
            whole = target
            measured = self.beside.measure(beside, loan, images, lambda o: task.error(o, whole))
        images, target = first_part(images, target, self.schedule.share or 1.0)
        self.chosen_mode = choose_mode(
            self.schedule.mode,
            loan,
            self.batch_norms.policy,
            transformed=self.view.transform is not None,
            mixes=lambda: self._neighbours.found(
                loan, self.batch_norms, images, lambda given: task.error(loan(given), target)
            ),
        )
        two = self.chosen_mode == "alternating"
        step = self._step_in_two_passes if two else self._step_in_one_pass
        loss = self.batch_norms.settled(loan, step(task, loan, images, target))
        return loss if beside is None else self.beside.scaled(loss, beside, measured)

    def _step_in_two_passes(
        self,
        task: LandmarkTask,
        loan: Loan,
        images: Tensor,
        target: Any,  # noqa: ANN401 # the task's
    ) -> Tensor:
        """The paper's order: the detector sees I_adv for the attack, and again for the defence."""
        attack = self.attack(loan, images, target)
        with private_randomness(self._generator, images.device):
            adversarial = attack.images
            if self.view.transform is not None:
                unit = self.pixels.to_unit(adversarial).clone()
                adversarial, target = self.view.transform(unit, copied(target))
                adversarial = self.pixels.from_unit(adversarial)
            with self.batch_norms.defence(loan):
                error = task.error(loan(adversarial), target)
        return self.loss_weight * (attack.beta * error).mean()  # Eq. 8

    def _step_in_one_pass(
        self,
        task: LandmarkTask,
        loan: Loan,
        images: Tensor,
        target: Any,  # noqa: ANN401 # the task's
    ) -> Tensor:
        """The detector sees I_adv once, for attack and defence; see `advaug.step.modes`."""
        due = self.due()
        fused = self.chosen_mode == "fused" and due.attacker
        with private_randomness(self._generator, images.device):
            scene = self._draw(task, images, target, learning=due.attacker)
            self._start()
            lesson = Lesson(scene.adversarial) if fused else None
            with self.batch_norms.defence(loan):
                error = self._error(task, loan, scene, target)
            push = None
            if due.attacker and not fused:
                with self.batch_norms.feedback(loan):  # as in `attack`
                    push = self._push(scene, error, keep_graph=True)
            verdict = judge(self, scene, due)
        weights = self.loss_weight * verdict.beta
        self._calls += 1
        if lesson is None:
            learn(self, scene, verdict, push, due, facts=Facts(error.detach()))
            return (weights * error).mean()  # Eq. 8
        lesson.facts = Facts(error.detach())
        lesson.follow(error, self.objective.relaxation)
        learn_later(self, lesson, scene, verdict, due, lost=lambda: overflowed(loan))
        return weighted_mean(error, weights, self.loss_weight or 1.0, lesson)  # Eq. 8

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
            images: `(B, C, H, W)`, as the detector expects them.
            target: As the task expects it.
            update: False leaves attacker and discriminator as they are, and the generator that
                training draws from. It needs no gradients: it may run under `no_grad` and
                `inference_mode`, and on a frozen detector.
            forward: As in the call.

        Returns:
            The adversarial pictures and everything about them, detached.

        Raises:
            ValueError, TypeError: As the call itself.
            RuntimeError: As `augment`, if `update` is True.
        """
        if update:
            self._home.check("attack")
        task, loan = self._checked(images, target), as_borrowed(detector, forward)
        if update and torch.is_inference_mode_enabled():
            raise ValueError(INFERENCE)
        due = self.due() if update else Due(attacker=False, discriminator=False)
        # Without an update it draws what the next step will draw again.
        generator = self._generator if update else self._generator.clone_state()
        graphs = torch.enable_grad() if update else without_graph(images.device)
        with graphs, private_randomness(generator, images.device):
            scene = self._draw(task, images, target, learning=due.attacker)
            if update:
                self._start()
            error, push = torch.full_like(images[:, 0, 0, 0], torch.nan), None
            if due.attacker or not update:
                # The gradient is taken while the detector is on loan: one that checkpoints its
                # activations computes again in the backward.
                with self.batch_norms.feedback(loan, keep_new=update):
                    error = self._error(task, loan, scene, target)
                    push = self._push(scene, error) if due.attacker else None
            verdict = judge(self, scene, due, update=update)
        if update:
            self._calls += 1
            learn(self, scene, verdict, push, due, facts=Facts(error.detach()))
        return parts_of(self, scene, verdict, error.detach())

    def scale_findings(self) -> list[str]:
        """Whether the loss or λ is out of scale, in words; waits for the device."""
        if self.chosen_mode is None:
            return []
        error = self.running_means.known("error")
        return self.beside.findings() + relaxation_findings(self.objective.relaxation, error)

    def _checked(self, images: Tensor, target: Any) -> LandmarkTask:  # noqa: ANN401 # the task's
        """The task; raises if it, the pictures or the target are unfit. No state changes."""
        if self.task is None:
            msg = (
                "`task` must be given for the paper's call, which runs the detector itself, but is "
                "None. Pass HeatmapTask() or CoordinateTask(), or use `adversary.augment`."
            )
            raise TypeError(msg)
        check_images(images, self.reference, self.channels)
        check_target_tensors(target, images)
        return self.task

    def _draw(
        self,
        task: LandmarkTask,
        images: Tensor,
        target: Any,  # noqa: ANN401 # the task's
        *,
        learning: bool,
    ) -> Scene:
        with torch.no_grad():
            structure = structure_of(task, target, (images.shape[-2], images.shape[-1]))
        own = images.detach().clone()
        return draw(self, own, structure, learning=learning, least=saat.SEMANTIC_THRESHOLD)

    def _start(self) -> None:
        """Close the last call, once all that could raise before the detector runs has run."""
        self.batch_norms.step()  # with what the caller's last backward has left
        self.leave_behind()

    def _error(self, task: LandmarkTask, loan: Loan, scene: Scene, target: Any) -> Tensor:  # noqa: ANN401 # the task's
        """Error e of the detector, `(B,)`, with its graph."""
        error = task.error(loan(scene.shown), target)
        check_error(error, len(scene.shown), read=self.reads(scene.shown.device))
        return error

    def _push(self, scene: Scene, error: Tensor, *, keep_graph: bool = False) -> Tensor:
        """Gradient of L_F, Eq. 3, at I_adv."""
        feedback = saat.feedback_loss(error, relaxation=self.objective.relaxation)
        return self.stepper.pull(feedback, scene.adversarial, keep_graph=keep_graph)

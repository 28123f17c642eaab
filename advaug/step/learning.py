"""What the attacker and the discriminator learn from one scene: Eq. 5 and 7."""

from collections.abc import Callable

import torch
from torch import Tensor

from advaug.base.distributed import average
from advaug.report import make_report
from advaug.step.controller import ReconstructionController
from advaug.step.learner import Due, Learner
from advaug.step.lesson import Facts, Lesson
from advaug.step.scene import Scene
from advaug.step.stepping import trainable
from advaug.step.verdict import Verdict, losses_of

__all__ = ["learn", "learn_later"]


def learn_later(
    learner: Learner,
    lesson: Lesson,
    scene: Scene,
    verdict: Verdict,
    due: Due,
    *,
    lost: Callable[[], Tensor | bool] = lambda: False,
) -> None:
    """Let the caller's backward, which brings the gradient of L_F to I_adv, teach both networks.

    Args:
        learner: Waits for it.
        lesson: Watches the pictures of the scene.
        scene: With the attacker's graph.
        verdict: What is known of the scene.
        due: Who learns.
        lost: Whether the caller will skip its step; called when its backward is done.
    """

    def teach(push: Tensor, unit: bool, facts: Facts) -> Callable[[], None]:
        # The caller's loss scale may overflow on the way here; our own scale is not to blame.
        spoiled = push.isfinite().all().logical_not()
        push = learner.stepper.scaled(torch.where(spoiled, 0.0, push))
        gradients = _gradients(learner, scene, verdict, facts, push, unit=unit)

        def finish() -> None:
            learner._unanswered = 0
            _move(learner, verdict, gradients, due, spoiled | lost())

        return finish

    lesson.teach, learner._pending = teach, lesson


def learn(
    learner: Learner,
    scene: Scene,
    verdict: Verdict,
    push: Tensor | None,
    due: Due,
    *,
    facts: Facts | None = None,
) -> None:
    """Step attacker and discriminator, as far as they are due.

    Args:
        learner: Whose networks learn.
        scene: With the attacker's graph.
        verdict: What is known of the scene.
        push: Gradient of L_F at I_adv; None if the attacker is not due.
        due: Who learns.
        facts: The detector's errors, where there is a push.
    """
    # All gradients before the first step, which writes to weights that graphs still need.
    gradients = []
    if push is not None and facts is not None:
        gradients = _gradients(learner, scene, verdict, facts, push)
    _move(learner, verdict, gradients, due)


def _gradients(
    learner: Learner,
    scene: Scene,
    verdict: Verdict,
    facts: Facts,
    push: Tensor,
    *,
    unit: bool = False,
) -> list[Tensor]:
    """Gradients of Eq. 7 for the attacker, and the report; `unit`: the push is only a direction."""
    pulls, weights = _combine(learner, verdict, push, unit=unit)
    ours, gradients = trainable(learner.attacker), []
    if ours:
        total = torch.stack(list(pulls.values())).sum(dim=0)
        gradients += torch.autograd.grad(scene.perturbed, ours, total, materialize_grads=True)
    learner.report = make_report(
        losses_of(learner, verdict, facts.error),
        verdict.similarity,
        facts.error,
        verdict.beta,
        verdict.accuracy,
        scene.adversarial.detach() - scene.clean,
        scene.mask,
        pulls,
        weights,
        facts.rises,
    )
    learner.running_means.update(learner.report)
    return gradients


def _move(
    learner: Learner,
    verdict: Verdict,
    gradients: list[Tensor],
    due: Due,
    spoiled: Tensor | None = None,
) -> None:
    """Step attacker (Eq. 7) and discriminator (Eq. 5) with their gradients.

    Skipped if any process's backward is `spoiled`, so that all processes stay identical.
    """
    ours = trainable(learner.attacker) if due.attacker else []
    theirs = trainable(learner.discriminator) if verdict.gradients else []
    semantic = verdict.similarity.semantic.mean()
    spoiled = torch.zeros_like(semantic) if spoiled is None else spoiled.to(semantic)
    gradients = average([*gradients, *verdict.gradients, semantic, spoiled])
    *gradients, semantic, spoiled = gradients
    steps = [(learner.attacker_optimizer, ours, gradients[: len(ours)])]
    if learner.discriminator_optimizer is not None:
        steps.append((learner.discriminator_optimizer, theirs, gradients[len(ours) :]))
    learner.stepper.step([step for step in steps if step[1]], spoiled=spoiled)
    if due.attacker and isinstance(learner.reconstruction_weight, ReconstructionController):
        learner.reconstruction_weight.update(semantic)


def _combine(
    learner: Learner, verdict: Verdict, push: Tensor, *, unit: bool
) -> tuple[dict[str, Tensor], Tensor]:
    """The terms of Eq. 7 as they pull at I_adv.

    Args:
        learner: Its weight of L_R, and its limit of L_A's norm relative to L_F's in each sample.
        verdict: With the pulls of L_R and L_A.
        push: Gradient of L_F at I_adv.
        unit: Whether the push is only a direction. It then has no scale for the other two terms to
            keep: L_A pulls at its limit, and a fixed weight of L_R is relative to the push.

    Returns:
        The weighted gradient of each term, by name, and the weight of L_R, `(B,)`.
    """
    limit, weight_of_l_r = learner.objective.adversarial_limit, learner.reconstruction_weight
    pulls = {"feedback": push, **verdict.pulls}
    similarity, pull = verdict.similarity.semantic, pulls["reconstruction"]
    # A sample without a push, because the detector did not see it, is still held to its target.
    strength = torch.ones_like(similarity) if unit else _norms(push)
    if isinstance(weight_of_l_r, ReconstructionController):
        weights = weight_of_l_r.weights(similarity, strength, _norms(pull))
    else:
        weights = torch.full_like(similarity, weight_of_l_r)
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

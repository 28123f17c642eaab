"""The adversary in the caller's own batch: the method as an augmentation.

Adversarial pictures replace some of the clean ones. The caller runs its detector and its loss over
all of them, and its backward brings the attacker the gradient that it learns from. The detector is
not touched, so nothing needs to be known about it.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# What PyTorch's optimizers use: unlike `torch.compiler.disable`, it loads nothing at import.
from torch._compile import _disable_dynamo as run_eagerly

from advaug import functional as saat
from advaug.base.checks import check_images, check_target_device, check_told
from advaug.base.distributed import world_size
from advaug.base.precision import widen
from advaug.step.learner import Due, Learner
from advaug.step.learning import learn, learn_later
from advaug.step.lesson import Facts, Lesson
from advaug.step.pictures import Pictures
from advaug.step.randomness import private_randomness
from advaug.step.scene import draw, unpainted
from advaug.step.targets import Landmarks, check_units, read_target, structure_of
from advaug.step.verdict import AdversarialBatch, judge, parts_of

__all__ = ["InBatch"]

MOST_TRUST = math.log(1.5)  # β of Eq. 9 where nothing has changed
CONTROL_EVERY = 10  # every n-th call of `augment` shows some pictures in the appearance only


class InBatch(Learner):
    """`augment` and the methods around it.

    Attributes:
        channels: Channels of the pictures.
        attacked: Which pictures the last call of `augment` changed, `(B,)` bool.
        weights: For losses per picture; see `SampleAdaptiveAdversary`.
        told: Whether `tell` was ever called, so that the report knows the errors.
    """

    channels: int
    attacked: Tensor | None = None
    weights: Tensor | None = None
    told = False
    _painted: Tensor | None = None  # indices of the pictures that the last call perturbed
    _controls: Tensor | None = None  # which ones it showed in the appearance only, `(B,)` bool
    _attachments: list[Any]

    @run_eagerly  # a compiled step breaks its graph here, once
    def augment(
        self,
        images: Any,  # noqa: ANN401 # a tensor or a list of them, and the same comes back
        target: Any = None,  # noqa: ANN401 # any form that `advaug.step.targets` knows
        *,
        normalized: bool = False,
    ) -> Any:  # noqa: ANN401 # see above
        """Attack a part of the batch; the backward of the caller's loss teaches the attacker.

        Pictures are chosen at random, `schedule.share` of each batch. The others come back bit for
        bit. A chosen picture is attacked with probability β / ln 1.5 and otherwise left as it was,
        so that its part in the loss is proportional to β, as in Eq. 8. In evaluation mode, and
        where gradients are off, all pictures come back as they were.

        Args:
            images: `(B, C, H, W)`, as the detector expects them, or a list of `(C, H_i, W_i)`.
            target: Where the landmarks are, in any form that the conventions page lists under
                Targets. None if unknown: then there is no S and no M, the discriminator is not
                used, and L_R covers the whole picture.
            normalized: Whether landmarks are fractions of the picture's sides; otherwise pixels.

        Returns:
            The pictures for the detector, in the form in which they were given.

        Raises:
            ValueError, TypeError: If an input is invalid; nothing has changed then. `ShapeError` is
                a ValueError.
            RuntimeError: In a worker of a DataLoader, and in a child process that was handed the
                adversary, unless it is one of a run of `torch.distributed`.
        """
        self._home.check("augment")
        if not self.training or not torch.is_grad_enabled():
            self.attacked = self.weights = self._pending = None
            return images
        pictures = self._batch_of(images)
        landmarks = self._landmarks(pictures, target, normalized=normalized)
        due, batch, device = self.due(), len(pictures.images), pictures.images.device
        count = self._count(batch)
        if count == 0:
            self.leave_behind()
            self._remember(batch, torch.arange(0, device=device))
            return images
        apart = self._controls_among(count)
        size = (pictures.images.shape[-2], pictures.images.shape[-1])
        with private_randomness(self._generator, device):
            chosen = torch.rand(batch, device=device).argsort()[:count]
            structure = structure_of(landmarks, size, chosen)
            painted = chosen[apart:]
            scene = draw(
                self,
                pictures.images[painted],
                None if structure is None else structure[apart:],
                learning=due.attacker,
                inside=pictures.inside(painted),
            )
            lesson = Lesson(scene.adversarial) if due.attacker else None
            verdict = judge(self, scene, due, blind=structure is None)
            probability = (verdict.beta / MOST_TRUST).clamp(max=1.0)
            shown = torch.rand_like(probability) < probability
            changed, weights = scene.shown, verdict.beta / probability
            if apart:
                controls = unpainted(self, pictures.images[chosen[:apart]])
                changed, shown, weights = _beside(controls, changed, shown, weights)
            self.leave_behind()  # whatever could raise has run
        if structure is not None:  # without landmarks nothing keeps the picture true to its labels
            shown = shown & (structure.amax(dim=(1, 2, 3)) >= saat.SEMANTIC_THRESHOLD)
        changed = torch.where(shown.view(-1, 1, 1, 1), changed, pictures.images[chosen])
        self._remember(batch, chosen, apart, shown, weights)
        if lesson is not None:
            learn_later(self, lesson, scene, verdict, due)
        elif due.discriminator:
            learn(self, scene, verdict, None, due)
        return pictures.replaced(chosen, changed)

    def tell(self, errors: Tensor) -> None:
        """Say how wrong the detector is on each picture, between `augment` and the backward.

        The attacker then learns with the weights of Eq. 3, 1 / (e + λ)², instead of only from
        the direction of each gradient, and the report knows how much harder attacked pictures are.

        Args:
            errors: `(B,)`, with their graph: the terms that make up the loss.

        Raises:
            ValueError, TypeError: If `errors` is anything else; `ShapeError` is a ValueError.
        """
        if self.attacked is None or self._painted is None:
            return
        check_told(errors, len(self.attacked))
        self.told = True
        lesson, painted = self._pending, self._painted
        if lesson is None:
            return
        own = widen(errors.detach())
        lesson.facts = Facts(own[painted], self._rises(own))
        lesson.follow(own[painted], self.objective.relaxation)
        lesson.weigh_by(errors, painted)

    def preview(
        self,
        images: Tensor,
        target: Any = None,  # noqa: ANN401 # as in `augment`
        *,
        normalized: bool = False,
    ) -> AdversarialBatch:
        """All pictures as `augment` would attack them now, with S, M and β. Nothing is learned.

        Args:
            images: `(B, C, H, W)`, as the detector expects them.
            target: As in `augment`.
            normalized: As in `augment`.

        Raises:
            ValueError, TypeError: As `augment`.
        """
        pictures = self._batch_of(images)
        landmarks = self._landmarks(pictures, target, normalized=normalized)
        size = (pictures.images.shape[-2], pictures.images.shape[-1])
        structure = structure_of(landmarks, size)
        generator = self._generator.clone_state()  # training continues from where it was
        with torch.no_grad(), private_randomness(generator, pictures.images.device):
            scene = draw(self, pictures.images, structure, learning=False)
            nobody = Due(attacker=False, discriminator=False)
            verdict = judge(self, scene, nobody, update=False, blind=structure is None)
        return parts_of(self, scene, verdict, torch.full_like(verdict.beta, torch.nan))

    def _batch_of(self, images: Any) -> Pictures:  # noqa: ANN401 # that is what it checks
        pictures = Pictures.of(images)
        check_images(pictures.images, self.reference, self.channels)
        return pictures

    def _landmarks(
        self,
        pictures: Pictures,
        target: Any,  # noqa: ANN401 # any form that `advaug.step.targets` knows
        *,
        normalized: bool,
    ) -> Landmarks | Tensor | None:
        """Read and check what `augment` was given about the landmarks. No state changes."""
        if target is None:
            if self.structure is True:
                msg = (
                    "`target` must be given for an attacker that is told S, but is None. Pass the "
                    "landmarks, or build the adversary with `structure='discriminator'`."
                )
                raise ValueError(msg)
            return None
        check_target_device(target, pictures.images)
        landmarks = read_target(target, pictures.sizes, normalized=normalized)
        if isinstance(landmarks, Landmarks) and self.reads(pictures.images.device):
            size = (pictures.images.shape[-2], pictures.images.shape[-1])
            check_units(landmarks, size, normalized=normalized)
        return landmarks

    def _count(self, batch: int) -> int:
        """How many pictures of a batch to attack: over many calls exactly `share` of them."""
        share = 0.5 if self.schedule.share is None else self.schedule.share
        # With several processes, each one takes part in every exchange.
        return self.quota.next(batch, share, least=int(world_size() > 1))

    def _controls_among(self, count: int) -> int:
        """How many of the chosen pictures are shown in the appearance only; from the first one."""
        return count // 2 if self.told and self._calls % CONTROL_EVERY == 0 else 0

    def _remember(
        self,
        batch: int,
        chosen: Tensor,
        apart: int = 0,
        shown: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        """Count the call, and record which pictures were changed, and their weights."""
        self._calls += 1
        self.quota.take(batch, len(chosen))
        self._painted, self._controls = chosen[apart:], None
        self.attacked = torch.zeros(batch, dtype=torch.bool, device=chosen.device)
        self.weights = torch.ones(batch, device=chosen.device)
        if shown is None or weights is None:
            return
        self.attacked[chosen] = shown
        self.weights[chosen] = torch.where(shown, weights, 1.0).to(self.weights.dtype)
        if apart:
            self._controls = torch.zeros_like(self.attacked)
            self._controls[chosen[:apart]] = shown[:apart]

    def _rises(self, errors: Tensor) -> tuple[Tensor, Tensor] | None:
        """How much harder attacked pictures are than the others, and than the appearance only."""
        assert self.attacked is not None
        nobody = torch.zeros_like(self.attacked)
        controls = nobody if self._controls is None else self._controls
        attacked = _mean(errors, self.attacked & ~controls)
        others, plain = _mean(errors, ~self.attacked), _mean(errors, controls)
        return attacked / others - 1, attacked / plain - 1

    def get_extra_state(self) -> dict[str, Any]:
        """What an exact resume needs besides weights and buffers."""
        return {**super().get_extra_state(), "told": self.told}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_extra_state`."""
        super().set_extra_state(state)
        self.told = state["told"]

    def __getstate__(self) -> dict[str, Any]:
        """Everything except what holds on to a graph of the caller's."""
        return {**self.__dict__, "_pending": None, "_painted": None, "_controls": None}


def _beside(
    controls: Tensor, changed: Tensor, shown: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Put pictures in the appearance only, all of them shown and of weight 1, before the others."""
    ones = weights.new_ones(len(controls))
    return (
        torch.cat([controls, changed]),
        torch.cat([ones.bool(), shown]),
        torch.cat([ones, weights]),
    )


def _mean(errors: Tensor, of: Tensor) -> Tensor:
    """Mean over some pictures; NaN over none."""
    return torch.where(of, errors, 0.0).sum() / of.sum()

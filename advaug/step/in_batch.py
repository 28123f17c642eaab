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
from advaug.base.checks import check_images, check_told, check_values
from advaug.base.distributed import world_size
from advaug.base.precision import widen
from advaug.step.learner import AdversarialBatch, Facts, Learner, Seen
from advaug.step.learning import Due
from advaug.step.loan import private_randomness
from advaug.step.pictures import Pictures
from advaug.step.scene import draw
from advaug.step.targets import Landmarks, check_units, read_target, structure_of

__all__ = ["InBatch"]

MOST_TRUST = math.log(1.5)  # β of Eq. 9 where nothing has changed
CONTROL_EVERY = 10  # every n-th call of `augment` shows some pictures in the appearance only


class InBatch(Learner):
    """`augment` and the methods around it.

    Attributes:
        channels: Channels of the pictures.
        attacked: Which pictures the last call of `augment` changed, `(B,)` bool.
        weights: For losses per picture; see `SampleAdaptiveAdversary`.
    """

    channels: int
    attacked: Tensor | None = None
    weights: Tensor | None = None
    _chosen: Tensor | None = None  # indices of the pictures that the last call chose
    _told: Tensor | None = None
    _controls: Tensor | None = None
    _is_told = False
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
            target: Where the landmarks are, in any form of `advaug.step.targets`. None if unknown:
                then there is no S and no M, the discriminator is not used, and L_R covers the whole
                picture.
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
        pictures = Pictures.of(images)
        check_images(pictures.images, self.reference, self.channels)
        landmarks = self._landmarks(pictures, target, normalized=normalized)
        due, count = self.due(), self._count(len(pictures.images))
        device = pictures.images.device
        if count == 0:
            self.leave_behind()
            self._remember(len(pictures.images), torch.arange(0, device=device))
            self._calls += 1
            return images
        with private_randomness(self._generator, device):
            chosen = torch.rand(len(pictures.images), device=device).argsort()[:count]
            seen = self._seen(pictures.images[chosen], landmarks, chosen)
            keep = self._keep(len(chosen), device)
            scene = draw(
                self.attacker,
                self.view,
                *seen,
                guide=self.guide(seen.structure),
                learning=due.attacker,
                inside=pictures.inside(chosen),
                keep=keep,
            )
            lesson = self.wait_for(scene) if due.attacker else None
            verdict = self.judge(scene, due, blind=landmarks is None)
            beta = self.trust(verdict.similarity)
            probability = (beta / MOST_TRUST).clamp(max=1.0)
            shown = torch.rand_like(probability) < probability
            self.leave_behind()  # whatever could raise has run
        if landmarks is not None:  # without landmarks nothing keeps the picture true to its labels
            shown = shown & (seen.structure.amax(dim=(1, 2, 3)) >= saat.SEMANTIC_THRESHOLD)
        changed = self.pixels.from_unit(scene.shown).to(pictures.images.dtype)
        changed = torch.where(shown.view(-1, 1, 1, 1), changed, pictures.images[chosen])
        self._remember(len(pictures.images), chosen, shown, beta / probability, keep)
        if lesson is None:
            if due.discriminator:
                self.move(verdict, [], due)
        else:
            lesson.teach = self.teacher(scene, verdict, due, facts=self._facts)
        self._pending = lesson
        self._calls += 1
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
        if self.attacked is None or self._chosen is None:
            return
        check_told(errors, len(self.attacked))
        self._told, self._is_told = errors.detach(), True
        lesson, chosen = self._pending, self._chosen
        if lesson is None:
            return
        lesson.follow(widen(errors.detach())[chosen], self.objective.relaxation)
        lesson.weigh_by(errors, chosen)

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
        pictures = Pictures.of(images)
        check_images(pictures.images, self.reference, self.channels)
        landmarks = self._landmarks(pictures, target, normalized=normalized)
        everyone = torch.arange(len(pictures.images), device=pictures.images.device)
        nobody = Due(attacker=False, discriminator=False)
        generator = torch.Generator()
        generator.set_state(self._generator.get_state())  # training continues from where it was
        with torch.no_grad(), private_randomness(generator, pictures.images.device):
            seen = self._seen(pictures.images, landmarks, everyone)
            guide = self.guide(seen.structure)
            scene = draw(self.attacker, self.view, *seen, guide=guide, learning=False)
            verdict = self.judge(scene, nobody, update=False, blind=landmarks is None)
        return self.parts(
            scene, verdict, torch.full_like(verdict.reconstruction, torch.nan), images
        )

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
        landmarks = read_target(target, pictures.all_sizes(), normalized=normalized)
        held = landmarks.points if isinstance(landmarks, Landmarks) else landmarks
        if held.device != pictures.images.device:
            msg = (
                f"`target` must be on the device of `images`, {pictures.images.device}, but got "
                f"{held.device}. Use `target.to(images.device)`."
            )
            raise ValueError(msg)
        if isinstance(landmarks, Landmarks) and self.reads(held.device):
            height, width = pictures.images.shape[-2:]
            check_units(landmarks, (height, width))
        return landmarks

    @torch.no_grad()
    def _seen(self, images: Tensor, landmarks: Landmarks | Tensor | None, chosen: Tensor) -> Seen:
        """I, S and M of the chosen pictures."""
        clean = widen(self.pixels.to_unit(images.detach()))
        size = (images.shape[-2], images.shape[-1])
        if landmarks is None:
            structure = torch.zeros_like(clean[:, :1])
            mask = torch.ones_like(structure)  # L_R and SSIM cover the whole picture
        else:
            part = (
                Landmarks(*(values[chosen] for values in landmarks))
                if isinstance(landmarks, Landmarks)
                else landmarks[chosen]
            )
            structure = structure_of(part, size).to(clean.dtype)
            mask = saat.semantic_mask(structure)
        if self.reads(images.device):
            check_values(clean, structure, 0.0, normalised=bool(self.pixels.mean))
        return Seen(clean, structure, mask)

    def _count(self, batch: int) -> int:
        """How many pictures to attack: over many calls, exactly `share` of them."""
        share = batch * (0.5 if self.schedule.share is None else self.schedule.share)
        count = math.floor(share * (self._calls + 1)) - math.floor(share * self._calls)
        # With several processes, each one takes part in every exchange.
        return max(count, 1) if world_size() > 1 else count

    def _keep(self, count: int, device: torch.device) -> Tensor | None:
        """0 for the chosen pictures that are shown in the appearance only; None for none."""
        if not self._is_told or self._calls % CONTROL_EVERY or count < 2:
            return None
        return (torch.arange(count, device=device) >= count // 2).float().view(-1, 1, 1, 1)

    def _remember(
        self,
        batch: int,
        chosen: Tensor,
        shown: Tensor | None = None,
        weights: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> None:
        """Record which pictures were changed, and their weights."""
        self._chosen, self._told, self._controls = chosen, None, None
        self.attacked = torch.zeros(batch, dtype=torch.bool, device=chosen.device)
        self.weights = torch.ones(batch, device=chosen.device)
        if shown is None or weights is None:
            return
        self.attacked[chosen] = shown
        self.weights[chosen] = torch.where(shown, weights, 1.0).to(self.weights.dtype)
        if keep is not None:
            self._controls = torch.zeros_like(self.attacked)
            self._controls[chosen] = shown & (keep.flatten() == 0)

    def _facts(self) -> Facts:
        """What `tell` was given for the pictures of the last call."""
        if self._told is None or self._chosen is None:
            return Facts(torch.full_like(self.reference.new_empty(1), torch.nan))
        return Facts(widen(self._told)[self._chosen], self._rises())

    def _rises(self) -> tuple[Tensor, Tensor] | None:
        """How much harder attacked pictures are than the others, and than the appearance only."""
        if self._told is None or self.attacked is None:
            return None
        errors, changed = widen(self._told), self.attacked
        nobody = torch.zeros_like(changed)
        controls = nobody if self._controls is None else self._controls
        attacked = _mean(errors, changed & ~controls)
        return attacked / _mean(errors, ~changed) - 1, attacked / _mean(errors, controls) - 1

    def guide(self, structure: Tensor) -> Tensor | None:
        """S for the attacker, if it is told."""
        return structure if self.structure is True else None

    def get_extra_state(self) -> dict[str, Any]:
        """What an exact resume needs besides weights and buffers."""
        return {**super().get_extra_state(), "told": self._is_told}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_extra_state`."""
        super().set_extra_state(state)
        self._is_told = state["told"]

    def __getstate__(self) -> dict[str, Any]:
        """Everything except what holds on to a graph of the caller's."""
        state = self.__dict__.copy()
        state.update(_pending=None, _told=None, _chosen=None, _controls=None)
        return state


def _mean(errors: Tensor, of: Tensor) -> Tensor:
    """Mean over some pictures; NaN over none."""
    return torch.where(of, errors, 0.0).sum() / of.sum()

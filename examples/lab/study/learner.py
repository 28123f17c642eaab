"""One run: a detector, what trains it, and a step that a GPU may replay."""

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from advaug.augment import HandcraftedAugmentation
from advaug.baselines import Defence
from advaug.detectors import HourglassNet
from advaug.errors import DatasetError
from advaug.schemes import FACE_68
from advaug.training import CapturedStep
from advaug.training.loading import InMemoryLandmarks, StepOrder
from lab.checkpoints import last_whole, read_states, seal
from lab.codecs import HeatmapCodec
from lab.study.arms import arm_of
from lab.study.average import averaged
from lab.study.own import ChangedAugmentation, HalfStill
from lab.study.settings import Run, Settings
from lab.study.trials import Step

__all__ = ["Learner"]

WARM_UP = 0.05  # of the steps, in which the learning rate rises
NOBODY = slice(0, 0)
STATES = "states.pt"


class Learner:
    """Train one detector step by step.

    Attributes:
        done: Steps behind it.
        detector: The detector.
        codec: Its targets and its landmarks.
        average: A running average of the detector, which is measured in its place; None for none.
    """

    def __init__(
        self, run: Run, steps: int, data: InMemoryLandmarks, settings: Settings, *, captured: bool
    ) -> None:
        self.run, self.steps, self.data, self.settings = run, steps, data, settings
        self.arm = arm_of(run.arm)
        self.done = 0
        torch.manual_seed(run.seed)  # all arms of a seed start from the same weights
        options: dict[str, Any] = {"depth": settings.depth, "out_stride": settings.out_stride}
        self.detector = self._place(HourglassNet(68, width=settings.width, **options)).train()
        self.codec = HeatmapCodec(settings.out_stride)
        make = self.arm.make
        self.adversary: Any = None if make is None else self._place(make(settings, run.seed))
        trial = self.arm.trial
        made = None if trial is None else trial(self.detector, len(data), run.seed)
        self.trial = None if made is None else self._place(made)
        self.augmentation = self._augmentation()
        decay = settings.averaging
        self.average = averaged(self.detector, decay) if decay else None
        self._rate = torch.zeros((), device=settings.device)  # a graph reads a tensor each time
        self.optimizer = self._optimizer()
        self._step = self._learn
        if captured and made is None and not isinstance(self.adversary, Defence):
            self._step = CapturedStep(self._learn, self.adversary, [self.optimizer])

    def step(self) -> Tensor:
        """Take the next step; gives its loss, on the device, without waiting for it."""
        settings = self.settings
        batch = self.data.batch(self.done, settings.batch_size, seed=self.run.seed)
        labels = (batch.landmarks, batch.visible)
        images, (landmarks, visible) = self.augmentation(batch.images, labels)
        if settings.device == "cuda":
            images = images.contiguous(memory_format=torch.channels_last)
        self._rate.fill_(learning_rate(self.done, self.steps, settings.learning_rate))
        loss = self._step(images, landmarks, visible)
        if self.average is not None:
            self.average.update_parameters(self.detector)
        self.done += 1
        return loss

    @property
    def measured(self) -> nn.Module:
        """What is measured: the average of the detector's weights, or the detector."""
        return self.detector if self.average is None else self.average

    @property
    def way(self) -> str:
        """How its steps run."""
        if not isinstance(self._step, CapturedStep):
            return "as they are"
        return "replayed" if self._step.reason is None else f"as they are: {self._step.reason}"

    def save(self, folder: Path) -> None:
        """Write all that an exact resume needs.

        Args:
            folder: Of the run's checkpoints.
        """
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"done": self.done, "steps": self.steps, "random": torch.get_rng_state()}
        partial = folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        torch.save(state, partial / STATES)
        seal(partial, folder, self.done)

    def load(self, folder: Path, tell: Callable[[str], None] = print) -> None:
        """Go on where `save` was called, if it was, for a run of as many steps.

        Args:
            folder: Of the run's checkpoints.
            tell: Gets a line about a damaged checkpoint, or one of another plan.

        Raises:
            DatasetError: If all checkpoints are damaged, or the last whole one lacks a state or
                would run code.
        """
        path = last_whole(folder, (STATES,), tell)
        if path is None:
            return
        state = read_states(path / STATES, self.settings.device)
        missing = {*self._parts(), "done", "steps", "random"} - set(state)
        if missing:
            msg = (
                f"`{path}` must hold every state of this run, but {', '.join(sorted(missing))} is "
                "missing. Remove it to go on from the one before."
            )
            raise DatasetError(msg)
        if state["steps"] != self.steps:
            tell(f"`{folder}` is of a run of {state['steps']} steps, not {self.steps}: begun again")
            shutil.rmtree(folder)
            return
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self._share_rate()
        torch.set_rng_state(state["random"].cpu())
        self.done = state["done"]

    def _learn(self, images: Tensor, landmarks: Tensor, visible: Tensor) -> Tensor:
        """From augmented pictures to the optimizer's step."""
        device, half = self.settings.device, self.settings.precision == "bf16"
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = self._loss(images, landmarks, visible)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.trial is not None:
            self.trial.learned(self.detector)
        return loss.detach()

    def _loss(self, images: Tensor, landmarks: Tensor, visible: Tensor) -> Tensor:
        if self.trial is not None:
            return self.trial.loss(self._trial_step(images, landmarks, visible))
        size, adversary = (images.shape[-2], images.shape[-1]), self.adversary
        heatmaps, visible_maps = self.codec.encode(landmarks, visible, size)
        beside = self._beside(len(images))
        own = slice(0, beside.start) if self.arm.attacked == "half" else slice(None)
        if adversary is not None and beside == NOBODY:
            images = self._augmented(images, landmarks, visible)
        output = self.detector(images[own])
        errors = self.codec.task.error(output, (heatmaps[own], visible_maps[own]))
        if adversary is None:
            return errors.mean()
        if self.arm.told:
            adversary.tell(errors)
        if beside == NOBODY:
            return errors.mean()
        target = (heatmaps[beside], visible_maps[beside])
        return errors.mean() + adversary(self.detector, images[beside], target)

    def _trial_step(self, images: Tensor, landmarks: Tensor, visible: Tensor) -> Step:
        order = StepOrder(self.settings.batch_size, len(self.data), self.run.seed)
        return Step(
            images,
            landmarks,
            visible,
            numbers=order.indices(self.done, images.device),
            progress=self.done / self.steps,
            detector=self.detector,
            adversary=self.adversary,
            codec=self.codec,
        )

    def _beside(self, count: int) -> slice:
        """The pictures that the adversary gets in a separate call."""
        parts = {"half": slice(count // 2, None), "all": slice(0, None)}
        return parts.get(self.arm.attacked, NOBODY)

    def _augmented(self, images: Tensor, landmarks: Tensor, visible: Tensor) -> Tensor:
        """The batch with its attacked pictures."""
        own = len(images) // 2 if self.arm.attacked == "rest" else 0
        theirs = self.adversary.augment(images[own:], (landmarks[own:], visible[own:]))
        return torch.cat([images[:own], theirs])

    def _parts(self) -> Mapping[str, Any]:
        parts = {
            "detector": self.detector,
            "optimizer": self.optimizer,
            "augmentation": self.augmentation,
            "adversary": self.adversary,
            "trial": self.trial,
            "average": self.average,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _augmentation(self) -> HandcraftedAugmentation:
        usual = {"flip_permutation": FACE_68.flip_permutation, "seed": self.run.seed}
        if self.arm.own is not None:
            first = self.arm.attacked == "rest"
            return ChangedAugmentation(self.arm.own, first_half=first, **usual)
        still = self.trial is not None and self.trial.moves
        return HalfStill(**usual) if still else HandcraftedAugmentation(**usual)

    def _optimizer(self) -> Optimizer:
        parameters, decay = self.detector.parameters(), self.settings.weight_decay
        if decay:
            return AdamW(parameters, lr=self._rate, weight_decay=decay, fused=True)
        return Adam(parameters, lr=self._rate, fused=True)

    def _share_rate(self) -> None:
        """Loading gives the optimizer its own learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate

    def _place(self, module: nn.Module) -> Any:  # noqa: ANN401 # what it gets
        module = module.to(self.settings.device)
        if self.settings.device == "cuda":
            module = module.to(memory_format=torch.channels_last)
        return module


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Rises in a line, then falls to zero in a cosine."""
    rising = max(1, round(WARM_UP * steps))
    if step < rising:
        return highest * (step + 1) / rising
    return highest * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

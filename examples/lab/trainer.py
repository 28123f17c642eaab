"""The training loop that the examples share, on Accelerate."""

import dataclasses
import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, StepLR
from torch.utils.tensorboard import SummaryWriter
from tqdm.auto import tqdm

from advaug.augment import HandcraftedAugmentation
from advaug.base.files import whole_file
from advaug.datasets.workers import survived
from advaug.report import StepReport
from advaug.step.batch_norm import BatchNorms
from advaug.training.loading import Batch, TrainingPictures
from lab.checkpoints import load_checkpoint, save_checkpoint
from lab.codecs import Codec

__all__ = ["Seen", "Trainer", "TrainingConfig", "write_json"]

PAPER_DECAY_STEPS = 25_000  # from the authors' release; the paper gives only the factor
Seen = Literal["batch", "augmented", "again", "original", "rest"]
_Lesson = tuple[Tensor, Any]
GO_ON = "Pass `resume=True` (`--resume`) to go on from the last checkpoint."
SYMBOLS = {"beta": "β", "ssim": "SSIM"}


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast a detector learns.

    Attributes:
        steps: Optimizer steps.
        batch_size: Pictures a batch and process. A step uses one batch, or as many as the
            accelerator accumulates.
        learning_rate: Of Adam, at the start.
        decay: The paper's schedule: all rates, the adversary's too, fall by this factor every
            25,000 steps. None for a cosine of the detector's to zero, which suits short runs.
        seed: Of the order of the pictures.
        checkpoint_every: Steps between two checkpoints.
        log_every: Steps between two points of the curves.
    """

    steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    decay: float | None = None
    seed: int = 0
    checkpoint_every: int = 500
    log_every: int = 20


class Trainer:
    """Train one detector, plainly or with an adversary, so that a stopped run goes on exactly.

    Args:
        detector: A module.
        codec: What it learns from and gives.
        data: The training pictures.
        config: How long and how fast.
        output: Folder for checkpoints, curves and weights.
        augmentation: Handcrafted augmentation of every batch.
        adversary: Anything called as `adversary(detector, images, target)` that gives a loss to
            add: a `SampleAdaptiveAdversary`, or one of `advaug.baselines`. None trains plainly.
        adversary_sees: The detector's own `"batch"`, by the `augment` of a
            `SampleAdaptiveAdversary`. Or, for its paper's call and for baselines, the `"augmented"`
            pictures that the detector learns from, the same ones augmented `"again"`, the
            `"original"` ones, for an adversary that makes its own copies of them, or the `"rest"`:
            then the detector learns plainly from the first half of each batch, and the second half
            is the adversary's. None for the batch where the adversary can, and else for the
            augmented pictures.
        accelerator: Decides device, precision, processes and accumulation.

    Attributes:
        progress: How far the run is, and the points of its curves.
        resumed_at: The step that the last `fit` began with.
    """

    def __init__(
        self,
        detector: nn.Module,
        codec: Codec,
        data: TrainingPictures,
        config: TrainingConfig,
        output: Path,
        *,
        augmentation: HandcraftedAugmentation | None = None,
        adversary: nn.Module | None = None,
        adversary_sees: Seen | None = None,
        accelerator: Accelerator,
    ) -> None:
        if adversary_sees is None:
            adversary_sees = "batch" if hasattr(adversary, "augment") else "augmented"
        if adversary_sees == "rest" and config.batch_size < 2:
            msg = (
                "`batch_size` must be at least 2 for a batch to be shared by detector and "
                f"adversary, but got {config.batch_size}. Raise it, or let the adversary see "
                "pictures augmented 'again'."
            )
            raise ValueError(msg)
        self.codec = codec
        self.data = data
        self.config = config
        self.output = Path(output)
        self.augmentation = augmentation
        self.accelerator = accelerator
        self.adversary = adversary if adversary is None else adversary.to(accelerator.device)
        self.adversary_sees = adversary_sees
        optimizer = Adam(detector.parameters(), lr=config.learning_rate)
        self.detector, self.optimizer = accelerator.prepare(detector, optimizer)
        self.schedulers = [_schedule(optimizer, config)]
        if adversary is not None and config.decay is not None:
            norms = getattr(adversary, "batch_norms", None)
            if isinstance(norms, BatchNorms):
                norms.prepare(self.detector)  # a second set's optimizer decays, too
            held = [value for module in adversary.modules() for value in vars(module).values()]
            theirs = [value for value in held if isinstance(value, Optimizer)]
            self.schedulers += [_schedule(each, config) for each in theirs]
        self.progress = _Progress()
        self.resumed_at = 0

    def fit(
        self, *, title: str = "training", resume: bool = False, until: int | None = None
    ) -> nn.Module:
        """Train to the end and return the detector, in evaluation mode.

        Args:
            title: What the progress bar says.
            resume: Go on from the last checkpoint in the output folder, if there is one.
            until: The step to stop after, with a checkpoint; another call goes on. None for the
                end.
        """
        if resume:
            self._load()
        self.detector.train()
        self.resumed_at = first = self.progress.step
        last = self.config.steps if until is None else until
        bar = tqdm(
            range(first, last),
            initial=first,
            total=last,
            desc=title,
            disable=not self.accelerator.is_main_process,
        )
        with self._open_logs(first) as logs:
            survived(lambda: self._take_steps(bar, last, logs), GO_ON)
        return self.accelerator.unwrap_model(self.detector).eval()

    def _take_steps(self, bar: Any, last: int, logs: Any) -> None:  # noqa: ANN401 # untyped
        """Learn, log and save, until the last step."""
        for step in bar:
            loss = self.step(step)
            self.progress.step = step + 1
            if self.progress.step % self.config.log_every == 0:
                self._log(loss, bar, logs)
            done = self.progress.step == last
            if done or self.progress.step % self.config.checkpoint_every == 0:
                self._save()

    def step(self, step: int) -> Tensor:
        """Take one optimizer step, with the pictures of that number.

        Returns:
            The loss, on the device. Nothing waits for it.
        """
        count = self.accelerator.gradient_accumulation_steps
        losses = [self._learn(step * count + part) for part in range(count)]
        for scheduler in self.schedulers:
            scheduler.step()
        return torch.stack(losses).mean()

    def _learn(self, number: int) -> Tensor:
        """Learn from one batch; the optimizer steps with the last one of a step."""
        batch = self.data.batch(
            number,
            self.config.batch_size,
            seed=self.config.seed,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        with self.accelerator.accumulate(self.detector):
            with self.accelerator.autocast():
                loss = self._loss_in_batch(batch) if self._in_batch else self._loss_beside(batch)
            self.accelerator.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss.detach()

    @property
    def _in_batch(self) -> bool:
        return self.adversary is not None and self.adversary_sees == "batch"

    def _loss_in_batch(self, batch: Batch) -> Tensor:
        """The detector's own loss, over a batch of which a part is attacked."""
        adversary: Any = self.adversary
        batch = self._changed(batch)
        images = adversary.augment(batch.images, (batch.landmarks, batch.visible))
        errors = self.codec.task.error(self.detector(images), self._encoded(batch))
        adversary.tell(errors)
        return errors.mean()

    def _loss_beside(self, batch: Batch) -> Tensor:
        """The detector's own loss, and that of the adversary's call."""
        (images, target), theirs = self._share_out(batch)
        loss = self.codec.task.error(self.detector(images), target).mean()
        if self.adversary is not None:
            loss = loss + self.adversary(self.detector, *theirs)
        return loss

    def _share_out(self, batch: Batch) -> tuple[_Lesson, _Lesson]:
        """Pictures and target for the detector, and those for the adversary."""
        if self.adversary is not None and self.adversary_sees == "rest":
            half = len(batch.images) // 2
            return self._augmented(batch[:half]), self._augmented(batch[half:])
        own = self._augmented(batch)
        if self.adversary is None or self.adversary_sees == "augmented":
            return own, own
        if self.adversary_sees == "original":
            return own, (batch.images, self._encoded(batch))
        return own, self._augmented(batch)

    def _augmented(self, batch: Batch) -> _Lesson:
        """Pictures and target to learn from."""
        batch = self._changed(batch)
        return batch.images, self._encoded(batch)

    def _changed(self, batch: Batch) -> Batch:
        """The batch after the handcrafted augmentation."""
        if self.augmentation is None:
            return batch
        images, labels = self.augmentation(batch.images, (batch.landmarks, batch.visible))
        return Batch(images, *labels)

    def _encoded(self, batch: Batch) -> Any:  # noqa: ANN401 # the task's
        return self.codec.encode(batch.landmarks, batch.visible, batch.size)

    def _open_logs(self, first: int) -> AbstractContextManager[SummaryWriter | None]:
        """TensorBoard logs, in the first process only."""
        if not self.accelerator.is_main_process:
            return nullcontext()
        # A stopped run may have logged points after the checkpoint: they are no longer true.
        return SummaryWriter(str(self.output / "tensorboard"), purge_step=first + 1)

    def _log(self, loss: Tensor, bar: "tqdm[int]", logs: SummaryWriter | None) -> None:
        """Add a point to the curves and to the progress bar; waits for the device."""
        point = {"step": self.progress.step, "loss": loss.item()}
        report = getattr(self.adversary, "report", None)
        if isinstance(report, StepReport):
            # What a step does not know is not a number, and has no place in json.
            known = report.read().items()
            point |= {name: value for name, value in known if not math.isnan(value)}
        self.progress.history.append(point)
        shown = {name: f"{point[name]:.3g}" for name in ("loss", "beta", "ssim") if name in point}
        bar.set_postfix({SYMBOLS.get(name, name): value for name, value in shown.items()})
        if logs is not None:
            for name, value in point.items():
                if name != "step":
                    logs.add_scalar(name, value, self.progress.step)

    def _save(self) -> None:
        """Write a checkpoint and the curves."""
        save_checkpoint(
            self.accelerator, self.output / "checkpoints", self.progress.step, self._parts()
        )
        if self.accelerator.is_main_process:
            write_json(self.output / "curves.json", self.progress.history)

    def _load(self) -> None:
        load_checkpoint(self.accelerator, self.output / "checkpoints", self._parts())

    def _parts(self) -> list[Any]:
        """Everything that has a state and is not the engine's."""
        parts = (self.progress, *self.schedulers, self.augmentation, self.adversary)
        return [part for part in parts if part is not None]


@dataclass
class _Progress:
    """How far a run is, and the points of its curves."""

    step: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "history": [dict(point) for point in self.history]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]
        self.history = list(state["history"])


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401 # anything json can hold
    """Write a file that has its name only when it is whole."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def _schedule(optimizer: Optimizer, config: TrainingConfig) -> LRScheduler:
    if config.decay is None:
        return CosineAnnealingLR(optimizer, config.steps)
    return StepLR(optimizer, PAPER_DECAY_STEPS, config.decay)

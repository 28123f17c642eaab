"""Runs that are trained once, whichever tables ask for them, and go on after a stop."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from advaug.augment import HandcraftedAugmentation
from advaug.detectors import MDM, HourglassNet
from advaug.evaluation.evaluate import CONDITIONS, predict
from advaug.evaluation.metrics import landmark_errors, mean_errors
from advaug.training.loading import Batch, InMemoryLandmarks, TrainingPictures
from advaug.training.streaming import hold_or_stream
from lab.reproduce.networks import (
    CoveredAugmentation,
    codec_of,
    load_detector,
    make_adversary,
    make_detector,
)
from lab.reproduce.rows import Ours
from lab.reproduce.settings import Settings, digest_of
from lab.reproduce.sources import Source, TestSet, TrainingSet, occluded_of
from lab.trainer import Trainer, TrainingConfig, write_json

__all__ = ["Bench", "Run"]

WEIGHTS = "detector.safetensors"
OBSERVED_ON = "cofw68"  # Table 9
TOGETHER = 64  # pictures that are measured


@dataclass(frozen=True)
class Run:
    """One detector, trained in one way on one training set from one seed."""

    ours: Ours
    train: TrainingSet
    seed: int

    @property
    def name(self) -> str:
        """What it is called, apart from its seed."""
        parts = [self.ours.detector, self.ours.way, self.train.name]
        parts += ["covered"] * self.ours.covered + ["watched"] * self.ours.watched
        return "-".join(parts)


class Bench:
    """Where runs are trained and measured, each once.

    Args:
        settings: How.
        source: On what.
        tell: Told what begins.
    """

    def __init__(
        self, settings: Settings, source: Source, tell: Callable[[str], None] = lambda text: None
    ) -> None:
        self.settings, self.source, self.tell = settings, source, tell
        # One training set is in use at a time, and some test sets are in use by all runs.
        self._training = lru_cache(1)(self._read_training)
        self._test = lru_cache(3)(self._read_test)

    def runs_of(self, ours: Ours) -> list[Run]:
        """The run of each seed; the given weights are a single one."""
        run = Run(ours, self.source.trains[ours.train], 0)
        count = 1 if run.name in self.settings.weights else self.settings.seeds
        return [Run(ours, run.train, seed) for seed in range(count)]

    def errors(self, run: Run, test: str) -> dict[str, Tensor]:
        """Errors of a run on a test set, by subset: `(B,)` each, fractions."""
        self._keep_errors(run, test)
        return self._by_subset(json.loads(self._errors(run, test).read_text()), test)

    def errors_apart(self, run: Run, test: str) -> dict[str, dict[str, Tensor]]:
        """The same over "visible" and over "occluded" landmarks, if the set knows which are."""
        if self._test(test)[2] is None:
            return {}
        self._keep_errors(run, test)
        kept = json.loads(self._errors(run, test, "_apart").read_text())
        return {name: self._by_subset(values, test) for name, values in kept.items()}

    def observations(self, run: Run) -> list[dict[str, Tensor]]:
        """The same at each observation of a watched run, on the set of Table 9."""
        self.detector(run)
        found = [self._observation(run, step) for step in self._observed()]
        return [self._by_subset(json.loads(path.read_text()), OBSERVED_ON) for path in found]

    def detector(self, run: Run) -> MDM | HourglassNet:
        """The trained detector, in evaluation mode; trains what is missing of it."""
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        given = self.settings.weights.get(run.name)
        path = folder / WEIGHTS if given is None else given
        if given is None and not path.exists():
            write_json(folder / "settings.json", self._identity(run))
            self._train(run, folder).save(path)
        if given is None:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        detector = load_detector(run.ours.detector, path, run.train.scheme.num_landmarks)
        return detector.to(self.settings.device).eval()

    def is_done(self, run: Run) -> bool:
        """Whether its weights are there."""
        return run.name in self.settings.weights or (self.folder(run) / WEIGHTS).exists()

    def test_pictures(self, test: str) -> InMemoryLandmarks:
        """The pictures of a test set, as they are without its condition."""
        return self._test(test)[0]

    def places(self, test: str, subset: str) -> Sequence[int]:
        """Which of them belong to a subset."""
        return self._test(test)[1][subset]

    def landmarks(self, run: Run, test: str, places: Sequence[int]) -> tuple[Batch, Tensor]:
        """Some pictures of a clean test set, and the landmarks that a run finds in them."""
        batch = self.test_pictures(test)[torch.as_tensor(places)]
        detector = self.detector(run)
        decode = codec_of(detector, run.train.scheme).decode
        return batch, predict(detector, decode, batch.images)

    def folder(self, run: Run) -> Path:
        """Where a run is kept, by all that it depends on."""
        digest = digest_of(json.dumps(self._identity(run), sort_keys=True, default=str))
        return self.settings.output / "runs" / f"{run.name}-seed{run.seed}-{digest}"

    def _identity(self, run: Run) -> dict[str, object]:
        given = self.settings.weights.get(run.name)
        contents = None if given is None else digest_of(given.read_bytes())
        return self.settings.identity() | {
            "run": run.name,
            "seed": run.seed,
            "weights": contents,
        }

    def _train(self, run: Run, folder: Path) -> MDM | HourglassNet:
        """Train from the last checkpoint on, if there is one."""
        self.tell(f"{run.name}, seed {run.seed}")
        trainer = self._trainer(run, folder)
        stops = self._observed() if run.ours.watched else [trainer.config.steps]
        detector: Any = trainer.fit(title=run.name, resume=True, until=stops[0])
        for stop in stops:
            if trainer.progress.step < stop:
                detector = trainer.fit(title=run.name, until=stop)
            if run.ours.watched and not self._observation(run, stop).exists():
                self._observe(run, stop, detector, trainer.progress.step)
        return detector

    def _observe(self, run: Run, stop: int, detector: MDM | HourglassNet, step: int) -> None:
        """Measure a run in training and keep the errors."""
        path = self._observation(run, stop)
        if step != stop:
            msg = (
                f"{path} must be there, since its run has gone on to step {step}, but is missing. "
                f"Delete {path.parents[1]} to train that run again."
            )
            raise ValueError(msg)
        path.parent.mkdir(exist_ok=True)
        errors = self._landmark_errors(detector, self.source.tests[OBSERVED_ON])
        write_json(path, errors.nanmean(dim=1).tolist())

    def _trainer(self, run: Run, folder: Path) -> Trainer:
        budget, ours = self.settings.budget, run.ours
        data = self._training(run.train)
        set_seed(run.seed)  # all ways of a seed start from the same weights
        detector = make_detector(ours.detector, data.mean_shape().cpu(), budget)
        codec = codec_of(detector, run.train.scheme)
        adversary = make_adversary(ours.way, codec.task, budget, run.seed)
        config = TrainingConfig(
            steps=budget.observe_until if ours.watched else budget.steps,
            batch_size=budget.batch_size,
            learning_rate=budget.learning_rate,
            # What is observed must not have come to rest, as it has by a cosine.
            decay=1.0 if ours.watched and budget.decay is None else budget.decay,
            seed=run.seed,
            checkpoint_every=budget.checkpoint_every,
        )
        augmentation = CoveredAugmentation if ours.covered else HandcraftedAugmentation
        return Trainer(
            detector,
            codec,
            data,
            config,
            folder,
            augmentation=augmentation(
                flip_permutation=run.train.scheme.flip_permutation, seed=run.seed
            ),
            adversary=adversary,
            adversary_sees="batch" if ours.way == "augment" else "augmented",
            accelerator=Accelerator(cpu=self.settings.device == "cpu"),
        )

    def _observed(self) -> list[int]:
        budget = self.settings.budget
        return list(range(budget.converged, budget.observe_until + 1, budget.observe_every))

    def _observation(self, run: Run, step: int) -> Path:
        return self.folder(run) / "observations" / f"step_{step:08d}.json"

    def _keep_errors(self, run: Run, test: str) -> None:
        """Measure a run on a test set once, and keep all that is asked of it."""
        occluded = self._test(test)[2]
        whole, apart = self._errors(run, test), self._errors(run, test, "_apart")
        if whole.exists() and (occluded is None or apart.exists()):
            return
        errors = self._landmark_errors(self.detector(run), self.source.tests[test])
        if occluded is not None:
            parts = {"visible": ~occluded, "occluded": occluded}
            means = {name: mean_errors(errors, chosen) for name, chosen in parts.items()}
            write_json(apart, {name: each.tolist() for name, each in means.items()})
        write_json(whole, errors.nanmean(dim=1).tolist())

    def _errors(self, run: Run, test: str, part: str = "") -> Path:
        return self.folder(run) / f"errors_{test}{part}.json"

    def _landmark_errors(self, detector: MDM | HourglassNet, test: TestSet) -> Tensor:
        """Of each landmark, `(B, N)`, by the distance of the outer corners of the eyes."""
        pictures = self.test_pictures(test.name)
        decode, condition = codec_of(detector, test.scheme).decode, CONDITIONS[test.condition]
        found = []
        for numbers in torch.arange(len(pictures)).split(TOGETHER):
            batch = pictures[numbers]
            changed = condition(batch.images, batch.landmarks, numbers)
            preds = predict(detector, decode, changed)
            truth, visible = batch.landmarks, batch.visible
            found.append(
                landmark_errors(preds, truth, normalizer="inter_ocular", visible=visible).cpu()
            )
        return torch.cat(found)

    def _by_subset(self, errors: Sequence[float], test: str) -> dict[str, Tensor]:
        values = torch.tensor(errors, dtype=torch.float64)
        return {
            name: values[torch.as_tensor(list(places))]
            for name, places in self._test(test)[1].items()
        }

    def _read_training(self, train: TrainingSet) -> TrainingPictures:
        settings = self.settings
        return hold_or_stream(
            train.open(),
            settings.budget.image_size,
            settings.device,
            workers=settings.workers,
            title=train.label,
        )

    def _read_test(
        self, test: str
    ) -> tuple[InMemoryLandmarks, dict[str, list[int]], Tensor | None]:
        known = self.source.tests[test]
        opened = known.open()
        pictures = InMemoryLandmarks(
            opened.dataset, self.settings.device, workers=self.settings.workers, title=known.label
        )
        subsets = {name: list(places) for name, places in opened.subsets.items()}
        return pictures, subsets, occluded_of(opened.dataset)

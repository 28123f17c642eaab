"""The runs of a study: every arm and seed, shared by any number of processes."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from advaug.adversary import SampleAdaptiveAdversary
from advaug.augment import HandcraftedAugmentation
from advaug.base.files import whole_file
from advaug.baselines import Defence
from advaug.evaluation.corruptions import CorruptionErrors
from advaug.evaluation.evaluate import predict_under
from advaug.report import StepReport
from advaug.schemes import FACE_68
from advaug.training.loading import InMemoryLandmarks
from lab.codecs import Codec
from lab.experiment import MakeDetector
from lab.problem import Problem
from lab.study.arms import Arm, Over, Together
from lab.study.benchmark import (
    corruption_conditions,
    hold_conditions,
    to_bytes,
    write_pictures,
)
from lab.study.cost import Costs, measure_costs, read_costs
from lab.study.own import CHANGES, ChangedAugmentation
from lab.study.results import read_result
from lab.study.settings import StudySettings, claim_folder
from lab.trainer import Trainer, TrainingConfig, write_json

__all__ = ["SHOWN", "Run", "Study"]

SHOWN = 6  # training faces whose pictures are kept
POINTS = 100  # of a curve
HEAD_START_SEED = 10_000  # added to a run's
CHECKPOINTS, FARTHEST = 3, 500  # in a run, and steps between two


@dataclass(frozen=True)
class Run:
    """One detector to be trained.

    Attributes:
        arm: Its name.
        steps: Optimizer steps.
        seed: Of everything random.
    """

    arm: str
    steps: int
    seed: int

    @property
    def folder(self) -> Path:
        """Where it lives, in the folder of the study."""
        return Path("runs") / self.arm / f"{self.steps}_steps" / f"seed_{self.seed}"


class Study:
    """Train every arm under every seed, on pictures that are read once.

    Runs are independent: each starts from its seed, whatever was done before. Any number of
    processes may work on one folder; each takes runs that nobody has, and what a killed process
    leaves behind, the next one finishes.

    Args:
        settings: What all runs share.
        arms: By name.
        control: Name of the plain arm, which costs 1.
        read: Gives what is to be learnt.
        make_detector: Builds a detector with fresh weights from the global random state.
        codec: What it learns from and gives.
        output: Folder of the study.
        device: "auto", "cpu" or "cuda".
        workers: Processes that read pictures.
        say: Tells the user how it goes.

    Raises:
        ValueError: If an arm cannot be built or does not fit the detector and the pictures' size,
            or the folder is another study's; nothing has changed then.
    """

    def __init__(
        self,
        settings: StudySettings,
        arms: Mapping[str, Arm],
        *,
        control: str,
        read: Callable[[], Problem],
        make_detector: MakeDetector,
        codec: Codec,
        output: Path,
        device: str = "auto",
        workers: int = 2,
        say: Callable[[str], None] = print,
    ) -> None:
        self.settings = settings
        self.arms = dict(arms)
        self.control = control
        self.read = read
        self.make_detector = make_detector
        self.codec = codec
        self.output = output
        self.device = device
        self.workers = workers
        self.say = say
        self._rehearse()
        claim_folder(output, settings, self.arms)

    @cached_property
    def problem(self) -> Problem:
        """What is to be learnt."""
        return self.read()

    @cached_property
    def train_pictures(self) -> InMemoryLandmarks:
        """In the device's memory."""
        return self._hold(self.problem.train, "training pictures")

    @cached_property
    def test_pictures(self) -> InMemoryLandmarks:
        """In the device's memory."""
        return self._hold(self.problem.test, "test pictures")

    def costs(self, *, timed: bool, factor: float | None = None) -> Costs:
        """The price list of the arms; see `measure_costs`."""
        return measure_costs(
            self.output,
            self.arms,
            self.arms[self.control],
            lambda arm, augmented: self._trainer(arm, Run("", 10**6, 0), augmented=augmented),
            timed=timed,
            factor=factor,
        )

    def run(self, runs: Sequence[Run]) -> list[Run]:
        """Train all that nobody has trained or is training.

        A run that raises is told of and left; the others go on.

        Args:
            runs: In this order.

        Returns:
            Those that have no result now: they have failed, or another process is at them.
        """
        for run in runs:
            with self._claim(run) as ours:
                if ours:
                    self._try(run)
        return [run for run in runs if read_result(self.output / run.folder) is None]

    @contextmanager
    def _claim(self, run: Run) -> Iterator[bool]:
        """Whether a run is ours to train now; the lock of a process that dies is free again."""
        folder = self.output / run.folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / ".lock", blocking=False):
                yield read_result(folder) is None
        except Timeout:
            self.say(f"{run.arm}, seed {run.seed}, {run.steps} steps: another process is at it")
            yield False

    def _try(self, run: Run) -> None:
        broken = self.output / run.folder / "result.json"
        if broken.exists():
            self.say(f"{broken} is not whole: the run is done again")
        try:
            self._train(run)
        except (ArithmeticError, RuntimeError, ValueError) as error:
            kind = type(error).__name__
            self.say(f"{run.arm}, seed {run.seed}, {run.steps} steps: failed ({kind}: {error})")

    def _train(self, run: Run) -> None:
        folder = self.output / run.folder
        arm = self.arms[run.arm]
        weights = self._head_start(run.seed)  # first: it draws from the global random state
        trainer = self._trainer(arm, run)
        if weights is not None:
            trainer.detector.load_state_dict(weights)
        title = f"{run.arm} {run.seed}"
        began, worked = time.perf_counter(), time.process_time()
        detector = trainer.fit(title=title, resume=True)
        wall, processor = time.perf_counter() - began, time.process_time() - worked
        taken = run.steps - trainer.resumed_at
        found = self._measure(detector)
        write_pictures(folder / "pictures.npy", to_bytes(self._pictures(trainer, arm)))
        result = {
            "arm": run.arm,
            "seed": run.seed,
            "steps": run.steps,
            "nme": found,
            **_state(trainer),
            "curves": trainer.progress.history,
            "description": arm.description(),
            "settings": self.settings.description(),
            "commit": _commit(),
            "versions": {name: version(name) for name in ("advaug", "torch", "kornia", "timm")},
            "seconds": {
                "device": _device_name(trainer.accelerator.device),
                "threads": torch.get_num_threads(),
                "steps_timed": taken,  # since the last stop
                "wall_per_step": wall / taken if taken else None,
                "processor_per_step": processor / taken if taken else None,
                "measured": read_costs(self.output).arms.get(run.arm),
            },
        }
        write_json(folder / "result.json", result)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # the result stands for them
        shown = ", ".join(f"{name} {100 * found[name]:.2f}" for name in ("clean", "corrupted"))
        self.say(f"{run.arm}, seed {run.seed}, {run.steps} steps: NME % {shown}")

    def _head_start(self, seed: int) -> Mapping[str, Tensor] | None:
        """Weights that plain training has given the detectors of a seed; trained once."""
        if not self.settings.head_start:
            return None
        # Its own seed: no run is to see the same pictures in the same order once more.
        run = Run(self.control, self.settings.head_start, HEAD_START_SEED + seed)
        folder = self.output / "head_start" / f"seed_{seed}"
        path = folder / "detector.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):  # others wait: they need it as well
            if not path.exists():
                trainer = self._trainer(self.arms[self.control], run, output=folder)
                detector = trainer.fit(title=f"head start {seed}", resume=True)
                with whole_file(path) as temporary:
                    save_file(detector.state_dict(), temporary)
                shutil.rmtree(folder / "checkpoints")
        return load_file(path)

    def _measure(self, detector: nn.Module) -> dict[str, Any]:
        """NME as fractions: under every condition, and over the benchmark."""
        batch = self.test_pictures[slice(None)]
        found = predict_under(
            detector,
            self.codec.decode,
            batch.images,
            batch.landmarks,
            conditions={**self.problem.conditions, **self._changed},
        )
        errors = {name: self.problem.measure(preds, batch) for name, preds in found.items()}
        kinds: dict[str, dict[int, Any]] = {}
        for kind, severity in self._corruptions:
            kinds.setdefault(kind, {})[severity] = errors[f"{kind}/{severity}"]
        plain = {name: errors[name] for name in self.problem.conditions}
        summary = CorruptionErrors(plain, kinds).summary()

        def mean(values: Tensor) -> float:
            return values.nanmean().item()

        return {
            **{name: mean(each.values) for name, each in plain.items()},
            **summary,
            "kinds": {
                kind: {str(severity): mean(each.values) for severity, each in row.items()}
                for kind, row in kinds.items()
            },
        }

    @cached_property
    def _corruptions(self) -> dict[tuple[str, int], Any]:
        faces = self.problem.scheme.num_landmarks == 68
        return corruption_conditions(self.settings.severities, faces=faces)

    @cached_property
    def _changed(self) -> dict[str, Any]:
        """All conditions but the clean one, applied once for all runs."""
        named = {
            f"{kind}/{severity}": apply for (kind, severity), apply in self._corruptions.items()
        }
        others = {name: each for name, each in self.problem.conditions.items() if name != "clean"}
        return hold_conditions({**others, **named}, self.test_pictures, self.output / "pictures")

    def _pictures(self, trainer: Trainer, arm: Arm) -> Tensor:
        """What the arm makes of the same few training faces, `(SHOWN, 3, H, W)` in `[0, 1]`."""
        places = torch.linspace(0, len(self.train_pictures) - 1, SHOWN).long()
        batch = self.train_pictures[places.to(self.train_pictures.images.device)]
        target = self.codec.encode(batch.landmarks, batch.visible, batch.size)
        images, defence = batch.images, _leading(trainer)
        if isinstance(trainer.adversary, Over):
            images, target = trainer.adversary.change(images, target)
        if isinstance(defence, SampleAdaptiveAdversary):
            return defence.attack(trainer.detector, images, target, update=False).images
        if isinstance(defence, Defence):
            return defence.pictures(trainer.detector, images, target)
        return images if arm.own is None else CHANGES[arm.own]()(images)

    def _trainer(
        self, arm: Arm, run: Run, *, augmented: bool = True, output: Path | None = None
    ) -> Trainer:
        """A trainer; all arms of a seed start from the same weights and see the same pictures."""
        data, settings = self.train_pictures, self.settings
        engine = self._engine()
        set_seed(run.seed)
        detector = self.make_detector(data.mean_shape().cpu())
        config = TrainingConfig(
            steps=run.steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            seed=run.seed,
            checkpoint_every=min(FARTHEST, max(1, run.steps // CHECKPOINTS)),
            log_every=max(1, run.steps // POINTS),
        )
        usual = {"flip_permutation": self.problem.scheme.flip_permutation, "seed": run.seed}
        augmentation = (
            HandcraftedAugmentation(**usual)
            if arm.own is None
            else ChangedAugmentation(arm.own, **usual)
        )
        return Trainer(
            detector,
            self.codec,
            data,
            config,
            output or self.output / run.folder,
            augmentation=augmentation if augmented else None,
            adversary=self._defence(run.arm, arm, seed=run.seed),
            adversary_sees=arm.sees,
            accelerator=engine,
        )

    def _rehearse(self) -> None:
        """Try every arm on noise, before any file is read or written."""
        size = (self.settings.image_size, self.settings.image_size)
        landmarks = torch.rand(2, FACE_68.num_landmarks, 2) * (size[0] - 1)
        images = torch.rand(2, 3, *size)
        target = self.codec.encode(landmarks, torch.ones(landmarks.shape[:2]) > 0, size)
        detector = self.make_detector(landmarks[0])
        self.codec.decode(detector(images), size)
        for name, arm in self.arms.items():
            defence = self._defence(name, arm, seed=0)
            if defence is not None:
                defence(detector, images, target)

    def _defence(self, name: str, arm: Arm, *, seed: int) -> nn.Module | None:
        try:
            return arm.make(self.codec.task, seed, **arm.options)
        except (TypeError, ValueError) as error:
            msg = f"the options of arm {name!r} must be those of its method, but: {error}"
            raise ValueError(msg) from error

    def _hold(self, dataset: Any, title: str) -> InMemoryLandmarks:  # noqa: ANN401 # of landmarks
        device = self._engine().device
        return InMemoryLandmarks(dataset, device, workers=self.workers, title=title)

    def _engine(self) -> Accelerator:
        if self.device == "cuda" and not torch.cuda.is_available():
            msg = "`--device cuda` needs a CUDA device, but PyTorch finds none. Use `--device cpu`."
            raise ValueError(msg)
        return Accelerator(cpu=self.device == "cpu", mixed_precision=self.settings.precision)


def _leading(trainer: Trainer) -> nn.Module | None:
    """The defence whose report and pictures are shown."""
    defence = trainer.adversary
    return defence.leading if isinstance(defence, Over | Together) else defence


def _state(trainer: Trainer) -> dict[str, Any]:
    """What the last step of an adversary did, and how healthy its run was."""
    defence = _leading(trainer)
    report = getattr(defence, "report", None)
    health = defence.health() if isinstance(defence, SampleAdaptiveAdversary) else None
    return {
        "report": report.read() if isinstance(report, StepReport) else None,
        "means": None if health is None else health.means,
        "health": None if health is None else str(health),
    }


def _commit() -> str | None:
    """Of the code that runs, marked where it was changed; None outside a repository."""
    words = ("git", "describe", "--always", "--abbrev=40", "--dirty")
    try:
        done = subprocess.run(
            words, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

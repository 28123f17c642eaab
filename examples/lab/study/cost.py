"""What a step of each arm costs in plain steps, and how many steps equal time allows."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from filelock import FileLock

from lab.study.arms import Arm
from lab.trainer import Trainer, write_json

__all__ = ["Costs", "measure_costs", "read_costs"]

WARM_UP, ROUNDS = 2, 8  # steps
MakeTrainer = Callable[[Arm | None], Trainer]


@dataclass
class Costs:
    """The price list of a study, kept in its folder, so that every process goes by the same one.

    Attributes:
        arms: By name, "ratio": cost of a step in plain steps, and "seconds": of a step.
        pictures_per_second: Of plain training, with and without the handcrafted augmentation.
        factor: What a run at equal time may cost, in plain runs of the study's steps; None until a
            run at equal time is asked for.
    """

    arms: dict[str, dict[str, float]] = field(default_factory=dict)
    pictures_per_second: dict[str, float] = field(default_factory=dict)
    factor: float | None = None

    def steps(self, arm: str, steps: int) -> int:
        """Steps of an arm at equal time.

        Args:
            arm: Its name.
            steps: Of a plain run that costs 1.
        """
        assert self.factor is not None
        return max(1, round(steps * self.factor / self.arms[arm]["ratio"]))


def read_costs(output: Path) -> Costs:
    """The price list of a folder, empty if it has none."""
    path = output / "costs.json"
    return Costs(**json.loads(path.read_text())) if path.exists() else Costs()


def measure_costs(
    output: Path,
    arms: dict[str, Arm],
    plain: Arm,
    make_trainer: Callable[[Arm, bool], Trainer],
    *,
    timed: bool,
    factor: float | None,
) -> Costs:
    """Measure the arms that the folder's price list lacks, and fix the budget in time.

    Steps of the arm and plain ones take turns, and the median of their ratios counts, so that
    whatever else the machine does hits both alike.

    Args:
        output: Folder of the study.
        arms: To be measured.
        plain: The arm that costs 1.
        make_trainer: From an arm, and whether pictures are augmented by hand, to its trainer.
        timed: Whether runs at equal time are asked for.
        factor: What they may cost, in plain runs; None for what the dearest of the arms costs, or
            for what the folder has.

    Raises:
        ValueError: If the folder has another factor.
    """
    with FileLock(output / ".costs.lock"):
        costs = read_costs(output)
        if factor is not None and costs.factor not in (None, factor):
            msg = (
                f"`--time-factor` must be that of the folder, {costs.factor:g}, since its runs at "
                f"equal time have gone by it, but got {factor:g}. Leave it out, or use another "
                "`--output`."
            )
            raise ValueError(msg)
        missing = [name for name in arms if name not in costs.arms]
        if missing:
            reference = make_trainer(plain, True)
            if not costs.pictures_per_second:
                bare = _compare(reference, make_trainer(plain, False))
                size = reference.config.batch_size
                costs.pictures_per_second = {
                    "augmented": size / bare.plain,
                    "not augmented": size / bare.seconds,
                }
            for name in missing:
                measured = _compare(reference, make_trainer(arms[name], True))
                ratio = 1.0 if arms[name] is plain else measured.ratio
                costs.arms[name] = {"ratio": ratio, "seconds": measured.seconds}
        if timed and costs.factor is None:
            costs.factor = factor or max(costs.arms[name]["ratio"] for name in arms)
        write_json(output / "costs.json", asdict(costs))
    return costs


@dataclass(frozen=True)
class _Measured:
    """Median seconds of a step of either, and the median of their ratios."""

    plain: float
    seconds: float
    ratio: float


def _compare(plain: Trainer, other: Trainer) -> _Measured:
    pairs = [(_time(plain, step), _time(other, step)) for step in range(WARM_UP + ROUNDS)]
    first, second = zip(*pairs[WARM_UP:], strict=True)
    ratios = [theirs / ours for ours, theirs in pairs[WARM_UP:]]
    return _Measured(statistics.median(first), statistics.median(second), statistics.median(ratios))


def _time(trainer: Trainer, step: int) -> float:
    """Seconds of one step; the processor's own where one thread does all the work."""
    device = trainer.accelerator.device
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    start = clock()
    trainer.step(step)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start

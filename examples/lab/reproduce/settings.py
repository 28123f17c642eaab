"""How long everything runs, and what a start of `reproduce.py` asks for."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from advaug.base.checks import check_at_least_one

__all__ = ["BUDGETS", "DETECTORS", "Budget", "Settings", "digest_of"]

DETECTORS = ("mdm", "hg1", "hg2")


@dataclass(frozen=True)
class Budget:
    """The length of the runs and the size of the networks.

    Attributes:
        image_size: Side of the pictures, in pixels.
        batch_size: Pictures a step.
        steps: Of each run.
        limit: At most how many pictures of the basic training set, and half as many of each test
            set; None for all.
        seeds: How many runs of each kind.
        learning_rate: Of a detector.
        adversary_rate: Of attacker and discriminator.
        decay: The paper's, every 25,000 steps; None for a cosine to zero.
        hourglass: Options of `HourglassNet`.
        mdm: Options of `MDM`.
        attacker_width: Of attacker and discriminator; None for each way's own.
        converged: Steps before the first observation of Table 9.
        observe_every: Steps between two observations.
        observe_until: Steps of a run that is observed.
        checkpoint_every: Steps between two checkpoints.
        timings: How often a speed is measured.
    """

    image_size: int
    batch_size: int
    steps: int
    limit: int | None
    seeds: int
    learning_rate: float
    adversary_rate: float
    decay: float | None
    hourglass: Mapping[str, Any]
    mdm: Mapping[str, Any]
    attacker_width: int | None
    converged: int
    observe_every: int
    observe_until: int
    checkpoint_every: int
    timings: int

    def with_steps(self, steps: int) -> "Budget":
        """The same with runs of another length, observed in the last fifth of theirs."""
        until = steps + max(1, steps // 5)
        every = max(1, (until - steps) // 4)
        return replace(self, steps=steps, converged=steps, observe_every=every, observe_until=until)


BUDGETS: Mapping[str, Budget] = {
    "smoke": Budget(
        image_size=32,
        batch_size=4,
        steps=16,
        limit=32,
        seeds=2,
        learning_rate=1e-3,
        adversary_rate=3e-4,
        decay=None,
        hourglass={"width": 8, "depth": 1, "out_stride": 4},
        mdm={"hidden": 8, "patch_size": 10, "reduce": 4},
        attacker_width=8,
        converged=16,
        observe_every=4,
        observe_until=24,
        checkpoint_every=8,
        timings=2,
    ),
    "small": Budget(
        image_size=64,
        batch_size=8,
        steps=1500,
        limit=None,
        seeds=3,
        learning_rate=1e-3,
        adversary_rate=3e-4,
        decay=None,
        hourglass={"width": 64, "depth": 3, "out_stride": 2},
        mdm={"hidden": 64, "patch_size": 12},
        attacker_width=16,
        converged=1500,
        observe_every=75,
        observe_until=1800,
        checkpoint_every=300,
        timings=10,
    ),
    "paper": Budget(
        image_size=256,
        batch_size=8,
        steps=200_000,
        limit=None,
        seeds=3,
        learning_rate=2e-4,
        adversary_rate=1e-4,
        decay=0.97,
        hourglass={},
        mdm={},
        attacker_width=None,
        converged=250_000,
        observe_every=3000,
        observe_until=300_000,
        checkpoint_every=2000,
        timings=30,
    ),
}


@dataclass(frozen=True)
class Settings:
    """What is asked for.

    Attributes:
        data: One of `SOURCES`.
        root: Folder of the pictures, or None.
        budget: The length of everything.
        output: Folder of runs and tables.
        device: "cpu" or "cuda".
        seeds: How many runs of each kind, numbered from 0.
        detectors: Which detectors are trained and shown.
        weights: Files used instead of training, by the name of a run.
        workers: Processes that read pictures.

    Raises:
        ValueError: If a number is below 1, or there is no CUDA device.
    """

    data: str
    root: Path | None
    budget: Budget
    output: Path
    device: Literal["cpu", "cuda"] = "cpu"
    seeds: int = 1
    detectors: tuple[str, ...] = DETECTORS
    weights: Mapping[str, Path] = field(default_factory=dict)
    workers: int = 0

    def __post_init__(self) -> None:
        """Raise where something is out of its range."""
        check_at_least_one(seeds=self.seeds, steps=self.budget.steps)
        if self.device == "cuda" and not torch.cuda.is_available():
            msg = "`--device` must be cpu where there is no CUDA device. PyTorch finds none here."
            raise ValueError(msg)

    def identity(self) -> dict[str, Any]:
        """All that the result of a run depends on, apart from which run it is."""
        budget = vars(self.budget) | {"seeds": None, "timings": None, "checkpoint_every": None}
        # Different processors round differently, so a run stays with its kind of device.
        root = None if self.root is None else str(self.root.resolve())
        return {"data": self.data, "root": root, "device": self.device, **budget}


def digest_of(text: str | bytes) -> str:
    """A short name for a content."""
    content = text.encode() if isinstance(text, str) else text
    return hashlib.sha256(content).hexdigest()[:10]

"""What all runs of a study share, and what tells one run from another."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from advaug.augment.corruptions import BENCHMARK, BENCHMARK_VERSION
from advaug.datasets.readers.pts import Negative
from lab.study.budget import Equal

__all__ = ["COMMITTEE", "NEWER", "Run", "Settings"]

COMMITTEE = "committee"  # plain runs that choose the hardest pictures, and are not in the tables
COMMITTEE_SEED = 1000
# What a folder lacks that is older than a setting, as it was then.
NEWER: Mapping[str, Any] = {
    "equal": "time",
    "averaging": 0.0,
    "weight_decay": 0.0,
    "negative": None,
}
UNSHARED = ("root", "output", "device", "captured", "threads", "processes")


@dataclass(frozen=True)
class Settings:
    """How every detector of a study is trained and measured.

    Attributes:
        root: Folder with `train` and `val`, pictures named person_frame beside `.pts` files.
        output: Folder of the results.
        arms: Names of the ways to train.
        seeds: Of the runs of each arm.
        committee: How many plain runs with other seeds choose the hardest tenth; 0 for no such
            subset.
        measured: "test" for `val`, or "choose" for the people held back from `train`.
        choose_people: How many people are held back.
        negative: What negative numbers of `.pts` files mean, as for `PtsFolder`. With "occluded"
            the landmarks that something hides are measured apart.
        image_size: Side of the pictures.
        batch_size: Pictures a step.
        learning_rate: Of Adam, at its highest.
        averaging: Decay of the running average of weights that is measured; 0 for none.
        weight_decay: Of AdamW, in each step relative to the learning rate; 0 for Adam.
        width: Features of HG*1.
        depth: How often its hourglass halves the picture.
        out_stride: Pixels of the picture per pixel of its heatmaps.
        attacker_width: Features of attacker and discriminator; None for the library's.
        equal: What all runs have the same of: "time", or "steps", however long these take.
        severities: Of the rendered corruptions.
        precision: "bf16" for autocast, or "no".
        device: "cpu" or "cuda".
        captured: Whether steps are replayed as CUDA graphs.
        threads: Of each process on a CPU.
        processes: That train at the same time; None for one a run.
    """

    root: Path
    output: Path
    arms: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1)
    committee: int = 2
    measured: Literal["test", "choose"] = "test"
    choose_people: int = 40
    negative: Negative | None = None
    image_size: int = 64
    batch_size: int = 32
    learning_rate: float = 1e-3
    averaging: float = 0.0
    weight_decay: float = 0.0
    width: int = 256
    depth: int = 4
    out_stride: int = 1
    attacker_width: int | None = None
    equal: Equal = "time"
    severities: tuple[int, ...] = (2, 4)
    precision: Literal["no", "bf16"] = "no"
    device: Literal["cpu", "cuda"] = "cpu"
    captured: bool = True
    threads: int = 1
    processes: int | None = None

    def runs(self) -> list["Run"]:
        """All runs: seed by seed, so that what is cut off at the end is a seed and not an arm."""
        committee = [Run(COMMITTEE, COMMITTEE_SEED + place) for place in range(self.committee)]
        return committee + [Run(arm, seed) for seed in self.seeds for arm in self.arms]

    def description(self) -> dict[str, Any]:
        """What must be the same for results to be compared, as a json file gives it back."""
        kept = {name: value for name, value in asdict(self).items() if name not in UNSHARED}
        kept["benchmark"] = f"{BENCHMARK} {BENCHMARK_VERSION}"
        return json.loads(json.dumps(kept))


@dataclass(frozen=True)
class Run:
    """One detector to be trained.

    Attributes:
        arm: Name of the way to train.
        seed: Of everything random.
    """

    arm: str
    seed: int

    def folder(self, output: Path) -> Path:
        """Where its checkpoint and its result are kept."""
        return output / "runs" / f"{self.arm}-{self.seed}"

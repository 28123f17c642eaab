"""What all runs of a study folder share, and whose folder it is."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from advaug.augment.corruptions import BENCHMARK, BENCHMARK_VERSION
from lab.experiment import check_same_settings
from lab.study.arms import Arm
from lab.trainer import write_json

__all__ = ["StudySettings", "claim_folder"]


@dataclass(frozen=True)
class StudySettings:
    """What all runs of a study share.

    Attributes:
        data: Kind of the pictures, such as "pts".
        root: Folder of the pictures.
        pictures: How many to train on and to measure on, evenly spread; None for all.
        detector: Name of the detector.
        image_size: Side of the pictures.
        steps: Optimizer steps of a run at an equal number of steps.
        batch_size: Pictures a step.
        learning_rate: Of Adam, at the start; it falls to zero in a cosine.
        severities: Of the corruptions.
        precision: "no", "bf16" or "fp16".
        head_start: Steps of plain training that the detectors of all arms have behind them when a
            run begins; 0 for fresh weights.
    """

    data: str
    root: Path | None
    pictures: tuple[int, int] | None
    detector: str
    image_size: int
    steps: int
    batch_size: int
    learning_rate: float
    severities: tuple[int, ...]
    precision: str
    head_start: int

    def description(self) -> dict[str, Any]:
        """The settings as a json file gives them back."""
        found = asdict(self) | {"benchmark": f"{BENCHMARK} {BENCHMARK_VERSION}"}
        if self.root is not None:
            found["root"] = self.root.name  # the same pictures may lie elsewhere tomorrow
        return json.loads(json.dumps(found))


def claim_folder(output: Path, settings: StudySettings, arms: Mapping[str, Arm]) -> None:
    """Make a folder this study's, or go on with it. Arms and seeds may be added at any time.

    Args:
        output: The folder.
        settings: What its runs share.
        arms: Those that are about to be trained.

    Raises:
        ValueError: If the folder holds a study with other settings, or an arm of one of these names
            with other options.
    """
    wanted = {"settings.json": settings.description()} | {
        f"runs/{name}/arm.json": json.loads(json.dumps(arm.description()))
        for name, arm in arms.items()
    }
    output.mkdir(parents=True, exist_ok=True)
    with FileLock(output / ".folder.lock"):
        for name, content in wanted.items():
            path = output / name
            if path.exists():
                check_same_settings(path.parent, json.loads(path.read_text()), content)
        for name, content in wanted.items():
            path = output / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, content)

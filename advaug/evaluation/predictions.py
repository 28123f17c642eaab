"""What a detector has found in a set, and the files that keep it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from advaug.base.files import whole_file

__all__ = ["Pace", "Predictions", "count_kept", "read_predictions", "write_predictions"]


@dataclass(frozen=True)
class Pace:
    """How long it took.

    Attributes:
        shown: Pictures that the detector was shown, each condition counted.
        seconds: In total.
        network_seconds: In the detector.
        batch_size: Of the last batch; smaller than requested if memory was short.
    """

    shown: int = 0
    seconds: float = 0.0
    network_seconds: float = 0.0
    batch_size: int = 0

    def __add__(self, other: "Pace") -> "Pace":
        return Pace(
            self.shown + other.shown,
            self.seconds + other.seconds,
            self.network_seconds + other.network_seconds,
            other.batch_size,
        )


@dataclass(frozen=True)
class Predictions:
    """What a detector has found in a set, all on the CPU.

    Attributes:
        landmarks: The true ones, `(B, N, 2)` in pixels.
        visible: `(B, N)` bool; only these are measured.
        occluded: `(B, N)` bool; None if the set does not know.
        found: `(B, N, 2)` for each condition.
        pace: How long it took.
        notes: What happened meanwhile that a reader should know.
    """

    landmarks: Tensor
    visible: Tensor
    occluded: Tensor | None
    found: Mapping[str, Tensor]
    pace: Pace = field(default_factory=Pace)
    notes: tuple[str, ...] = ()


def count_kept(parts: Path) -> int:
    """How many pictures, from the first one on, have been processed."""
    done = 0
    for path in sorted(parts.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            done = int(path.stem) + file.get_slice("visible").get_shape()[0]
    return done


def write_predictions(path: Path, found: Predictions) -> None:
    """Write a file that gets its name only when it is complete."""
    tensors = {"landmarks": found.landmarks, "visible": found.visible}
    if found.occluded is not None:
        tensors["occluded"] = found.occluded
    tensors |= {f"found/{name}": value for name, value in found.found.items()}
    kept = {name: value.contiguous() for name, value in tensors.items()}
    with whole_file(path) as temporary:
        told = {"pace": json.dumps(asdict(found.pace)), "notes": json.dumps(found.notes)}
        temporary.write_bytes(save(kept, told))


def read_predictions(paths: Sequence[Path]) -> Predictions:
    """Join what one or several files hold, in their order."""
    kept: dict[str, list[Tensor]] = {}
    pace = Pace()
    notes: dict[str, None] = {}  # a run that was stopped and started again says the same twice
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 # it is no dict
                kept.setdefault(name, []).append(file.get_tensor(name))
            told = file.metadata()
            pace += Pace(**json.loads(told["pace"]))
            notes |= dict.fromkeys(json.loads(told["notes"]))
    whole = {name: torch.cat(values) for name, values in kept.items()}
    occluded = whole.get("occluded")
    if occluded is not None and len(occluded) < len(whole["visible"]):
        occluded = None  # only some of the pictures say so
    found = {
        name.removeprefix("found/"): value
        for name, value in whole.items()
        if name.startswith("found/")
    }
    return Predictions(whole["landmarks"], whole["visible"], occluded, found, pace, tuple(notes))

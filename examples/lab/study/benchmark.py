"""The changed test pictures, made once for all runs of a study and held as bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm.auto import tqdm

from advaug.augment.corruptions import CORRUPTIONS, corrupt
from advaug.base.files import whole_file
from advaug.evaluation.evaluate import Condition
from advaug.training.loading import InMemoryLandmarks

__all__ = ["corruption_conditions", "hold_conditions", "to_bytes", "write_pictures"]

TOGETHER = 64  # pictures


def corruption_conditions(
    severities: Sequence[int], *, faces: bool
) -> dict[tuple[str, int], Condition]:
    """Every kind of the benchmark in these severities.

    Args:
        severities: From 1 to 5.
        faces: Whether the landmarks are the 68 of a face, which some kinds need.
    """

    def condition(kind: str, severity: int) -> Condition:
        def apply(images: Tensor, landmarks: Tensor, numbers: Tensor) -> Tensor:
            return corrupt(images, kind, severity, seeds=numbers, landmarks=landmarks)

        return apply

    kinds = [kind for kind, corruption in CORRUPTIONS.items() if faces or not corruption.face]
    return {
        (kind, severity): condition(kind, severity) for kind in kinds for severity in severities
    }


def hold_conditions(
    conditions: Mapping[str, Condition], data: InMemoryLandmarks, folder: Path
) -> dict[str, Condition]:
    """The same conditions, applied once for all: to all pictures, and kept in files of bytes.

    Of several processes one makes the files, while the others wait for it.

    Args:
        conditions: By name.
        data: The pictures; the numbers that a condition gets are theirs.
        folder: Where the files are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        missing = [name for name in conditions if not _file(folder, name).exists()]
        for name in tqdm(missing, desc="changing test pictures", leave=False):
            write_pictures(_file(folder, name), _apply(conditions[name], data))
    return {name: _held(_file(folder, name), data.images.device) for name in conditions}


def _apply(condition: Condition, data: InMemoryLandmarks) -> Tensor:
    parts = []
    for numbers in torch.arange(len(data)).split(TOGETHER):
        batch = data[numbers.to(data.images.device)]
        changed = condition(batch.images, batch.landmarks, numbers)
        parts.append(to_bytes(changed))
    return torch.cat(parts)


def _held(path: Path, device: torch.device) -> Condition:
    # Mapped, so that the processes of a machine share the memory; no one writes to it.
    pictures = torch.from_numpy(np.load(path, mmap_mode="c")).to(device)

    def take(images: Tensor, landmarks: Tensor, numbers: Tensor) -> Tensor:
        return pictures[numbers.to(device)].to(images.dtype) / 255

    return take


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name.replace('/', '-')}.npy"


def to_bytes(pictures: Tensor) -> Tensor:
    """Pictures `(B, 3, H, W)` in `[0, 1]` as uint8 on the CPU."""
    return (pictures.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def write_pictures(path: Path, pictures: Tensor) -> None:
    """Write a file of bytes that has its name only when it is whole."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, pictures.numpy())

"""The measured pictures under every rendered condition, made once and kept as bytes."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advaug.augment import corruptions
from advaug.augment.corruptions import corrupt
from advaug.evaluation.evaluate import CONDITIONS, Condition
from lab.study.faces import hold, measured_people
from lab.study.pictures import to_bytes, write_pictures
from lab.study.settings import Settings

__all__ = ["GROUPS", "condition_names", "conditions", "pictures_under", "render"]

TOGETHER = 64  # pictures
GROUPS: Mapping[str, Mapping[str, Any]] = corruptions.GROUPS
"""Kinds of corruptions whose means stand in the tables, by the name of their group."""


def conditions(settings: Settings) -> Mapping[str, Condition]:
    """What is done to the pictures, by name: "masked", or a kind and severity as in "fog/2"."""
    corrupted = {
        f"{kind}/{severity}": partial(_corrupted, kind, severity)
        for kinds in GROUPS.values()
        for kind in kinds
        for severity in settings.severities
    }
    return {name: CONDITIONS[name] for name in ("masked", "occluded")} | corrupted


def condition_names(settings: Settings) -> list[str]:
    """In the order in which detectors are measured, the clean pictures first."""
    return ["clean", *conditions(settings)]


def render(settings: Settings) -> None:
    """Make the files that are missing or damaged, in the order in which they will be needed."""
    torch.set_num_threads(settings.threads)
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = hold(measured_people(settings), "cpu")
    for name, condition in conditions(settings).items():
        path = _path(folder, name)
        held = pictures_under(name, settings)
        if held is not None and held.shape == pictures.images.shape:
            continue
        if path.exists():
            print(f"`{path}` is damaged: it is made again", flush=True)
        write_pictures(path, _changed(condition, pictures.images, pictures.landmarks))


def pictures_under(name: str, settings: Settings) -> Tensor | None:
    """The pictures `(B, 3, H, W)` as bytes on the CPU; None while they are not whole."""
    try:
        pictures = np.load(_path(_folder(settings), name), mmap_mode="c")
    except (OSError, ValueError, EOFError):
        return None
    whole = isinstance(pictures, np.ndarray) and pictures.dtype == np.uint8
    return torch.from_numpy(pictures) if whole else None


def _corrupted(
    kind: str, severity: int, images: Tensor, landmarks: Tensor, numbers: Tensor
) -> Tensor:
    return corrupt(images, kind, severity, seeds=numbers, landmarks=landmarks)


def _changed(condition: Condition, images: Tensor, landmarks: Tensor) -> Tensor:
    numbers = torch.arange(len(images))
    parts = zip(*(each.split(TOGETHER) for each in (images, landmarks, numbers)), strict=True)
    return torch.cat([to_bytes(condition(part.float() / 255, *more)) for part, *more in parts])


def _folder(settings: Settings) -> Path:
    return settings.output / "conditions" / f"{settings.measured}-{settings.image_size}"


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name.replace('/', '-')}.npy"

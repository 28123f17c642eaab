"""The faces of a study, to train on, choose by and report on: no person is in two of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Subset

from advaug.datasets import PtsFolder
from advaug.datasets.pictures import read_picture
from advaug.errors import DatasetError
from advaug.evaluation.hardness import blockiness, large_pose, low_quality, sharpness
from advaug.training.loading import InMemoryLandmarks
from lab.study.settings import Settings

__all__ = ["People", "hold", "measured_people", "real_subsets", "training_people"]


SMALLEST = 5  # pictures of which a fifth can be taken


@dataclass(frozen=True)
class People:
    """Some pictures of a folder.

    Attributes:
        folder: Reads and crops all of them.
        places: Which of them belong here.
    """

    folder: PtsFolder
    places: list[int]

    @property
    def names(self) -> list[str]:
        """Of the files, without their endings."""
        return [self.folder.paths[place].stem for place in self.places]

    @property
    def occluded(self) -> torch.Tensor | None:
        """Which landmarks something hides, `(B, N)` bool; None if the set does not say."""
        known = self.folder.occluded
        return None if known is None else known[self.places]


def training_people(settings: Settings) -> People:
    """Those of `train` that are not held back."""
    return _split(settings)[0]


def measured_people(settings: Settings) -> People:
    """Those of `val`, or those held back from `train`, as the settings say."""
    if settings.measured == "choose":
        return _split(settings)[1]
    folder = _folder(settings, "val")
    return People(folder, list(range(len(folder))))


def hold(people: People, device: torch.device | str) -> InMemoryLandmarks:
    """Their pictures in the device's memory."""
    return InMemoryLandmarks(Subset(people.folder, people.places), device, workers=0)


def real_subsets(people: People, pictures: InMemoryLandmarks) -> dict[str, torch.Tensor]:
    """Masks `(B,)` of the pictures that are hard by themselves, by name; none of too few."""
    if len(people.places) < SMALLEST:
        return {}
    sides = torch.tensor([people.folder.crop(place).side for place in people.places])
    blocks = torch.tensor([_blocks(people.folder.paths[place]) for place in people.places])
    sharp = torch.cat([sharpness(part.float() / 255) for part in pictures.images.split(64)])
    # A head of which an eye or the nose cannot be seen is turned farther than any other.
    seen = torch.where(pictures.visible[..., None], pictures.landmarks, torch.nan)
    return {
        "large pose": large_pose(seen),
        "low quality": low_quality(sides, sharp.cpu(), blocks),
    }


def _folder(settings: Settings, part: str) -> PtsFolder:
    root, size = settings.root / part, settings.image_size
    return PtsFolder(root, image_size=size, negative=settings.negative)


def _blocks(path: Path) -> float:
    pixels = np.asarray(read_picture(path), dtype=np.float32) / 255
    return blockiness(torch.from_numpy(pixels).permute(2, 0, 1))


def _split(settings: Settings) -> tuple[People, People]:
    """Who trains, and who is held back: people evenly spread over the sorted names."""
    folder = _folder(settings, "train")
    owners = [path.stem.split("_")[0] for path in folder.paths]
    people, count = sorted(set(owners)), settings.choose_people
    if not 0 < count < len(people):
        msg = (
            f"`--root` must have more people in `train` than the {count} that are held back, but "
            f"got {len(people)}. The person is the part of a file's name before the first `_`."
        )
        raise DatasetError(msg)
    held = {people[place * len(people) // count] for place in range(count)}
    places = range(len(owners))
    return (
        People(folder, [place for place in places if owners[place] not in held]),
        People(folder, [place for place in places if owners[place] in held]),
    )

"""A landmark dataset in the device's memory, and the batches of every step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from advaug.datasets import LandmarkSample
from advaug.datasets.workers import survived

__all__ = ["Batch", "InMemoryLandmarks", "StepOrder", "TrainingPictures", "mean_shape"]

READ_TOGETHER = 32


@dataclass(frozen=True)
class Batch:
    """Pictures with their landmarks.

    Attributes:
        images: `(B, 3, H, W)` float32 in `[0, 1]`.
        landmarks: `(B, N, 2)` float32, x then y, in pixels.
        visible: `(B, N)` bool.
    """

    images: Tensor
    landmarks: Tensor
    visible: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` of the pictures."""
        return self.images.shape[-2], self.images.shape[-1]

    def __getitem__(self, part: slice) -> "Batch":
        """Some of the pictures."""
        return Batch(self.images[part], self.landmarks[part], self.visible[part])


class TrainingPictures(Protocol):
    """What the trainer requires of a dataset: the pictures of any step, by its number."""

    def __len__(self) -> int:
        """How many pictures there are."""
        ...

    def batch(
        self, step: int, size: int, *, seed: int = 0, process: int = 0, processes: int = 1
    ) -> Batch:
        """The pictures of one step, chosen by `StepOrder`."""
        ...

    def mean_shape(self) -> Tensor:
        """Mean position of each landmark, as in the function `mean_shape`."""
        ...


@dataclass(frozen=True)
class StepOrder:
    """Which pictures each step sees: every epoch in a new order, without its incomplete end.

    They depend only on these numbers and the step's, so a resumed run needs no state.

    Attributes:
        size: Pictures per step and process.
        count: How many pictures there are. If one step needs more, some are repeated.
        seed: Seed of the order.
        process: Index of this process.
        processes: How many processes share a step.
    """

    size: int
    count: int
    seed: int = 0
    process: int = 0
    processes: int = 1

    def indices(self, step: int, device: torch.device | str = "cpu") -> Tensor:
        """The pictures of a step, counted from 0: `(size,)` int64.

        Args:
            step: Number of the step, from 0.
            device: Device of the result; an order is copied there once per epoch.
        """
        together = self.size * self.processes
        epoch, position = divmod(step, max(self.count // together, 1))
        rounds = -(-together // self.count)
        order = _epoch_order(self.count, rounds, self.seed * 1_000_003 + epoch, device)
        start = position * together + self.process * self.size
        return order[start : start + self.size]


@lru_cache(maxsize=2)
def _epoch_order(count: int, rounds: int, seed: int, device: torch.device | str) -> Tensor:
    """`rounds` permutations of the pictures, `(rounds * count,)`, never to be written to."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randperm(count, generator=generator) for _ in range(rounds)]
    return torch.cat(parts).to(device)


def mean_shape(landmarks: Tensor, visible: Tensor) -> Tensor:
    """Mean position of each landmark where it is visible: `(N, 2)`, x then y, in pixels.

    A landmark that no picture shows is placed at the mean of the others.

    Args:
        landmarks: `(B, N, 2)`.
        visible: `(B, N)` bool.
    """
    shown = torch.where(visible[..., None], landmarks, torch.nan)
    return shown.nanmean(dim=0).where(visible.any(dim=0)[:, None], shown.nanmean((0, 1)))


class InMemoryLandmarks:
    """Hold a whole dataset on a device, pictures as bytes, so that no step waits for a disk.

    300W at 256 px needs 620 MB; see `advaug.training.streaming` for sets that do not fit.

    Args:
        dataset: Gives `LandmarkSample`s of one size.
        device: Where to keep them.
        workers: Processes that read; 0 reads in this process.
        title: What the progress bar says.
    """

    def __init__(
        self,
        dataset: Dataset[LandmarkSample],
        device: torch.device | str = "cpu",
        *,
        workers: int = 2,
        title: str = "reading pictures",
    ) -> None:
        from tqdm.auto import tqdm

        loader = DataLoader(
            dataset,
            batch_size=READ_TOGETHER,
            num_workers=workers,
            collate_fn=_as_bytes,
            generator=torch.Generator(),  # the global one is the caller's
        )
        parts = survived(
            lambda: [
                tuple(values.to(device) for values in part)
                for part in tqdm(loader, desc=title, leave=False)
            ]
        )
        self.images, self.landmarks, self.visible = map(torch.cat, zip(*parts, strict=True))

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.images)

    def __getitem__(self, index: slice | Tensor) -> Batch:
        """The pictures of these indices."""
        images = self.images[index].float() / 255
        return Batch(images, self.landmarks[index], self.visible[index])

    def mean_shape(self) -> Tensor:
        """Mean position of each landmark over all pictures, as in the function `mean_shape`."""
        return mean_shape(self.landmarks, self.visible)

    def batch(
        self, step: int, size: int, *, seed: int = 0, process: int = 0, processes: int = 1
    ) -> Batch:
        """The pictures of one step, chosen by `StepOrder`."""
        order = StepOrder(size, len(self), seed, process, processes)
        return self[order.indices(step, self.images.device)]


def _as_bytes(samples: Sequence[LandmarkSample]) -> tuple[Tensor, Tensor, Tensor]:
    """Stack samples, pictures as bytes, so that only a quarter of the data leaves the worker."""
    images, landmarks, visible = map(torch.stack, zip(*samples, strict=True))
    return (images * 255).round().to(torch.uint8), landmarks, visible

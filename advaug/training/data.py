"""A landmark dataset in the device's memory, and the batches of every step."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from advaug.datasets import LandmarkSample

__all__ = ["Batch", "InMemoryLandmarks"]


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


class InMemoryLandmarks:
    """Hold a whole dataset on a device, pictures as bytes, so that no step waits for a disk.

    300W at 256 px takes 620 MB. Which pictures a step sees follows from the seed and the step's
    number alone, so that a resumed run needs no state.

    Args:
        dataset: Gives `LandmarkSample`s of one size.
        device: Where to keep them.
        workers: Processes that read.
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
        loader = DataLoader(dataset, batch_size=32, num_workers=workers)
        parts = list(tqdm(loader, desc=title, leave=False))
        pictures = [(part.image * 255).round().to(torch.uint8) for part in parts]
        self.images = torch.cat(pictures).to(device)
        self.landmarks = torch.cat([part.landmarks for part in parts]).to(device)
        self.visible = torch.cat([part.visible for part in parts]).to(device)

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.images)

    def __getitem__(self, index: slice | Tensor) -> Batch:
        """The pictures of these indices."""
        images = self.images[index].float() / 255
        return Batch(images, self.landmarks[index], self.visible[index])

    def mean_shape(self) -> Tensor:
        """Mean place of each landmark, where it is visible: `(N, 2)`, x then y, in pixels.

        A landmark that no picture shows is put amid the others.
        """
        shown = torch.where(self.visible[..., None], self.landmarks, torch.nan)
        return shown.nanmean(dim=0).where(self.visible.any(dim=0)[:, None], shown.nanmean((0, 1)))

    def batch(
        self, step: int, size: int, *, seed: int = 0, process: int = 0, processes: int = 1
    ) -> Batch:
        """The pictures of one step: every epoch a new order, its incomplete end left out.

        Args:
            step: Number of the step, from 0.
            size: Pictures a process.
            seed: Of the order.
            process: Which process asks.
            processes: How many share the step.
        """
        together = size * processes
        steps_an_epoch = max(len(self) // together, 1)
        epoch, position = divmod(step, steps_an_epoch)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        # Sets smaller than one batch are gone through more than once for it.
        rounds = -(-together // len(self)) if len(self) < together else 1
        order = torch.cat([torch.randperm(len(self), generator=generator) for _ in range(rounds)])
        start = position * together + process * size
        return self[order[start : start + size].to(self.images.device)]

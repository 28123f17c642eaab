"""Landmark datasets that do not fit into memory: decoded in workers, cropped on the device."""

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, get_worker_info

from advaug.datasets import LandmarkSample
from advaug.datasets.cut import Cuts, CutSample, pack_cuts, resample_cuts
from advaug.datasets.pictures import CroppedPictures
from advaug.datasets.workers import heard
from advaug.errors import DatasetError, ShapeError
from advaug.training.loading import (
    Batch,
    InMemoryLandmarks,
    StepOrder,
    TrainingPictures,
    mean_shape,
)

__all__ = ["StreamedLandmarks", "hold_or_stream"]

MEMORY_SHARE = 0.25  # of the device's memory, for the pictures; the rest is for the networks
MEAN_OF = 1000
NOTHING = -1


def hold_or_stream(
    dataset: Dataset[LandmarkSample],
    image_size: int,
    device: torch.device | str,
    *,
    stream: bool = False,
    workers: int = 2,
    title: str = "reading pictures",
) -> TrainingPictures:
    """Keep a dataset in the device's memory, or stream it if it is too large.

    It is streamed if its pictures, as bytes, need more than a quarter of the device's total memory.
    What is free at the moment does not matter, so that a resumed run decides the same way.

    Args:
        dataset: Gives `LandmarkSample`s of one size.
        image_size: Their side, in pixels.
        device: Of the batches.
        stream: Whether to stream in any case.
        workers: Processes that read.
        title: What the progress bar says.
    """
    size = len(dataset) * 3 * image_size**2  # type: ignore[reportArgumentType] # ours have a length
    if stream or size > MEMORY_SHARE * _total_memory(torch.device(device)):
        return StreamedLandmarks(dataset, device, workers=workers)
    return InMemoryLandmarks(dataset, device, workers=workers, title=title)


def _total_memory(device: torch.device) -> int:
    """Bytes that a device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    import psutil

    return psutil.virtual_memory().total


class StreamedLandmarks:
    """Give the batches of `InMemoryLandmarks`, without holding the dataset.

    Workers decode pictures and cut bytes around the faces, several steps ahead; the device computes
    the exact squares, one step ahead. On a GPU this happens on a separate stream, from pinned
    memory, while the current batch is used for training. Which pictures a step sees depends only on
    the seed and the step's number, whatever the number of workers, so a resumed run needs no state.
    Steps out of sequence restart the workers.

    A dataset that is not a `CroppedPictures` (or a `Subset` of one) is read as finished samples.

    Args:
        dataset: Gives `LandmarkSample`s of one square size.
        device: Of the batches.
        workers: Processes that read; 0 reads in this process, without reading ahead.

    Raises:
        DatasetError: If the first picture cannot be read.
        ShapeError: If it is not square.
        ValueError: If `workers` is negative.
    """

    def __init__(
        self,
        dataset: Dataset[LandmarkSample],
        device: torch.device | str = "cpu",
        *,
        workers: int = 2,
    ) -> None:
        if workers < 0:
            msg = f"`workers` must not be negative, but got {workers}. Pass 0 to read without any."
            raise ValueError(msg)
        height, width = dataset[0].image.shape[-2:]
        if height != width:
            msg = f"`dataset` must give square pictures, but got {(height, width)}. Crop them."
            raise ShapeError(msg)
        self.image_size = width
        self.device = torch.device(device)
        self._dataset = dataset
        self._workers = workers
        self._side = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        # The picture that each worker is reading, in memory that they share with this process.
        self._in_hand = torch.full((max(workers, 1),), NOTHING).share_memory_()
        self._reader: Iterator[Any] | None = None
        self._next: tuple[int, StepOrder] | None = None
        self._ahead: Batch | DatasetError | None = None

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self._dataset)  # type: ignore[reportArgumentType] # ours have a length

    def batch(
        self, step: int, size: int, *, seed: int = 0, process: int = 0, processes: int = 1
    ) -> Batch:
        """The pictures of one step, chosen by `StepOrder`.

        Raises:
            DatasetError: If a picture cannot be read or kills its worker; the message names it.
        """
        order = StepOrder(size, len(self), seed, process, processes)
        if self._next != (step, order):
            self.close()
            self._reader = self._read_from(step, order)
        self._next = None  # whatever interrupts this, the next call starts over
        batch = self._read() if self._ahead is None else self._ahead
        if isinstance(batch, DatasetError):
            self.close()
            raise batch
        self._hand_over(batch)
        self._ahead = self._read() if self._workers > 0 else None
        self._next = (step + 1, order)
        return batch

    def mean_shape(self) -> Tensor:
        """Mean position of each landmark, as in the function `mean_shape`.

        From at most a thousand samples, evenly spread: a large set is not read for it.
        """
        count = min(len(self), MEAN_OF)
        spread = [place * len(self) // count for place in range(count)]
        annotations = [_annotation(self._dataset, index) for index in spread]
        landmarks, visible = map(torch.stack, zip(*annotations, strict=True))
        return mean_shape(landmarks, visible)

    def close(self) -> None:
        """Stop the workers and drop what was read ahead; the next `batch` starts them again."""
        self._reader = self._next = self._ahead = None
        self._in_hand.fill_(NOTHING)

    def _read_from(self, step: int, order: StepOrder) -> Iterator[Any]:
        loader = DataLoader(
            _Steps(self._dataset, order, self._in_hand),
            batch_size=None,  # a worker makes whole batches
            sampler=range(step, sys.maxsize),
            num_workers=self._workers,
            pin_memory=self._side is not None,
            generator=torch.Generator(),  # the global one is the caller's
        )
        return iter(loader)

    def _read(self) -> Batch | DatasetError:
        """The batch after the last one; an error is returned, as it may be read ahead."""
        assert self._reader is not None
        try:
            cuts = heard(partial(next, self._reader))
        except RuntimeError as error:  # of PyTorch's loader, about its workers
            return self._death(error)
        return cuts if isinstance(cuts, DatasetError) else self._crop(cuts)

    def _crop(self, cuts: Cuts) -> Batch:
        """Copy cuts to the device and resample their squares, in parallel with its current work."""
        with torch.cuda.stream(self._side):  # does nothing for None
            cuts = Cuts(*(part.to(self.device, non_blocking=True) for part in cuts))
            images = resample_cuts(cuts.canvas, cuts.geometry, self.image_size)
            return Batch(images, cuts.landmarks, cuts.visible)

    def _hand_over(self, batch: Batch) -> None:
        """Let the caller's stream wait for a batch, and keep its memory until that has used it."""
        if self._side is None:
            return
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self._side)
        for tensor in (batch.images, batch.landmarks, batch.visible):
            tensor.record_stream(current)

    def _death(self, error: RuntimeError) -> DatasetError:
        at = [_name(self._dataset, index) for index in self._in_hand.tolist() if index != NOTHING]
        message = (
            "the processes that read pictures must live, but got: "
            f"{str(error).splitlines()[0]} They were at {', '.join(at) or 'none'}. Open these "
            "pictures to see which of them kills its reader; if none does, the machine is short of "
            "memory (or of /dev/shm): use fewer workers."
        )
        death = DatasetError(message)
        death.__cause__ = error
        return death


class _Steps(Dataset[Any]):
    """What a worker runs: reads the pictures of one step, by its number."""

    def __init__(self, dataset: Dataset[LandmarkSample], order: StepOrder, in_hand: Tensor) -> None:
        self.dataset = dataset
        self.order = order
        self.in_hand = in_hand

    def __getitem__(self, step: int) -> Cuts | DatasetError:
        indices = self.order.indices(step).tolist()
        try:
            return pack_cuts([self._read(index) for index in indices])
        except DatasetError as error:
            # Returned, an error arrives as it is; raised, its message becomes the worker's
            # traceback.
            return error

    def _read(self, index: int) -> CutSample:
        worker = get_worker_info()
        place = 0 if worker is None else worker.id
        self.in_hand[place] = index
        cut = _cut(self.dataset, index)
        self.in_hand[place] = NOTHING
        return cut


def _origin(dataset: Dataset[LandmarkSample], index: int) -> tuple[Dataset[LandmarkSample], int]:
    """The dataset behind any subsets, and the sample's index there."""
    while isinstance(dataset, Subset):
        dataset, index = dataset.dataset, dataset.indices[index]
    return dataset, index


def _cut(dataset: Dataset[LandmarkSample], index: int) -> CutSample:
    dataset, index = _origin(dataset, index)
    if isinstance(dataset, CroppedPictures):
        return dataset.cut(index)
    image, landmarks, visible = dataset[index]
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return CutSample(pixels, (0.0, 0.0, float(image.shape[-1])), landmarks, visible)


def _annotation(dataset: Dataset[LandmarkSample], index: int) -> tuple[Tensor, Tensor]:
    dataset, index = _origin(dataset, index)
    if isinstance(dataset, CroppedPictures):
        return dataset.annotation(index)
    return dataset[index][1:]


def _name(dataset: Dataset[LandmarkSample], index: int) -> str:
    dataset, index = _origin(dataset, index)
    if isinstance(dataset, CroppedPictures):
        return f"`{dataset.paths[index]}`"
    return f"sample {index} of `dataset`"

"""Run a detector once on every picture of a set, under every condition, and keep its output.

The landmarks that it finds go to files as they come. So a stopped run continues where it was, and
measuring again with another normaliser needs no detector.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from advaug.datasets import LandmarkSample
from advaug.datasets.workers import survived
from advaug.evaluation.batches import Batches
from advaug.evaluation.evaluate import Condition
from advaug.evaluation.loaded import LoadedDetector
from advaug.evaluation.predictions import (
    Pace,
    Predictions,
    count_kept,
    read_predictions,
    write_predictions,
)

__all__ = ["Pictures", "collate", "collect", "find_landmarks"]

Find = Callable[[Tensor], Tensor]
KEPT_TOGETHER = 32  # pictures per file, at least


@dataclass(frozen=True)
class Pictures:
    """A batch of a set.

    Attributes:
        images: `(B, 3, H, W)` in `[0, 1]`.
        landmarks: `(B, N, 2)` in pixels.
        visible: `(B, N)` bool.
        occluded: `(B, N)` bool; None if the set does not know.
    """

    images: Tensor
    landmarks: Tensor
    visible: Tensor
    occluded: Tensor | None


def find_landmarks(detector: LoadedDetector, flip: Sequence[int] | None) -> Find:
    """Return the function from pictures `(B, 3, H, W)` to landmarks `(B, N, 2)`.

    Args:
        detector: In evaluation mode.
        flip: The permutation of a mirror: landmarks are averaged over the picture and its mirror
            image. None runs the detector once.
    """
    if flip is None:
        return detector.find
    order = list(flip)

    def find(images: Tensor) -> Tensor:
        mirrored = detector.find(images.flip(-1))[:, order]
        x, y = mirrored.unbind(-1)
        # Pixel centres are integers, so the first and the last one change places.
        back = torch.stack([images.shape[-1] - 1 - x, y], dim=-1)
        return (detector.find(images) + back) / 2

    return find


def collect(
    find: Find,
    dataset: Dataset[LandmarkSample],
    conditions: Mapping[str, Condition],
    folder: Path,
    *,
    device: torch.device | str,
    batches: Batches,
    workers: int = 2,
) -> Predictions:
    """Let a detector find the landmarks of all pictures, or resume from what the folder holds.

    Args:
        find: From pictures to landmarks.
        dataset: The pictures; their indices seed everything random in a condition.
        conditions: By name.
        folder: Where the predictions are kept; in `predictions.safetensors` once all exist.
        device: Where the detector is.
        batches: How many pictures the detector sees at a time.
        workers: Processes that read pictures.

    Raises:
        DatasetError: If a picture cannot be read, or a process that reads them dies.
        ValueError: If the detector gives NaN or infinity, or the wrong number of landmarks.
    """
    whole, parts = folder / "predictions.safetensors", folder / "parts"
    if not whole.exists():
        parts.mkdir(exist_ok=True)
        options = {"device": device, "batches": batches, "workers": workers}
        with torch.no_grad():
            survived(lambda: _fill(parts, find, dataset, conditions, **options))
        write_predictions(whole, read_predictions(sorted(parts.glob("*.safetensors"))))
    shutil.rmtree(parts, ignore_errors=True)
    kept = read_predictions([whole])
    return replace(kept, found={name: kept.found[name] for name in conditions})


def collate(samples: Sequence[LandmarkSample]) -> Pictures:
    """Make a batch of samples, including those that say which landmarks are occluded."""
    occluded = [getattr(sample, "occluded", None) for sample in samples]
    known = [flags for flags in occluded if flags is not None]
    return Pictures(
        torch.stack([sample.image for sample in samples]),
        torch.stack([sample.landmarks for sample in samples]),
        torch.stack([sample.visible for sample in samples]),
        torch.stack(known) if len(known) == len(samples) else None,
    )


def _fill(
    parts: Path,
    find: Find,
    dataset: Dataset[LandmarkSample],
    conditions: Mapping[str, Condition],
    *,
    device: torch.device | str,
    batches: Batches,
    workers: int,
) -> None:
    """Write a file for each run of pictures that has none yet."""
    from tqdm.auto import tqdm

    count = len(dataset)  # pyright: ignore[reportArgumentType] # every dataset of ours has one
    first = count_kept(parts)
    total = count * len(conditions)
    with tqdm(total=total, initial=first * len(conditions), desc="looking", unit="picture") as bar:
        started = time.perf_counter()
        for pictures in _load(dataset, range(first, count), device, batches.size, workers):
            looking, said = _Looking(find, pictures, first, batches), len(batches.said)
            found = {}
            for name, condition in conditions.items():
                found[name] = looking.under(condition, name)
                bar.update(len(found[name]))
            now = time.perf_counter()
            shown = len(pictures.images) * len(conditions)
            pace = Pace(shown, now - started, looking.seconds, batches.size)
            truth = (pictures.landmarks, pictures.visible, pictures.occluded)
            notes = tuple(batches.said[said:])
            kept = Predictions(*truth, found, pace, notes)
            write_predictions(parts / f"{first:08d}.safetensors", kept)
            first += len(pictures.images)
            started = now


class _Looking:
    """The detector at work on one batch of pictures."""

    def __init__(self, find: Find, pictures: Pictures, first: int, batches: Batches) -> None:
        self.find, self.pictures, self.batches = find, pictures, batches
        self.numbers = torch.arange(first, first + len(pictures.images))
        self.seconds = 0.0

    def under(self, condition: Condition, name: str) -> Tensor:
        """Landmarks `(B, N, 2)` under a condition, on the CPU, checked."""
        found = self.batches.map(lambda part: self._look(condition, part), len(self.numbers))
        wanted = self.pictures.landmarks.shape
        if found.shape != wanted:
            msg = (
                f"the detector must give {wanted[1]} landmarks, as the set has, but got "
                f"{tuple(found.shape[1:])}. Choose a set that is annotated as it was trained."
            )
            raise ValueError(msg)
        broken = ~found.isfinite().flatten(1).all(dim=1)
        if broken.any():
            number = int(self.numbers[int(broken.nonzero()[0])])
            msg = (
                f"the detector must give finite landmarks, but got NaN or infinity for picture "
                f"{number} ({name}). Check that its training has not diverged."
            )
            raise ValueError(msg)
        return found

    def _look(self, condition: Condition, part: slice) -> Tensor:
        pictures = self.pictures
        changed = condition(pictures.images[part], pictures.landmarks[part], self.numbers[part])
        if changed.is_cuda:
            torch.cuda.synchronize(changed.device)  # earlier work is not the detector's time
        started = time.perf_counter()
        found = self.find(changed).float().cpu()
        self.seconds += time.perf_counter() - started
        return found


def _load(
    dataset: Dataset[LandmarkSample],
    indices: range,
    device: torch.device | str,
    batch_size: int,
    workers: int,
) -> Iterator[Pictures]:
    loader = DataLoader(
        Subset(dataset, indices),
        batch_size=max(batch_size, KEPT_TOGETHER),
        num_workers=min(workers, -(-len(indices) // KEPT_TOGETHER)),
        collate_fn=collate,
        generator=torch.Generator(),  # the global one is the caller's
    )
    for pictures in loader if indices else ():
        truth = (pictures.landmarks, pictures.visible, pictures.occluded)
        yield Pictures(pictures.images.to(device), *truth)

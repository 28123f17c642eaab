"""Errors of one detector on every picture under every condition."""

import time
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advaug.evaluation.evaluate import predict
from advaug.evaluation.metrics import landmark_errors, mean_errors
from advaug.training.loading import InMemoryLandmarks
from lab.study.conditions import condition_names, pictures_under
from lab.study.learner import Learner
from lab.study.settings import Settings

__all__ = ["APART", "NORMALIZERS", "measure", "predicted"]

NORMALIZERS = ("inter_ocular", "box")
APART = ("visible", "occluded")
BATCH = 64
PATIENCE = 0.2  # seconds between two looks for pictures that are still being made


def measure(
    learner: Learner,
    pictures: InMemoryLandmarks,
    settings: Settings,
    stop_at: float,
    *,
    occluded: Tensor | None = None,
) -> Mapping[str, NDArray[np.generic]]:
    """Measure until the time is over; what is not measured by then is left out.

    Args:
        learner: Holds the detector, or the average that stands for it.
        pictures: Those to measure on.
        settings: Of the study.
        stop_at: When to stop, in seconds as of `time.time()`.
        occluded: `(B, N)` bool, which landmarks something hides; None if unknown.

    Returns:
        "conditions": the names of those measured, "inter_ocular" and "box": `(C, B)` NME as
        fractions, and "predictions": `(B, N, 2)` on the clean pictures. Where it is known what is
        hidden, "visible" and "occluded": as "box", over those landmarks; NaN where there are none.
    """
    names, rows, predictions = [], [], np.zeros(0, dtype=np.float32)
    kinds = NORMALIZERS if occluded is None else (*NORMALIZERS, *APART)
    for name in condition_names(settings):
        images = pictures.images if name == "clean" else _wait_for(name, settings, stop_at)
        if images is None:
            break
        found = predicted(learner, images, settings)
        if name == "clean":
            predictions = found.cpu().numpy()
        rows.append(_errors(found, pictures, occluded))
        names.append(name)
    columns = zip(*rows, strict=True)
    errors = {name: np.stack(each) for name, each in zip(kinds, columns, strict=True)}
    return {"conditions": np.array(names), "predictions": predictions, **errors}


def predicted(learner: Learner, images: Tensor, settings: Settings) -> Tensor:
    """Landmarks `(B, N, 2)` in pixels, from pictures `(B, 3, H, W)` as bytes."""
    half = settings.precision == "bf16"
    parts = []
    with torch.autocast(settings.device, torch.bfloat16, enabled=half):
        for part in images.split(BATCH):
            values = part.to(settings.device, non_blocking=True).float() / 255
            parts.append(predict(learner.measured, learner.codec.decode, values, batch_size=BATCH))
    return torch.cat(parts)


def _errors(
    found: Tensor, pictures: InMemoryLandmarks, occluded: Tensor | None
) -> list[NDArray[np.generic]]:
    # A detector that has diverged is infinitely wrong; it is no reason to lose the other errors.
    found = found.float().nan_to_num(torch.inf)
    inter_ocular, box = (
        landmark_errors(found, pictures.landmarks, normalizer=normalizer, visible=pictures.visible)
        for normalizer in NORMALIZERS
    )
    errors = [inter_ocular.nanmean(dim=1), box.nanmean(dim=1)]
    if occluded is not None:
        occluded = occluded.to(box.device)
        errors += [mean_errors(box, ~occluded), mean_errors(box, occluded)]
    return [each.cpu().numpy() for each in errors]


def _wait_for(name: str, settings: Settings, stop_at: float) -> Tensor | None:
    while time.time() < stop_at:
        pictures = pictures_under(name, settings)
        if pictures is not None:
            return pictures
        time.sleep(PATIENCE)
    return None

"""Measure a detector on a set: predict, measure, summarise. A stopped measurement resumes."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import advaug
from advaug.augment.corruptions import BENCHMARK_VERSION
from advaug.augment.masks import RENDERER_VERSION
from advaug.base.files import whole_file
from advaug.datasets import Decoding
from advaug.evaluation.batches import Batches
from advaug.evaluation.evaluate import Condition
from advaug.evaluation.loaded import LoadedDetector
from advaug.evaluation.looking import collect, find_landmarks
from advaug.evaluation.planning import (
    Plan,
    check_complete,
    check_fit,
    check_plan,
    choose_conditions,
    mirror_of,
)
from advaug.evaluation.predictions import Pace, Predictions
from advaug.evaluation.sets import EvaluationSet
from advaug.evaluation.summary import Measured, SubsetSummary, measure_errors, summarize

__all__ = ["Evaluation", "claim", "measure"]


@dataclass(frozen=True)
class Evaluation:
    """A detector, measured.

    Attributes:
        detector: Its name.
        found_set: The set it was measured on.
        subsets: Indices of the pictures of each subset.
        plan: How it was measured.
        predictions: What it has found.
        measured: The errors of every picture.
        summaries: Of every subset.
    """

    detector: str
    found_set: EvaluationSet
    subsets: Mapping[str, Sequence[int]]
    plan: Plan
    predictions: Predictions = field(repr=False)
    measured: Measured = field(repr=False)
    summaries: dict[str, SubsetSummary]

    @property
    def pace(self) -> Pace:
        """How long the detector took."""
        return self.predictions.pace


def measure(
    detector: LoadedDetector,
    found_set: EvaluationSet,
    subsets: Mapping[str, Sequence[int]],
    plan: Plan,
    output: Path,
    *,
    say: Callable[[str], None],
) -> Evaluation:
    """Find the landmarks of a set with a detector, or resume from a folder, and measure them.

    Args:
        detector: On the device of the plan.
        found_set: The pictures.
        subsets: Of the set, as `choose_subsets` gives them; the detector sees all pictures.
        plan: How.
        output: Folder for the predictions.
        say: Called with a line about anything unusual.

    Raises:
        DatasetError: If a picture cannot be read.
        OSError: If the folder cannot be written.
        ValueError: If detector, set and plan do not match, or the folder holds the predictions of
            another detector, set or plan.
    """
    num_landmarks = check_plan(plan, detector, output)
    check_fit(detector, found_set, num_landmarks)
    conditions = choose_conditions(plan, num_landmarks)
    check_complete(found_set, conditions)
    flip = mirror_of(found_set, plan)
    claim(output, _settings(detector, found_set, plan, conditions))
    predictions = collect(
        find_landmarks(detector, flip),
        found_set.dataset,
        conditions,
        output,
        device=plan.device,
        batches=Batches(plan.batch_size, say),
        workers=plan.workers,
    )
    measured = measure_errors(predictions, plan.protocol)
    summaries = summarize(measured, subsets, plan.protocol, found_set.scheme)
    return Evaluation(detector.name, found_set, subsets, plan, predictions, measured, summaries)


def claim(output: Path, settings: Mapping[str, Any]) -> None:
    """Claim an existing folder for this measurement: never mix two, never overwrite one.

    Raises:
        ValueError: If it belongs to another measurement.
    """
    path = output / "settings.json"
    if path.exists():
        held = json.loads(path.read_text())
        differing = [name for name in settings if held.get(name) != settings[name]]
        if differing:
            listed = ", ".join(f"{n}: {held.get(n)} there, {settings[n]} here" for n in differing)
            msg = (
                f"`--output` {output} must hold a measurement of the same detector, set and "
                f"conditions to go on with, but differs in {listed}. Choose another `--output`."
            )
            raise ValueError(msg)
        return
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")


def _settings(
    detector: LoadedDetector,
    found_set: EvaluationSet,
    plan: Plan,
    conditions: Mapping[str, Condition],
) -> dict[str, Any]:
    """What predictions depend on: another normaliser or subset needs no new ones."""
    decoding = found_set.decoding or Decoding()
    return {
        "detector": detector.name,
        "weights": detector.fingerprint,
        "pixels": [list(detector.pixels.mean), list(detector.pixels.std)],
        "set": found_set.name,
        "pictures": len(found_set.names),
        "names": hashlib.sha256("\n".join(found_set.names).encode()).hexdigest(),
        "image_size": plan.image_size,
        "orientation": "exif" if decoding.orientation == "exif" else None,
        "white": decoding.white,
        "flip": plan.flip,
        "conditions": list(conditions),
        "masks": RENDERER_VERSION,
        "landmark_c": BENCHMARK_VERSION,
        "advaug": advaug.__version__,
    }

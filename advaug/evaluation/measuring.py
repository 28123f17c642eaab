"""Measure a detector on a set: look, measure, sum up; a stopped measurement goes on."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import advaug
from advaug.augment.corruptions import BENCHMARK_VERSION, SEVERITIES
from advaug.augment.masks import RENDERER_VERSION
from advaug.base.checks import check_at_least_one, check_not_negative
from advaug.base.files import whole_file
from advaug.evaluation.batches import Batches
from advaug.evaluation.corruptions import corruption_conditions, kinds_for
from advaug.evaluation.evaluate import CONDITIONS, Condition
from advaug.evaluation.loaded import LoadedDetector
from advaug.evaluation.metrics import check_normalizer
from advaug.evaluation.predictions import Pace, Predictions, collect, find_landmarks
from advaug.evaluation.sets import EvaluationSet
from advaug.evaluation.summary import (
    Measured,
    Protocol,
    SubsetSummary,
    measure_errors,
    summarize,
)

__all__ = ["LANDMARK_C", "Evaluation", "Plan", "check_plan", "choose_conditions", "measure"]

LANDMARK_C = "landmark-c"
FACE_CONDITIONS = ("masked",)  # drawn from the 68 landmarks of a face


@dataclass(frozen=True)
class Plan:
    """How a detector is to be measured.

    Attributes:
        protocol: Of the errors.
        conditions: Names of `CONDITIONS`, and "landmark-c".
        kinds: Of Landmark-C; None for all that suit the landmarks.
        severities: Of Landmark-C.
        flip: Whether landmarks are averaged over each picture and its mirror image.
        image_size: Side of the pictures.
        batch_size: Pictures that the detector sees at a time.
        workers: Processes that read pictures.
        device: Where the detector is.
    """

    protocol: Protocol
    conditions: tuple[str, ...] = ("clean",)
    kinds: tuple[str, ...] | None = None
    severities: tuple[int, ...] = SEVERITIES
    flip: bool = False
    image_size: int = 256
    batch_size: int = 32
    workers: int = 2
    device: str = "cpu"


@dataclass(frozen=True)
class Evaluation:
    """A detector, measured.

    Attributes:
        detector: What it is called.
        found_set: Where it was measured.
        subsets: Indices of the pictures of each subset.
        plan: How.
        predictions: What it has found.
        measured: The errors of every picture.
        summaries: Of every subset.
        notes: What happened on the way that a reader should know.
    """

    detector: str
    found_set: EvaluationSet
    subsets: Mapping[str, Sequence[int]]
    plan: Plan
    predictions: Predictions = field(repr=False)
    measured: Measured = field(repr=False)
    summaries: dict[str, SubsetSummary]
    notes: list[str]

    @property
    def pace(self) -> Pace:
        """How long it took to look."""
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
    """Let a detector find the landmarks of a set, or go on with what a folder holds; measure them.

    Args:
        detector: On the device of the plan.
        found_set: The pictures.
        subsets: Of the set, as `choose_subsets` gives them; all pictures are looked at.
        plan: How.
        output: Folder for the predictions.
        say: Called with a line about anything unusual.

    Raises:
        DatasetError: If a picture cannot be read.
        OSError: If the folder cannot be written.
        ValueError: If detector, set and plan do not fit each other, or the folder holds the
            predictions of another detector, set or plan.
    """
    num_landmarks = check_plan(plan, detector, output)
    _check_fit(detector, found_set, num_landmarks)
    conditions = choose_conditions(plan, num_landmarks)
    flip = _mirror(found_set, plan)
    claim(output, _settings(detector, found_set, plan, conditions))
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        say(line)

    predictions = collect(
        find_landmarks(detector, flip),
        found_set.dataset,
        conditions,
        output,
        device=plan.device,
        batches=Batches(plan.batch_size, note),
        workers=plan.workers,
    )
    measured = measure_errors(predictions, plan.protocol)
    summaries = summarize(measured, subsets, plan.protocol, found_set.scheme)
    return Evaluation(
        detector.name, found_set, subsets, plan, predictions, measured, summaries, notes
    )


def check_plan(plan: Plan, detector: LoadedDetector, output: Path) -> int:
    """Raise where a plan cannot be carried out, before any picture is read.

    Returns:
        N, the number of the detector's landmarks.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If the detector does not take such pictures, or an option is out of its range.
    """
    check_at_least_one(image_size=plan.image_size, batch_size=plan.batch_size)
    check_not_negative(workers=plan.workers)
    if not plan.protocol.threshold > 0:
        msg = (
            f"`--threshold` must be positive, but got {plan.protocol.threshold}. Pass 0.1 for 10 %."
        )
        raise ValueError(msg)
    num_landmarks = detector.rehearse(plan.image_size, plan.device)
    check_normalizer(plan.protocol.normalizer, num_landmarks)
    choose_conditions(plan, num_landmarks)
    _require_writable(output)
    return num_landmarks


def choose_conditions(plan: Plan, num_landmarks: int) -> dict[str, Condition]:
    """Give the conditions of a plan by name; corruptions are called "kind/severity".

    Raises:
        ValueError: If a condition is unknown or needs other landmarks.
    """
    known = (*CONDITIONS, LANDMARK_C)
    unknown = [name for name in plan.conditions if name not in known]
    if unknown or not plan.conditions:
        got = ", ".join(map(repr, unknown)) or "none"
        msg = f"`--conditions` must be of {', '.join(known)}, but got {got}. Choose of them."
        raise ValueError(msg)
    unfit = [name for name in plan.conditions if name in FACE_CONDITIONS and num_landmarks != 68]
    if unfit:
        msg = (
            f"`--conditions` {', '.join(unfit)} must have the 68 landmarks of a face, but got "
            f"{num_landmarks}. Leave it out."
        )
        raise ValueError(msg)
    # A ratio of Landmark-C is to the clean NME.
    names = [name for name in CONDITIONS if name in plan.conditions or name == "clean"]
    conditions = {name: CONDITIONS[name] for name in names}
    if LANDMARK_C in plan.conditions:
        kinds = kinds_for(num_landmarks) if plan.kinds is None else plan.kinds
        conditions |= corruption_conditions(kinds, plan.severities)
    return conditions


def claim(output: Path, settings: Mapping[str, Any]) -> None:
    """Make an existing folder this measurement's: never mix two, never overwrite one.

    Raises:
        ValueError: If it is another measurement's.
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


def _require_writable(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        msg = (
            f"`--output` must be a folder that can be written, but got {type(error).__name__} for "
            f"{output}: {error.strerror}. Choose another one."
        )
        raise type(error)(msg) from error


def _settings(
    detector: LoadedDetector,
    found_set: EvaluationSet,
    plan: Plan,
    conditions: Mapping[str, Condition],
) -> dict[str, Any]:
    """What predictions depend on: another normaliser or subset needs no new ones."""
    return {
        "detector": detector.name,
        "weights": detector.fingerprint,
        "pixels": [list(detector.pixels.mean), list(detector.pixels.std)],
        "set": found_set.name,
        "pictures": len(found_set.names),
        "names": hashlib.sha256("\n".join(found_set.names).encode()).hexdigest(),
        "image_size": plan.image_size,
        "flip": plan.flip,
        "conditions": list(conditions),
        "masks": RENDERER_VERSION,
        "landmark_c": BENCHMARK_VERSION,
        "advaug": advaug.__version__,
    }


def _check_fit(detector: LoadedDetector, found_set: EvaluationSet, num_landmarks: int) -> None:
    """Raise unless the set is annotated as the detector was trained."""
    scheme = found_set.scheme
    annotated = found_set.dataset[0].landmarks.shape[0] if scheme is None else scheme.num_landmarks
    if annotated != num_landmarks:
        msg = (
            f"`--data` {found_set.name} must have the {num_landmarks} landmarks of "
            f"{detector.name}, but got {annotated}. Choose a set that is annotated as it was "
            "trained."
        )
        raise ValueError(msg)


def _mirror(found_set: EvaluationSet, plan: Plan) -> Sequence[int] | None:
    """The permutation of the flip test; None where it was not asked for."""
    if not plan.flip:
        return None
    if found_set.scheme is None:
        msg = (
            f"`--flip` must know which landmarks a mirror swaps, but got {found_set.name}, whose "
            "scheme is unknown. Leave it out."
        )
        raise ValueError(msg)
    return found_set.scheme.flip_permutation

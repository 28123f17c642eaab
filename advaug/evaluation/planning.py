"""How a detector will be measured, and every reason why it cannot be, before anything is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from advaug.augment.corruptions import GROUPS, SEVERITIES
from advaug.base.checks import check_at_least_one, check_not_negative
from advaug.base.files import require_writable
from advaug.evaluation.corruptions import corruption_conditions, kinds_for
from advaug.evaluation.evaluate import CONDITIONS, Condition
from advaug.evaluation.loaded import LoadedDetector
from advaug.evaluation.normalizers import check_normalizer
from advaug.evaluation.sets import EvaluationSet, require_landmarks
from advaug.evaluation.summary import Protocol

__all__ = ["Plan", "check_complete", "check_fit", "check_plan", "choose_conditions", "mirror_of"]

LANDMARK_C = "landmark-c"
FACE_CONDITIONS = ("masked",)  # drawn from the 68 landmarks of a face


@dataclass(frozen=True)
class Plan:
    """How a detector will be measured.

    Attributes:
        protocol: Of the errors.
        conditions: Names of `CONDITIONS`, and "landmark-c".
        group: Of Landmark-C's kinds, "akin" or "unlike"; never combine the two.
        kinds: Of that group; None for all that suit the landmarks.
        severities: Of Landmark-C.
        flip: Whether landmarks are averaged over each picture and its mirror image.
        image_size: Side of the pictures.
        batch_size: Pictures that the detector sees at a time.
        workers: Processes that read pictures.
        device: Where the detector is.
    """

    protocol: Protocol
    conditions: tuple[str, ...] = ("clean",)
    group: str = "akin"
    kinds: tuple[str, ...] | None = None
    severities: tuple[int, ...] = SEVERITIES
    flip: bool = False
    image_size: int = 256
    batch_size: int = 32
    workers: int = 2
    device: str = "cpu"


def check_plan(plan: Plan, detector: LoadedDetector, output: Path) -> int:
    """Raise if a plan cannot be carried out, before any picture is read.

    Returns:
        N, the number of the detector's landmarks.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If the detector does not accept such pictures, or an option is out of its range.
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
    require_writable("--output", output)
    return num_landmarks


def choose_conditions(plan: Plan, num_landmarks: int) -> dict[str, Condition]:
    """Return the conditions of a plan by name; corruptions are called "kind/severity".

    Raises:
        ValueError: If a condition is unknown or needs other landmarks.
    """
    known = (*CONDITIONS, LANDMARK_C)
    unknown = [name for name in plan.conditions if name not in known]
    if unknown or not plan.conditions:
        got = ", ".join(map(repr, unknown)) or "none"
        msg = f"`--conditions` must be among {', '.join(known)}, but got {got}. Choose from them."
        raise ValueError(msg)
    if num_landmarks != 68:
        unfit = [name for name in plan.conditions if name in FACE_CONDITIONS]
        _require_face("--conditions", unfit, num_landmarks)
    # The ratio of Landmark-C is relative to the clean NME.
    names = [name for name in CONDITIONS if name in plan.conditions or name == "clean"]
    conditions = {name: CONDITIONS[name] for name in names}
    if LANDMARK_C in plan.conditions:
        fitting = kinds_for(num_landmarks, plan.group)
        kinds = fitting if plan.kinds is None else plan.kinds
        conditions |= corruption_conditions(kinds, plan.severities, plan.group)
        _require_face("--kinds", [kind for kind in kinds if kind not in fitting], num_landmarks)
    return conditions


def _require_face(option: str, unfit: Sequence[str], num_landmarks: int) -> None:
    """Raise if something would be drawn from the landmarks of a face that has others."""
    if unfit:
        msg = (
            f"`{option}` {', '.join(unfit)} must have the 68 landmarks of a face, but got "
            f"{num_landmarks}. Leave it out."
        )
        raise ValueError(msg)


def check_fit(detector: LoadedDetector, found_set: EvaluationSet, num_landmarks: int) -> None:
    """Raise unless the set is annotated as the detector was trained."""
    scheme = found_set.scheme
    annotated = found_set.dataset[0].landmarks.shape[0] if scheme is None else scheme.num_landmarks
    require_landmarks(found_set.name, annotated, num_landmarks, detector.name)


def check_complete(found_set: EvaluationSet, conditions: Mapping[str, Condition]) -> None:
    """Raise if something would be drawn from landmarks that have no position."""
    kinds = [pair for group in GROUPS.values() for pair in group.items()]
    drawn = {kind for kind, corruption in kinds if corruption.face}
    asked = {name.split("/")[0] for name in conditions}
    unfit = sorted(asked & {*FACE_CONDITIONS, *drawn})
    if unfit and not found_set.complete:
        msg = (
            f"`--conditions` {', '.join(unfit)} must have all landmarks of a face, but got "
            f"{found_set.name}, where some have no place. Leave it out, or name other `--kinds`."
        )
        raise ValueError(msg)


def mirror_of(found_set: EvaluationSet, plan: Plan) -> Sequence[int] | None:
    """The permutation of the flip test; None if it was not requested."""
    if not plan.flip:
        return None
    if found_set.scheme is None:
        msg = (
            f"`--flip` must know which landmarks a mirror swaps, but got {found_set.name}, whose "
            "scheme is unknown. Leave it out."
        )
        raise ValueError(msg)
    return found_set.scheme.flip_permutation

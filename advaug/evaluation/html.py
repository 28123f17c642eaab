"""An evaluation as one HTML page that contains its pictures and requires no network."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import advaug
from advaug.base.files import whole_file
from advaug.evaluation.charts import COLOURS, curve_chart, face_chart, scatter_chart
from advaug.evaluation.evaluate import CONDITIONS
from advaug.evaluation.looking import collate
from advaug.evaluation.measuring import Evaluation
from advaug.evaluation.summary import CURVE_REACH, SubsetSummary
from advaug.evaluation.tables import name_of_normalizer, percent

__all__ = ["write_html"]

TEMPLATE = Path(__file__).with_name("report.html.jinja")
JPEG_QUALITY = 88
NORMALIZERS = {
    "inter_ocular": "the distance between the outer corners of the eyes (inter-ocular)",
    "inter_pupil": "the distance between the centres of the eyes (inter-pupil)",
    "box": "the square root of the area of the landmarks' box",
    "diagonal": "the diagonal of the landmarks' box",
}


@dataclass(frozen=True)
class WorstPicture:
    """A picture on which the detector fails.

    Attributes:
        name: Of the picture.
        error: Its NME, a fraction.
        source: The picture as a `data:` address.
        side: Its width and height in pixels.
        pairs: x and y of each visible landmark, the true one and the detector's.
        occluded: Which of these something covers.
    """

    name: str
    error: float
    source: str
    side: int
    pairs: list[tuple[float, float, float, float]]
    occluded: list[bool]


def write_html(evaluation: Evaluation, path: Path, *, worst: int = 12) -> None:
    """Write the report; the file gets its name only when it is complete. Requires jinja2.

    Args:
        evaluation: What it reports on.
        path: The file; its folder must exist.
        worst: How many of the worst pictures to show under each plain condition.

    Raises:
        ImportError: If jinja2 is not installed.
        OSError: If the file cannot be written.
    """
    require_report()
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    text = template.render(_content(evaluation, worst))
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_report() -> None:
    """Raise where what a report needs is missing, which the extra `evaluate` installs.

    Raises:
        ImportError: If jinja2 or tqdm is not installed.
    """
    try:
        import jinja2  # noqa: F401 # `write_html` uses it; here only its absence counts
        import tqdm  # noqa: F401 # likewise, while the landmarks are found
    except ImportError as error:
        message = (
            f"jinja2 and tqdm must be installed to evaluate, but got: {error}. Run "
            "`pip install 'advaug[evaluate]'`."
        )
        raise ImportError(message) from error


def _content(evaluation: Evaluation, worst: int) -> dict[str, Any]:
    """The variables of the template."""
    plain = [name for name in evaluation.predictions.found if "/" not in name]
    main = max(evaluation.summaries, key=lambda name: evaluation.summaries[name].pictures)
    scheme = evaluation.found_set.scheme
    regions = {} if scheme is None else scheme.regions
    return {
        "evaluation": evaluation,
        "version": advaug.__version__,
        "plain": plain,
        "main": main,
        "occlusion": evaluation.measured.occluded is not None,
        "limit": f"{100 * evaluation.plan.protocol.threshold:g}",
        "normalizer": _describe_normalizer(evaluation),
        "regions": list(regions),
        "colours": COLOURS,
        "curves": {name: _curves(evaluation, name) for name in plain},
        "scatters": {name: _scatter(evaluation, name) for name in plain},
        "scatter_groups": list(_groups(evaluation)),
        "faces": {name: _face(evaluation, name, main, regions) for name in plain},
        "heat": _heat(evaluation.summaries[main]),
        "worst": {name: _worst(evaluation, name, worst) for name in plain},
    }


def _describe_normalizer(evaluation: Evaluation) -> str:
    name = name_of_normalizer(evaluation)
    return NORMALIZERS.get(name, f"the distance between the landmarks {name}")


def _curves(evaluation: Evaluation, condition: str) -> str:
    threshold = 100 * evaluation.plan.protocol.threshold
    curves = {}
    for subset, summary in evaluation.summaries.items():
        curve = summary.details[condition].ced
        curves[subset] = [
            (100 * limit, 100 * share)
            for limit, share in zip(curve.thresholds, curve.shares, strict=True)
        ]
    label = f"Cumulative error distribution of every subset, {condition} pictures"
    return curve_chart(curves, label=label, x_end=CURVE_REACH * threshold, threshold=threshold)


def _groups(evaluation: Evaluation) -> dict[str, list[int]]:
    """Every picture once, in the smallest of its subsets."""
    groups: dict[str, list[int]] = {}
    taken: set[int] = set()
    by_size = sorted(evaluation.subsets, key=lambda name: len(evaluation.subsets[name]))
    for name in by_size:
        left = [index for index in evaluation.subsets[name] if index not in taken]
        if left:
            groups[name] = left
            taken.update(left)
    return {name: groups[name] for name in evaluation.subsets if name in groups}


def _scatter(evaluation: Evaluation, condition: str) -> str:
    errors = evaluation.measured.pictures(condition)
    measured = (~errors.isnan()).tolist()
    values = (100 * errors).tolist()
    groups = {
        name: [(index, values[index]) for index in indices if measured[index]]
        for name, indices in _groups(evaluation).items()
    }
    label = f"NME of every picture, {condition}"
    return scatter_chart(groups, label=label, threshold=100 * evaluation.plan.protocol.threshold)


def _face(
    evaluation: Evaluation, condition: str, subset: str, regions: Mapping[str, Sequence[int]]
) -> str:
    errors = evaluation.summaries[subset].details[condition].landmarks
    shown = torch.where(
        evaluation.predictions.visible[..., None], evaluation.predictions.landmarks, torch.nan
    )
    means = shown.nanmean(dim=0)
    colour = {i: number for number, indices in enumerate(regions.values()) for i in indices}
    scheme = evaluation.found_set.scheme
    named = scheme.names if scheme is not None and scheme.names else [""] * len(errors)
    return face_chart(
        [None if x != x else (x, y) for x, y in means.tolist()],
        [None if error is None else 100 * error for error in errors],
        [f"{index} {name}".strip().replace("_", " ") for index, name in enumerate(named)],
        [colour.get(index, 0) for index in range(len(errors))],
        label=f"Mean error of every landmark, {condition} pictures, {subset}",
    )


def _heat(summary: SubsetSummary) -> float:
    """The largest mean of Landmark-C, a fraction, which gets the full colour; 0 without any."""
    kinds = {} if summary.landmark_c is None else summary.landmark_c["kinds"]
    return max((value for levels in kinds.values() for value in levels.values()), default=0.0)


def _worst(evaluation: Evaluation, condition: str, count: int) -> list[WorstPicture]:
    """The measured pictures with the largest errors, the worst one first."""
    errors = evaluation.measured.pictures(condition)
    chosen = sorted({index for indices in evaluation.subsets.values() for index in indices})
    known = [index for index in chosen if not errors[index].isnan()]
    order = sorted(known, key=lambda index: -errors[index].item())[:count]
    return [_picture(evaluation, condition, index, errors[index].item()) for index in order]


def _picture(evaluation: Evaluation, condition: str, index: int, error: float) -> WorstPicture:
    """Read a picture again, and change it exactly as when it was measured."""
    predictions = evaluation.predictions
    pictures = collate([evaluation.found_set.dataset[index]])
    number = torch.tensor([index])
    image = CONDITIONS[condition](pictures.images, pictures.landmarks, number)[0]
    visible = predictions.visible[index]
    both = torch.cat([predictions.landmarks[index], predictions.found[condition][index]], dim=1)
    occluded = (
        torch.zeros_like(visible) if predictions.occluded is None else predictions.occluded[index]
    )
    return WorstPicture(
        evaluation.found_set.names[index],
        error,
        _data_address(image),
        image.shape[-1],
        [(a, b, c, d) for a, b, c, d in both[visible].tolist()],
        occluded[visible].tolist(),
    )


def _data_address(image: Tensor) -> str:
    pixels = (255 * image.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()

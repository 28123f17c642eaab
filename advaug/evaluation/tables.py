"""An evaluation as JSON and CSV. Everything in them is a fraction: 0.04 is 4 %."""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from advaug.base.files import whole_file
from advaug.evaluation.measuring import Evaluation

__all__ = ["as_document", "format_summary", "name_of_normalizer", "write_tables"]

MEASURES = ("nme", "failure_rate", "auc", "auc_simpson", "nme_visible", "nme_occluded")


def write_tables(evaluation: Evaluation, folder: Path) -> None:
    """Write `results.json`, `results.csv`, `landmarks.csv` and `samples.csv`.

    Each file gets its name only when it is complete.

    Args:
        evaluation: What to write.
        folder: An existing folder.
    """
    _write(folder / "results.json", json.dumps(as_document(evaluation), indent=1, allow_nan=False))
    _write_csv(
        folder / "results.csv", ["subset", "condition", "pictures", *MEASURES], _results(evaluation)
    )
    conditions = list(evaluation.predictions.found)
    plain = [name for name in conditions if "/" not in name]
    _write_csv(
        folder / "landmarks.csv",
        ["subset", "landmark", "name", "region", *plain],
        _landmarks(evaluation, plain),
    )
    _write_csv(folder / "samples.csv", ["index", "picture", *conditions], _samples(evaluation))


def as_document(evaluation: Evaluation) -> dict[str, Any]:
    """Everything except the errors of single pictures, as JSON can hold it."""
    plan, found_set = evaluation.plan, evaluation.found_set
    return {
        "detector": evaluation.detector,
        "set": found_set.name,
        "pictures": len(found_set.names),
        "landmarks": evaluation.predictions.landmarks.shape[1],
        "image_size": plan.image_size,
        "flip": plan.flip,
        "normalizer": name_of_normalizer(evaluation),
        "threshold": plan.protocol.threshold,
        "group": plan.group,
        "subsets": {name: asdict(found) for name, found in evaluation.summaries.items()},
        "pace": asdict(evaluation.pace),
        "notes": list(evaluation.predictions.notes),
    }


def name_of_normalizer(evaluation: Evaluation) -> str:
    """The normaliser in the command line's notation."""
    normalizer = evaluation.plan.protocol.normalizer
    return normalizer if isinstance(normalizer, str) else ",".join(str(int(i)) for i in normalizer)


def format_summary(evaluation: Evaluation) -> str:
    """A Markdown table of every subset and plain condition, in percent, for a terminal."""
    occlusion = evaluation.measured.occluded is not None
    limit = f"@{100 * evaluation.plan.protocol.threshold:g}"
    header = ["subset", "condition", "pictures", "NME %", f"FR{limit} %", f"AUC{limit} %"]
    header += ["NME visible %", "NME occluded %"] if occlusion else []
    names = ["nme", "failure_rate", "auc", *(MEASURES[4:] if occlusion else ())]
    rows = [header]
    for subset, summary in evaluation.summaries.items():
        for condition in summary.details:
            found = summary.conditions[condition]
            numbers = [percent(getattr(found, name)) for name in names]
            rows.append([subset, condition, str(found.pictures), *numbers])
        if summary.landmark_c is not None:
            mean = percent(summary.landmark_c["corrupted"])
            filler = [""] * (len(header) - 4)
            rows.append([subset, "Landmark-C", str(summary.pictures), mean, *filler])
    return _markdown(rows)


def percent(value: float | None) -> str:
    """A fraction in percent, or a dash."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.2f}"


def _results(evaluation: Evaluation) -> Iterable[list[Any]]:
    for subset, summary in evaluation.summaries.items():
        for condition, found in summary.conditions.items():
            values = [getattr(found, name) for name in MEASURES]
            yield [subset, condition, found.pictures, *values]


def _landmarks(evaluation: Evaluation, plain: Sequence[str]) -> Iterable[list[Any]]:
    scheme = evaluation.found_set.scheme
    names = () if scheme is None else scheme.names
    regions = {} if scheme is None else scheme.regions
    region_of = {i: name for name, indices in regions.items() for i in indices}
    for subset, summary in evaluation.summaries.items():
        for index in range(evaluation.predictions.landmarks.shape[1]):
            values = [summary.details[condition].landmarks[index] for condition in plain]
            name = names[index] if names else ""
            yield [subset, index, name, region_of.get(index, ""), *values]


def _samples(evaluation: Evaluation) -> Iterable[list[Any]]:
    errors = {
        condition: evaluation.measured.pictures(condition).tolist()
        for condition in evaluation.predictions.found
    }
    for index, name in enumerate(evaluation.found_set.names):
        values = [found[index] for found in errors.values()]
        yield [index, name, *(None if math.isnan(value) else value for value in values)]


def _write(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    _write(path, text.getvalue().rstrip("\n"))


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = ["-" * width for width in widths]
    lines = [rows[0], rule, *rows[1:]]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)

"""Bring what the runs have left into three files: numbers, errors of each picture, and tables."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advaug.base.files import whole_file
from lab.study.report import write_report
from lab.study.settings import Settings
from lab.trainer import write_json

__all__ = ["collect"]


def collect(settings: Settings, report: Path) -> None:
    """Write `study.json`, `errors.npz` and `study.md` for all runs that have been measured.

    Args:
        settings: Of the study.
        report: Folder of the three files.
    """
    output, results, errors = settings.output, [], {}
    for run in settings.runs():
        folder = run.folder(output)
        if (folder / "result.json").exists():
            results.append(json.loads((folder / "result.json").read_text()))
            with np.load(folder / "errors.npz") as held:
                errors |= {f"{run.arm}-{run.seed}/{name}": held[name] for name in held.files}
    if not results:
        return
    subsets = _read(output / "subsets.json")
    study = {"plan": _read(output / "plan.json"), "results": results, **subsets}
    report.mkdir(parents=True, exist_ok=True)
    write_json(report / "study.json", study)
    _write_errors(report / "errors.npz", errors)
    write_report(report)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _write_errors(path: Path, errors: dict[str, NDArray[np.generic]]) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **errors)

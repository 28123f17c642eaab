"""Bring what the runs have left into three files: numbers, errors of each picture, and tables."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advaug.base.files import whole_file
from lab.study.report import write_report
from lab.study.results import read_json, read_measured
from lab.study.settings import Settings
from lab.trainer import write_json

__all__ = ["collect"]


def collect(settings: Settings, report: Path) -> None:
    """Write `study.json`, `errors.npz` and `study.md` for all runs that have been measured.

    Args:
        settings: Of the study.
        report: Folder of the three files.
    """
    results, errors = [], {}
    for run in settings.runs():
        found = read_measured(run, settings)
        if found is not None:
            results.append(found[0])
            errors |= {f"{run.arm}-{run.seed}/{name}": each for name, each in found[1].items()}
    if not results:
        return
    plan, subsets = (_read(settings.output / f"{name}.json") for name in ("plan", "subsets"))
    study = {"plan": plan, "results": results, **subsets}
    report.mkdir(parents=True, exist_ok=True)
    write_json(report / "study.json", study)
    _write_errors(report / "errors.npz", errors)
    write_report(report)


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _write_errors(path: Path, errors: dict[str, NDArray[np.generic]]) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **errors)

"""Tables of a study, from its two files of numbers."""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from advaug.evaluation.hardness import hardest
from lab.benchmarks.measures import table, write_text
from lab.study.conditions import GROUPS
from lab.study.measure import APART, NORMALIZERS
from lab.study.settings import COMMITTEE

__all__ = ["write_report"]

CONTROL = "plain"
ENOUGH = 3  # seeds
SMALLEST = 10  # pictures of which a tenth can be taken

Column = Callable[["_Measured"], float]


@dataclass(frozen=True)
class _Measured:
    """A run's errors, `(C, B)` by name as `measure` gives them, and their conditions."""

    arm: str
    seed: int
    conditions: list[str]
    errors: Mapping[str, NDArray[np.floating[Any]]]

    def row(self, condition: str, kind: str) -> NDArray[np.floating[Any]]:
        """`(B,)`; NaN where it was not measured."""
        errors = self.errors[kind]
        if condition not in self.conditions:
            return np.full(errors.shape[1], np.nan)
        return errors[self.conditions.index(condition)]

    def mean(self, condition: str, normalizer: str = "inter_ocular", mask: Any = None) -> float:  # noqa: ANN401 # of NumPy's indices
        """Over the pictures that can be measured, all or those of a mask."""
        row = self.row(condition, normalizer)
        row = row if mask is None else row[mask]
        return float(np.nanmean(row)) if np.isfinite(row).any() else math.nan


def write_report(folder: Path) -> None:
    """Write `study.md` from `study.json` and `errors.npz` beside it."""
    study = json.loads((folder / "study.json").read_text())
    with np.load(folder / "errors.npz") as held:
        errors = {name: held[name] for name in held.files}
    measured = [_measured(result, errors) for result in study["results"]]
    tested = [each for each in measured if each.arm != COMMITTEE]
    subsets = _subsets(study, measured)
    parts = [_about(study), _steps_table(study)]
    if tested:
        real = {**_real_columns(subsets), **_hidden_columns(tested)}
        parts += [
            "NME %, mean ± standard deviation over the seeds. Real pictures:",
            _table(tested, real),
            "The same pictures, changed by a program (inter-ocular NME %):",
            _table(tested, _rendered_columns(tested)),
            *_comparison(tested, {**real, **_rendered_columns(tested)}),
            "By kind of corruption, mean over the severities (inter-ocular NME %):",
            _kinds_table(tested),
        ]
    write_text(folder / "study.md", "\n\n".join(parts))


def _measured(result: dict[str, Any], errors: dict[str, NDArray[Any]]) -> _Measured:
    name = f"{result['arm']}-{result['seed']}"
    known = {
        kind: errors[f"{name}/{kind}"]
        for kind in (*NORMALIZERS, *APART)
        if f"{name}/{kind}" in errors
    }
    conditions = [str(each) for each in errors[f"{name}/conditions"]]
    return _Measured(result["arm"], result["seed"], conditions, known)


def _subsets(study: dict[str, Any], measured: Sequence[_Measured]) -> dict[str, NDArray[np.bool_]]:
    """Masks by name; the committee's as soon as one of it is there and the set is large enough."""
    found = {name: np.array(mask) for name, mask in study.get("subsets", {}).items()}
    committee = [each.row("clean", "box") for each in measured if each.arm == COMMITTEE]
    if committee and committee[0].size >= SMALLEST:
        found["hardest tenth"] = hardest(torch.from_numpy(np.stack(committee))).numpy()
    return found


def _about(study: dict[str, Any]) -> str:
    plan = study["plan"]
    shared = plan["settings"]
    return (
        f"{plan['machine']}, torch {plan['versions']['torch']}; HG\\*1 of width {shared['width']}, "
        f"{shared['image_size']} px, batch {shared['batch_size']}, precision "
        f"{shared['precision']}{_regularised(shared)}. {_what_is_equal(plan)} with "
        f"nothing else on the device; {plan['processes']} processes share it, and together take "
        f"{plan['costs']['throughput']:.2f} times as many steps per second as one. Measured on "
        f"{len(study.get('names', []))} pictures of the set {shared['measured']!r}."
    )


def _regularised(shared: Mapping[str, Any]) -> str:
    averaging, decay = shared.get("averaging", 0), shared.get("weight_decay", 0)
    parts = [f"an average of the weights (decay {averaging:g}) measured"] if averaging else []
    parts += [f"weight decay {decay:g}"] if decay else []
    return "".join(f", {part}" for part in parts)


def _what_is_equal(plan: dict[str, Any]) -> str:
    if plan["settings"].get("equal", "time") == "time":
        return f"Equal time: each run takes as many steps as cost {plan['seconds']:.0f} s"
    return (
        f"Equal steps, not equal time: each run takes {max(plan['steps'].values())} steps; those "
        f"of the dearest arm cost {plan['seconds']:.0f} s"
    )


def _steps_table(study: dict[str, Any]) -> str:
    costs = study["plan"]["costs"]["steps"]
    plain = costs.get("plain", math.nan)
    rows = []
    for arm in dict.fromkeys(result["arm"] for result in study["results"]):
        runs = [result for result in study["results"] if result["arm"] == arm]
        done = "/".join(str(run["steps"]) for run in runs)
        short = sum(run["steps"] < run["planned"] for run in runs)
        cost = costs.get(arm, math.nan)
        rows.append(
            [arm, f"{1000 * cost:.1f}", f"{cost / plain:.2f}", done, str(short), runs[0]["way"]]
        )
    cost = "ms per step on an idle device"
    header = ["arm", cost, "in plain steps", "steps", "runs cut short", "steps run"]
    return table(header, rows, markdown=True)


def _real_columns(subsets: Mapping[str, NDArray[np.bool_]]) -> dict[str, Column]:
    def of(normalizer: str, mask: Any = None) -> Column:  # noqa: ANN401 # of NumPy's indices
        return lambda run: run.mean("clean", normalizer, mask)

    parts = {f"{name}, box": of("box", mask) for name, mask in subsets.items()}
    return {"all, inter-ocular": of("inter_ocular"), "all, box": of("box"), **parts}


def _hidden_columns(runs: Sequence[_Measured]) -> dict[str, Column]:
    """Landmarks that something hides apart from the others, where the set says which they are."""
    titles = {"visible": "landmarks in sight, box", "occluded": "hidden landmarks, box"}
    return {
        titles[kind]: lambda run, kind=kind: run.mean("clean", kind)
        for kind in APART
        if all(kind in run.errors for run in runs)
    }


def _rendered_columns(runs: Sequence[_Measured]) -> dict[str, Column]:
    def group(kinds: Sequence[str]) -> Column:
        return lambda run: _mean([_kind(run, kind) for kind in kinds])

    plain = {name: lambda run, name=name: run.mean(name) for name in ("masked", "occluded")}
    known = {kind for run in runs for kind in map(_kind_of, run.conditions)}
    groups = {
        f"Landmark-C, {name}": group(kept)
        for name, kinds in GROUPS.items()
        if (kept := [kind for kind in kinds if kind in known])
    }
    return {**plain, **groups}


def _kinds_table(runs: Sequence[_Measured]) -> str:
    arms = list(dict.fromkeys(run.arm for run in runs))
    kinds = list(dict.fromkeys(_kind_of(name) for run in runs for name in run.conditions))
    rows = [
        [kind, *(_cell([_kind(run, kind) for run in runs if run.arm == arm]) for arm in arms)]
        for kind in kinds
    ]
    return table(["kind", *arms], rows, markdown=True)


def _table(runs: Sequence[_Measured], columns: Mapping[str, Column]) -> str:
    rows = [
        [
            arm,
            *(_cell([value(run) for run in runs if run.arm == arm]) for value in columns.values()),
        ]
        for arm in dict.fromkeys(run.arm for run in runs)
    ]
    return table(["arm", *columns], rows, markdown=True)


def _comparison(runs: Sequence[_Measured], columns: Mapping[str, Column]) -> list[str]:
    """Every arm against the control, seed by seed: seeds differ more than many arms do."""
    control = {run.seed: run for run in runs if run.arm == CONTROL}
    rows = []
    for arm in dict.fromkeys(run.arm for run in runs if run.arm != CONTROL):
        pairs = [(run, control[run.seed]) for run in runs if run.arm == arm and run.seed in control]
        cells = [_cell([value(a) - value(b) for a, b in pairs]) for value in columns.values()]
        if pairs:
            rows.append([arm, str(len(pairs)), *cells])
    if not rows:
        return []
    few = any(int(row[1]) < ENOUGH for row in rows)
    warning = f" **Fewer than {ENOUGH} seeds: no conclusion.**" if few else ""
    return [
        f"Less `{CONTROL}` of the same seed, in percentage points, mean ± standard deviation of "
        f"the differences; below 0 is better.{warning}",
        table(["arm", "seeds", *columns], rows, markdown=True),
    ]


def _kind_of(condition: str) -> str:
    return condition.split("/")[0]


def _kind(run: _Measured, kind: str) -> float:
    return _mean([run.mean(name) for name in run.conditions if _kind_of(name) == kind])


def _mean(values: Sequence[float]) -> float:
    """NaN where one is missing: a mean over fewer kinds would look like one over all."""
    return math.fsum(values) / len(values) if values else math.nan


def _cell(values: Sequence[float]) -> str:
    """Percent, with the spread where there is one."""
    known = [100 * value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    mean = f"{statistics.fmean(known):.2f}"
    return mean if len(known) < 2 else f"{mean} ± {statistics.stdev(known):.2f}"

"""Tables and pictures of a study. Needs the extra `examples` (matplotlib, scipy)."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from advaug.base.files import whole_file
from lab.study.cost import Costs, read_costs
from lab.study.results import Result, paired, read_results, spread

__all__ = ["BUDGETS", "report_text", "write_report"]

MEASURES = {
    "clean": "clean",
    "masked": "masked",
    "occluded": "occluded",
    "corrupted": "corrupted",
    "worst": "worst kind",
}
BUDGETS = ("steps", "time")
ENOUGH = 3  # seeds
DASH = "–"


@dataclass(frozen=True)
class Row:
    """The results of one arm at one budget.

    Attributes:
        arm: Its name.
        results: By seed.
        steps: Of each run.
        cost: Of a step, in plain steps; NaN if it was never measured. At equal time all runs cost
            the same.
    """

    arm: str
    results: Mapping[int, Result]
    steps: int
    cost: float

    def values(self, measure: str) -> dict[int, float]:
        """In percent, by seed."""
        return {seed: 100 * found["nme"][measure] for seed, found in self.results.items()}


def write_report(output: Path, *, control: str, order: Sequence[str] = ()) -> str:
    """Write `report.md`, `robustness.png` and `gallery.png` to a study's folder.

    Args:
        output: The folder; runs that are not complete are left out.
        control: Name of the arm that the others are compared with.
        order: Names of arms, in the order of the rows; those of others follow.

    Returns:
        The text of `report.md`.

    Raises:
        ValueError: If the folder holds no result, or none of the control arm.
    """
    tables = _tables(output, control, order)
    text = report_text(tables, control)
    with whole_file(output / "report.md") as temporary:
        temporary.write_text(text)
    _save(_robustness(tables), output / "robustness.png")
    rows = {row.arm: row for table in reversed(tables.values()) for row in table}
    gallery = _gallery(output, list(rows.values()))
    if gallery is not None:
        _save(gallery, output / "gallery.png")
    return text


def report_text(tables: Mapping[str, Sequence[Row]], control: str) -> str:
    """The tables of every budget in Markdown.

    Args:
        tables: The rows of each budget of `BUDGETS`.
        control: Name of the arm that the others are compared with.
    """
    titles = {"steps": "At an equal number of steps", "time": "At equal time"}
    parts = ["# Study\n", _preamble([row for table in tables.values() for row in table])]
    for budget, table in tables.items():
        parts += [
            f"## {titles[budget]}\n",
            _means(table),
            f"### Against {control}, seed by seed\n",
            _comparisons(table, control),
            "### By kind of corruption\n",
            _kinds(table),
        ]
    return "\n".join(parts)


def _tables(output: Path, control: str, order: Sequence[str]) -> dict[str, list[Row]]:
    results, costs = read_results(output), read_costs(output)
    if not any(found["arm"] == control for found in results):
        arms = ", ".join(sorted({found["arm"] for found in results})) or "none"
        msg = (
            f"`--control` must be an arm with results in {output}, but got {control!r}; there are "
            f"results of: {arms}. Train it, or choose one of these."
        )
        raise ValueError(msg)
    settings = json.loads((output / "settings.json").read_text())
    ranks = {name: rank for rank, name in enumerate(order)}
    arms = sorted({found["arm"] for found in results}, key=lambda n: (ranks.get(n, len(ranks)), n))
    tables = {}
    for budget in BUDGETS if costs.factor is not None else BUDGETS[:1]:
        rows = [_row(results, costs, arm, budget, settings["steps"]) for arm in arms]
        if any(row.arm == control and row.results for row in rows):
            tables[budget] = [row for row in rows if row.results]
    return tables


def _row(results: Sequence[Result], costs: Costs, arm: str, budget: str, steps: int) -> Row:
    cost = costs.arms[arm]["ratio"] if arm in costs.arms else math.nan
    allowed = costs.steps(arm, steps) if budget == "time" and arm in costs.arms else steps
    chosen = {
        found["seed"]: found
        for found in results
        if found["arm"] == arm and found["steps"] == allowed
    }
    return Row(arm, chosen, allowed, cost)


def _preamble(rows: Sequence[Row]) -> str:
    """What the numbers are, and what a reader must know before he believes them."""
    found = [result for row in rows for result in row.results.values()]
    lines = [
        "NME in percent, mean ± standard deviation over the seeds; less is better. *Corrupted* is "
        "the mean over the kinds and severities of the benchmark, *worst kind* the mean of the "
        "worst of them. *Cost* is that of a step, in plain steps.",
        "",
    ]
    few = sorted({row.arm for row in rows if len(row.results) < ENOUGH})
    if few:
        lines.append(f"**Fewer than {ENOUGH} seeds** (no conclusion): {', '.join(few)}.\n")
    for name, values in {
        "commit": {result.get("commit") for result in found},
        "device": {result["seconds"].get("device") for result in found},
    }.items():
        lines.append(f"- {name}: {', '.join(sorted(map(str, values)))}")
    settings = found[0].get("settings", {})
    lines += [f"- {name}: {value}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


def _means(rows: Sequence[Row]) -> str:
    header = ["arm", "seeds", "steps", "cost", *MEASURES.values()]
    body = []
    for row in rows:
        worst = Counter(found["nme"]["worst_kind"] for found in row.results.values())
        cells = [_spread_text(list(row.values(measure).values())) for measure in MEASURES]
        cells[-1] += f" ({worst.most_common(1)[0][0]})"
        seeds = str(len(row.results)) + (" (few)" if len(row.results) < ENOUGH else "")
        body.append([row.arm, seeds, str(row.steps), f"{row.cost:.2f}", *cells])
    return _markdown(header, body)


def _comparisons(rows: Sequence[Row], control: str) -> str:
    """Mean difference, p, and the difference of every seed."""
    reference = next(row for row in rows if row.arm == control)
    body = []
    for row in rows:
        for measure, title in MEASURES.items():
            found = paired(row.values(measure), reference.values(measure))
            if row is reference or found is None:
                continue
            relative = 100 * found.mean / spread(list(reference.values(measure).values()))[0]
            few = len(found.differences) < ENOUGH
            p = DASH if math.isnan(found.p) else f"{found.p:.3g}"
            seeds = ", ".join(f"{each:+.2f}" for each in found.differences)
            cells = [f"{found.mean:+.2f}", f"{relative:+.1f} %", p + " (few seeds)" * few, seeds]
            body.append([row.arm, title, *cells])
    return _markdown(["arm", "measure", "difference", "relative", "p (paired t)", "by seed"], body)


def _kinds(rows: Sequence[Row]) -> str:
    """A row a kind, a column an arm: means over severities and seeds."""
    kinds = list(next(iter(rows[0].results.values()))["nme"]["kinds"])
    body = []
    for kind in kinds:
        cells = []
        for row in rows:
            values = [
                value
                for found in row.results.values()
                for value in found["nme"]["kinds"][kind].values()
            ]
            cells.append(f"{100 * spread(values)[0]:.2f}")
        body.append([kind, *cells])
    return _markdown(["kind", *(row.arm for row in rows)], body)


def _spread_text(values: Sequence[float]) -> str:
    mean, deviation = spread(values)
    return f"{mean:.2f} ± {DASH if math.isnan(deviation) else f'{deviation:.2f}'}"


def _markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _robustness(tables: Mapping[str, Sequence[Row]]) -> Figure:
    """Error against cost, every arm a point at each budget, with the spread over the seeds."""
    shown = ("corrupted", "masked", "clean")
    figure = Figure(figsize=(5.2 * len(shown) + 2.6, 5.2), layout="constrained")
    arms = list(dict.fromkeys(row.arm for table in tables.values() for row in table))
    points = {}
    markers: dict[str, str] = dict(zip(BUDGETS, "os", strict=True))
    for axes, measure in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for budget, rows in tables.items():
            for row in rows:
                if math.isnan(row.cost):
                    continue
                mean, deviation = spread(list(row.values(measure).values()))
                points[row.arm] = axes.errorbar(
                    row.cost,
                    mean,
                    yerr=None if math.isnan(deviation) else deviation,
                    fmt=markers[budget],
                    color=colormaps["tab20"](arms.index(row.arm) % 20),
                    mfc=None if budget == "steps" else "white",
                    capsize=2,
                )
        axes.set(
            title=f"{MEASURES[measure]}; ● equal steps, □ equal time",
            xlabel="cost of a step, in plain steps",
            ylabel="NME %",
        )
        axes.grid(alpha=0.3)
    # Beside the plots: at equal time arms lie so close that names at the points would overlap.
    figure.legend(points.values(), points.keys(), loc="outside right upper", fontsize=8)
    return figure


def _gallery(output: Path, rows: Sequence[Row]) -> Figure | None:
    """What every arm makes of the same training faces, a row an arm; None without pictures."""
    pictures = {}
    for row in rows:
        seed = min(row.results)
        path = output / "runs" / row.arm / f"{row.steps}_steps" / f"seed_{seed}" / "pictures.npy"
        if path.exists():
            pictures[row.arm] = np.load(path)
    if not pictures:
        return None
    columns = len(next(iter(pictures.values())))
    figure = Figure(figsize=(1.5 * columns + 1, 1.5 * len(pictures)), layout="constrained")
    panels = figure.subplots(len(pictures), columns, squeeze=False)
    for axes_row, (arm, shown) in zip(panels, pictures.items(), strict=True):
        for axes, picture in zip(axes_row, shown, strict=True):
            axes.imshow(picture.transpose(1, 2, 0))
            axes.set(xticks=[], yticks=[])
        axes_row[0].set_ylabel(arm, rotation=0, ha="right", va="center", fontsize=8)
    return figure


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG that has its name only when it is whole."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")

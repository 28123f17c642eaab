"""Figures 3 to 5 of the paper with our runs: curves, all errors, the worst pictures."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advaug.base.files import whole_file
from advaug.evaluation.evaluate import Errors
from advaug.evaluation.report import plot_ced
from lab.reproduce.print import spread
from lab.reproduce.rows import NAMES, WAYS, Ours
from lab.reproduce.runs import Bench

__all__ = ["FIGURES", "FIGURE_ROWS", "FIGURE_TEST", "draw_figure"]

FIGURE_TEST = "300w"
FIGURE_ROWS = tuple(Ours("hg1", way) for way in WAYS)
SUBSETS = ("challenging", "common", "full")
WORST = 6
FAILURE = 10.0  # percent
TITLES = {
    3: "Share of the pictures below each NME",
    4: "NME of all pictures of the Full set, seed 0",
    5: "The pictures that plain HG*1 finds hardest, seed 0: true landmarks green, found ones red",
}


def draw_figure(number: int, bench: Bench, folder: Path) -> str:
    """Draw a figure of the paper into a folder, and say in Markdown what it shows."""
    path = folder / f"figure_{number}.png"
    table = FIGURES[number](bench, path)
    title = TITLES[number].replace("*", r"\*")
    return f"## Figure {number}: {title}\n\n![Figure {number}]({path.name})\n\n{table}\n"


def _curves(bench: Bench, path: Path) -> str:
    """Figure 3."""
    pooled = {}
    lines = ["| method | challenging | common | full |", "| --- | --: | --: | --: |"]
    for ours in FIGURE_ROWS:
        found = [bench.errors(run, FIGURE_TEST) for run in bench.runs_of(ours)]
        pooled[_title(ours)] = {
            subset: Errors(torch.cat([errors[subset] for errors in found])) for subset in SUBSETS
        }
        means = [
            spread([100 * errors[subset].nanmean().item() for errors in found], 2)
            for subset in SUBSETS
        ]
        lines.append(f"| {_escaped(ours)} | {' | '.join(means)} |")
    plot_ced(pooled, path)
    return "Mean NME in percent. The curves are of all seeds together.\n\n" + "\n".join(lines)


def _scatter(bench: Bench, path: Path) -> str:
    """Figure 4."""
    errors = _percent_of_first(bench)
    figure = _figure((4 * len(errors), 3.4))
    highest = 1.05 * max(float(values.nan_to_num(0).max()) for values in errors.values())
    lines = [f"| method | pictures | NME above {FAILURE:g} % | largest NME % |"]
    lines.append("| --- | --: | --: | --: |")
    panels = figure.subplots(1, len(errors), sharey=True, squeeze=False)[0]
    for axes, (ours, values) in zip(panels, errors.items(), strict=True):
        axes.plot(values.numpy(), ".", markersize=3)
        axes.axhline(FAILURE, color="C3", linewidth=0.8)
        axes.set(title=_title(ours), xlabel="picture", ylim=(0, highest))
        worst = values.nan_to_num(0).max().item()
        failed = int((values > FAILURE).sum())
        lines.append(f"| {_escaped(ours)} | {len(values)} | {failed} | {worst:.2f} |")
    panels[0].set_ylabel("NME %")
    _save(figure, path)
    return "\n".join(lines)


def _worst(bench: Bench, path: Path) -> str:
    """Figure 5."""
    errors = _percent_of_first(bench)
    plain = errors[FIGURE_ROWS[0]].nan_to_num(-1)
    order = plain.argsort(descending=True, stable=True)[:WORST].tolist()
    places = [list(bench.places(FIGURE_TEST, "full"))[place] for place in order]
    figure = _figure((1.9 * len(places), 2.1 * len(errors)))
    panels = figure.subplots(len(errors), len(places), squeeze=False)
    for row, ours in zip(panels, errors, strict=True):
        batch, found = bench.landmarks(bench.runs_of(ours)[0], FIGURE_TEST, places)
        pictures = zip(batch.images.cpu(), batch.landmarks.cpu(), found.cpu(), strict=True)
        for axes, place, (image, true, guess) in zip(row, order, pictures, strict=True):
            axes.imshow(image.permute(1, 2, 0).numpy())
            axes.plot(*true.T.numpy(), "g.", markersize=2)
            axes.plot(*guess.T.numpy(), "r.", markersize=2)
            side = image.shape[-1]
            axes.set(xticks=[], yticks=[], xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
            axes.set_xlabel(f"{errors[ours][place]:.1f} %", fontsize="small")
        row[0].set_ylabel(_title(ours), fontsize="small")
    _save(figure, path)
    lines = ["| method | mean NME % of these pictures |", "| --- | --: |"]
    lines += [
        f"| {_escaped(ours)} | {values[order].mean():.2f} |" for ours, values in errors.items()
    ]
    return "\n".join(lines)


FIGURES: Mapping[int, Callable[[Bench, Path], str]] = {3: _curves, 4: _scatter, 5: _worst}


def _percent_of_first(bench: Bench) -> dict[Ours, Tensor]:
    """Errors on the Full set of the first seed of each way."""
    return {
        ours: 100 * bench.errors(bench.runs_of(ours)[0], FIGURE_TEST)["full"]
        for ours in FIGURE_ROWS
    }


def _title(ours: Ours) -> str:
    return WAYS[ours.way].format(NAMES[ours.detector]).replace("`", "")


def _escaped(ours: Ours) -> str:
    return WAYS[ours.way].format(NAMES[ours.detector]).replace("*", r"\*")


def _figure(size: tuple[float, float]) -> Any:  # noqa: ANN401 # matplotlib is imported late
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _save(figure: Any, path: Path) -> None:  # noqa: ANN401 # matplotlib's
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")

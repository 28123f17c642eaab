"""Time of a step as the batch and as the pictures grow: what `benchmark.py step --sweep` runs."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from advaug.base.files import whole_file
from lab.benchmarks.arms import Settings
from lab.benchmarks.measures import Clock, digits, table
from lab.benchmarks.table import time_arms

SWEPT = ("plain", "alternating", "shared", "fused")
Points = dict[tuple[int, int], dict[str, float]]


def sweep(
    settings: Settings, arguments: argparse.Namespace, clock: Clock, picture: Path | None
) -> tuple[str, dict[str, object]]:
    """Time as the batch grows at the given side, and as the side grows at the given batch.

    Args:
        settings: Side and batch of the run are where one stays and the other grows.
        arguments: Of the command.
        clock: Measures.
        picture: Where the plot goes, if anywhere.
    """
    points: Points = {}
    for side, batch in (
        *((settings.image_size, batch) for batch in arguments.sweep_batches),
        *((side, settings.batch_size) for side in arguments.sweep_sides),
    ):
        if (side, batch) not in points:
            there = replace(settings, image_size=side, batch_size=batch)
            points[side, batch] = _time_of(there, arguments, clock)
    header = ("side, batch", *(f"{name}, {unit}" for name in SWEPT for unit in ("ms", "ns/px")))
    lines = [
        (f"{side}, {batch}", *(cell for name in SWEPT for cell in _cells(found, name, side, batch)))
        for (side, batch), found in points.items()
    ]
    if picture is not None:
        plot(points, settings, picture)
    results = [{"side": s, "batch": b, "seconds": found} for (s, b), found in points.items()]
    return table(header, lines, markdown=arguments.markdown), {"points": results}


def _time_of(settings: Settings, arguments: argparse.Namespace, clock: Clock) -> dict[str, float]:
    """Median seconds of each arm; none where the memory does not suffice."""
    try:
        rows = time_arms(SWEPT, settings, arguments, clock)
    except torch.OutOfMemoryError:
        return {}
    return {name: row.median for name, row in rows.items()}


def _cells(found: dict[str, float], name: str, side: int, batch: int) -> tuple[str, str]:
    if name not in found:
        return "out of memory", ""
    return digits(1000 * found[name]), f"{1e9 * found[name] / (batch * side**2):.3g}"


def plot(points: Points, settings: Settings, path: Path) -> None:
    """Time of a step over its pixels, once as the batch grows and once as the side does."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4), sharey=True)
    growing = {
        "batch": [point for point in points if point[0] == settings.image_size],
        "side": [point for point in points if point[1] == settings.batch_size],
    }
    for axis, (kind, chosen) in zip(axes, growing.items(), strict=True):
        measured = sorted((s * s * b, points[s, b]) for s, b in chosen if points[s, b])
        pixels = [count for count, _ in measured]
        for name in SWEPT:
            axis.loglog(pixels, [1000 * found[name] for _, found in measured], "o-", label=name)
        axis.set_xticks(pixels, [f"{count:,}" for count in pixels])
        axis.minorticks_off()
        axis.set_title(f"the {kind} grows")
        axis.set_xlabel("pixels a step")
    axes[0].set_ylabel("ms a step")
    axes[0].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)

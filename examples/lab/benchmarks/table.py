"""The table of `benchmark.py step`: time, memory and operations of each arm, and the goals."""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from lab.benchmarks.arms import ARMS, Settings, Step, title_of
from lab.benchmarks.measures import (
    MEBI,
    Clock,
    Cost,
    cost_of,
    digits,
    interleaved,
    matrix_rate,
    table,
)

FLOOR = "two-copies"
SETTLE = 5  # calls before the first that counts; a captured step needs four
MATRIX_SIDE = {"cpu": 1536, "cuda": 8192}
CPU_SLACK = 1.1  # of the goals on two CPU cores
# Arm, what it is divided by, and at most what that may give.
GOALS = (
    ("fused", "plain", 2.5),
    ("shared", "plain", 2.8),
    ("alternating", "plain", 3.2),
    ("fused", "pgd-1", 1.0),
    ("alternating-paper", "literal", 0.75),
)
MEMORY_GOAL = ("fused", FLOOR, 1.25)


UNKNOWN = Cost(float("nan"), 0)


@dataclass(frozen=True)
class Row:
    """What was measured of one arm.

    Attributes:
        title: What the table says.
        seconds: Of a step, one for each round.
        note: What is to be said of it.
        cost: Operations and memory.
    """

    title: str
    seconds: list[float]
    note: str | None = None
    cost: Cost = UNKNOWN

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    def over(self, other: "Row") -> list[float]:
        """Its time over another's in each round."""
        return [mine / its for mine, its in zip(self.seconds, other.seconds, strict=True)]


def benchmark_steps(
    settings: Settings, arguments: argparse.Namespace, clock: Clock
) -> tuple[str, dict[str, object]]:
    """The table of all arms, and whether the goals are met."""
    names = _chosen(arguments)
    rate = matrix_rate(settings.device, settings.dtype, clock, MATRIX_SIDE[settings.device.type])
    costs = {name: _cost(name, settings) for name in names}
    rows = {
        name: replace(row, cost=costs[name])
        for name, row in time_arms(names, settings, arguments, clock).items()
    }
    text = "\n\n".join(
        [
            f"Matrix rate: {rate / 1e12:.3g} TFLOP/s in {settings.precision}.",
            _step_table(rows, settings, rate, markdown=arguments.markdown),
            *(f"{row.title}: {row.note}." for row in rows.values() if row.note is not None),
            _goal_table(rows, settings, markdown=arguments.markdown),
        ]
    )
    results = {
        name: {"title": row.title, "seconds": row.seconds, **row.cost._asdict(), "note": row.note}
        for name, row in rows.items()
    }
    return text, {"matrix_rate": rate, "arms": results}


def _chosen(arguments: argparse.Namespace) -> list[str]:
    """The arms in the order of the table, the plain step always; graphs where they are asked for.

    A graph keeps the memory of its step, so a few of them fill a card that has room for one.
    """
    if arguments.arms is not None:
        return [name for name in ARMS if name == "plain" or name in arguments.arms]
    return [name for name, arm in ARMS.items() if arguments.captured or not arm.captured]


def _cost(name: str, settings: Settings) -> Cost:
    """Operations of the arm as it is, memory as it runs."""
    arm = ARMS[name]

    def make(settings: Settings) -> Step:
        return Step(arm, settings)

    calls = SETTLE if arm.captured else arm.period
    if not settings.compile:
        return cost_of(lambda: make(settings), settings.device, calls, count=not arm.captured)
    plainly = replace(settings, compile=False)
    flops = cost_of(lambda: make(plainly), settings.device, calls, count=not arm.captured).flops
    peak = cost_of(lambda: make(settings), settings.device, calls, count=False).peak
    return Cost(flops, peak)


def time_arms(
    names: Sequence[str], settings: Settings, arguments: argparse.Namespace, clock: Clock
) -> dict[str, Row]:
    """Make every arm, let it settle, and time them in turns."""
    steps = {name: Step(ARMS[name], settings) for name in names}
    for name, step in steps.items():
        for _ in range(SETTLE if settings.device.type == "cuda" else ARMS[name].period):
            step()
    # A lazy arm repeats itself after some steps: only whole periods are fair.
    whole = {name: -(-arguments.steps // ARMS[name].period) * ARMS[name].period for name in names}
    timings = {name: partial(clock.seconds, step, whole[name]) for name, step in steps.items()}
    seconds = interleaved(timings, arguments.repeats)
    return {
        name: Row(title_of(name, step.detector), seconds[name], step.uncaptured)
        for name, step in steps.items()
    }


def _step_table(rows: dict[str, Row], settings: Settings, rate: float, *, markdown: bool) -> str:
    header = (
        *("step", "ms", "over plain", "least", "most", "peak MiB"),
        *("over two copies", "pictures/s", "GFLOP", "of matrix rate"),
    )
    lines = []
    for row in rows.values():
        ratios = row.over(rows["plain"])
        floor = rows[FLOOR].cost.peak if FLOOR in rows else float("nan")
        lines.append(
            (
                row.title,
                digits(1000 * row.median),
                *(f"{kind(ratios):.2f}" for kind in (statistics.median, min, max)),
                f"{row.cost.peak / MEBI:.0f}",
                f"{row.cost.peak / floor:.2f}",
                digits(settings.batch_size / row.median),
                f"{row.cost.flops / 1e9:.4g}",
                f"{row.cost.flops / row.median / rate:.0%}",
            )
        )
    return table(header, [_without_nan(line) for line in lines], markdown=markdown)


def _without_nan(line: Sequence[str]) -> list[str]:
    return ["" if cell.startswith("nan") else cell for cell in line]


def _goal_table(rows: dict[str, Row], settings: Settings, *, markdown: bool) -> str:
    slack = CPU_SLACK if settings.device.type == "cpu" else 1.0
    lines = []
    for name, other, most in GOALS:
        if name in rows and other in rows:
            found = statistics.median(rows[name].over(rows[other]))
            goal = most * slack
            lines.append((f"{name} / {other}", f"{goal:.2f}", f"{found:.2f}", _met(found <= goal)))
    name, other, most = MEMORY_GOAL
    if name in rows and other in rows:
        found = rows[name].cost.peak / rows[other].cost.peak
        lines.append(
            (f"peak memory, {name} / {other}", f"{most}", f"{found:.2f}", _met(found <= most))
        )
    return table(("goal", "at most", "measured", "met"), lines, markdown=markdown)


def _met(met: bool) -> str:  # what is asked
    return "yes" if met else "no"

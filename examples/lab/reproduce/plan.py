"""What tables and figures need, and whether it can be had: settled before anything is trained."""

from collections.abc import Iterable, Sequence

import torch

from advaug.errors import DatasetError
from lab.reproduce.figures import FIGURE_ROWS, FIGURE_TEST
from lab.reproduce.networks import load_detector, make_detector
from lab.reproduce.rows import Ours, PaperTable, Row
from lab.reproduce.runs import Bench, Run
from lab.reproduce.tables import TABLES

__all__ = ["check", "needed_runs", "rows_of"]


def rows_of(table: PaperTable, detectors: Sequence[str]) -> list[Row]:
    """The rows of a table that only the paper has, or that are of these detectors."""
    return [row for row in table.rows if row.ours is None or row.ours.detector in detectors]


def needed_runs(
    tables: Iterable[int], figures: Iterable[int], bench: Bench
) -> list[tuple[Run, str]]:
    """Runs, each with the test set it is measured on; those of one training set together."""
    needed: dict[tuple[Ours, str], None] = {}
    for number in tables:
        test = TABLES[number].test
        for row in rows_of(TABLES[number], bench.settings.detectors):
            if row.ours is not None and test is not None:
                needed[row.ours, test] = None
    if any(True for _ in figures):
        needed |= dict.fromkeys((ours, FIGURE_TEST) for ours in FIGURE_ROWS)
    found = [(run, test) for ours, test in needed for run in bench.runs_of(ours)]
    return sorted(found, key=lambda each: each[0].train.name)


def check(needed: Sequence[tuple[Run, str]], bench: Bench) -> None:
    """Raise where a set, a file of weights or a network cannot be used.

    Raises:
        DatasetError: If pictures are missing or broken.
        ValueError: If weights are of another detector, or of no run in here.
    """
    _check_weights(needed, bench)
    side = bench.settings.budget.image_size
    for run in {run.ours.detector: run for run, _ in needed}.values():
        shape = (side - 1) * torch.rand(run.train.scheme.num_landmarks, 2)
        with torch.no_grad():
            network = make_detector(run.ours.detector, shape, bench.settings.budget)
            network.eval()(torch.zeros(1, 3, side, side))
    for train in {run.train.name: run.train for run, _ in needed}.values():
        _require_pictures(train.label, len(train.open()))  # pyright: ignore[reportArgumentType] # sets have a length
    for test in {test for _, test in needed}:
        opened = bench.source.tests[test].open()
        for subset, places in opened.subsets.items():
            _require_pictures(f"{subset} of {bench.source.tests[test].label}", len(places))
    for run, test in needed:
        _require_same_landmarks(run, test, bench)


def _require_same_landmarks(run: Run, test: str, bench: Bench) -> None:
    theirs, ours = bench.source.tests[test].scheme, run.train.scheme
    if theirs.num_landmarks != ours.num_landmarks:
        msg = (
            f"{test} must have the {ours.num_landmarks} landmarks of {run.train.label}, but has "
            f"{theirs.num_landmarks}. Choose other data."
        )
        raise DatasetError(msg)


def _require_pictures(label: str, count: int) -> None:
    if count == 0:
        msg = f"{label} must have a picture at least, but has none. Give more data."
        raise DatasetError(msg)


def _check_weights(needed: Sequence[tuple[Run, str]], bench: Bench) -> None:
    runs = {run.name: run for run, _ in needed}
    for name, path in bench.settings.weights.items():
        if name not in runs:
            msg = (
                f"`--weights` must name a run of what is asked for, one of {', '.join(runs)}, but "
                f"got {name!r}. Write NAME=FILE."
            )
            raise ValueError(msg)
        run = runs[name]
        if run.ours.watched:
            msg = (
                f"`--weights` cannot give {name!r}, which is observed while it trains. Leave it "
                "out of `--weights`."
            )
            raise ValueError(msg)
        load_detector(run.ours.detector, path, run.train.scheme.num_landmarks)

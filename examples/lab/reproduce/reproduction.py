"""From what is asked for to files of Markdown: check all, train what is missing, write."""

import sys
from collections.abc import Sequence

from filelock import FileLock, Timeout

from advaug.base.files import require_writable, whole_file
from lab.reproduce.figures import draw_figure
from lab.reproduce.measures import apart_of, cell_of
from lab.reproduce.plan import check, needed_runs, rows_of
from lab.reproduce.print import format_apart, format_paper_table
from lab.reproduce.runs import Bench, Run
from lab.reproduce.settings import Settings
from lab.reproduce.sources import open_source
from lab.reproduce.tables import TABLES

__all__ = ["reproduce"]


def reproduce(settings: Settings, tables: Sequence[int], figures: Sequence[int]) -> list[str]:
    """Make tables and figures, each also as a file in the output folder.

    Args:
        settings: How, and on what.
        tables: Numbers of the paper's tables.
        figures: Numbers of its figures.

    Returns:
        Each of them as Markdown.

    Raises:
        DatasetError: If the pictures cannot be used.
        ValueError: If something does not go together, or another process works in the folder.
        OSError: If the folder cannot be written to.
    """
    budget = settings.budget
    source = open_source(settings.data, settings.root, budget.image_size, budget.limit)
    bench = Bench(settings, source, lambda text: print(text, file=sys.stderr))
    needed = needed_runs(tables, figures, bench)
    check(needed, bench)
    require_writable("--output", settings.output)
    try:
        with FileLock(settings.output / ".lock", timeout=0):
            _work(needed, bench)
            found = {f"table_{number}": _table(number, bench) for number in tables}
            for number in figures:
                found[f"figure_{number}"] = draw_figure(number, bench, settings.output)
            for name, text in found.items():
                with whole_file(settings.output / f"{name}.md") as temporary:
                    temporary.write_text(text)
    except Timeout as error:
        msg = (
            f"`--output` must be a folder that no other process works in, but {settings.output} "
            "is in use. Wait for the other one, or choose another folder."
        )
        raise ValueError(msg) from error
    return list(found.values())


def _work(needed: Sequence[tuple[Run, str]], bench: Bench) -> None:
    """Train and measure all that is missing."""
    left = {run.name for run, _ in needed if not bench.is_done(run)}
    if left:
        print(f"{len(left)} kinds of runs are to be trained", file=sys.stderr)
    for run, test in needed:
        if run.ours.watched:
            bench.observations(run)
        else:
            bench.errors(run, test)


def _table(number: int, bench: Bench) -> str:
    table, settings = TABLES[number], bench.settings
    rows = rows_of(table, settings.detectors)
    text = format_paper_table(
        table,
        rows,
        lambda row, column: cell_of(bench, table, column, row.ours),  # pyright: ignore[reportArgumentType] # rows of ours
        about=_about(number, bench),
    )
    apart = {row.method: apart_of(bench, table, row.ours) for row in rows if row.ours is not None}
    return text + format_apart(apart) if any(apart.values()) else text


def _about(number: int, bench: Bench) -> list[str]:
    """What our numbers are of, and what they are not."""
    table, settings = TABLES[number], bench.settings
    if table.test is None:
        return [f"Ours: the paper's networks, on this machine's {settings.device}."]
    budget, seeds = settings.budget, settings.seeds
    ours = [row.ours for row in rows_of(table, settings.detectors) if row.ours is not None]
    trains = sorted({bench.source.trains[each.train].label for each in ours})
    steps = budget.observe_until if number == 9 else budget.steps  # the table of watched runs
    spread = "one seed" if seeds == 1 else f"mean ± standard deviation of {seeds} seeds"
    about = [
        f"Ours: {spread}, {steps} steps of {budget.batch_size} pictures of {budget.image_size} px, "
        f"trained on {'; '.join(trains)}; measured on {bench.source.tests[table.test].label}."
    ]
    given = sorted({run.name for each in ours for run in bench.runs_of(each)} & {*settings.weights})
    if given:
        about.append(f"From given weights, however they were trained: {', '.join(given)}.")
    if bench.source.stands_in:
        about.append("Other pictures than the paper's: compare our rows with each other only.")
    return about

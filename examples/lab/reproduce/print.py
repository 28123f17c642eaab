"""Tables as Markdown: the paper's value, ours with its spread, the difference, the errata below."""

import statistics
from collections.abc import Callable, Mapping, Sequence

from lab.benchmarks.measures import table as markdown_table
from lab.reproduce.rows import Column, Note, PaperTable, Row

__all__ = ["format_apart", "format_paper_table", "spread"]

Cell = Callable[[Row, Column], list[float] | str]
NOTHING = "–"


def format_paper_table(
    table: PaperTable, rows: Sequence[Row], cell: Cell, *, about: Sequence[str]
) -> str:
    """A table as Markdown.

    Args:
        table: Of the paper.
        rows: Those of it that are shown.
        cell: From a row of ours and a column to a number a seed, or a word.
        about: Sentences on what our numbers are of.
    """
    notes = _Footnotes(table)
    title = f"## Table {table.number}: {table.title}{notes.of(None, None)}"
    grouped = any(row.group for row in rows)
    header = ["trained on"] * grouped + ["method"]
    for column in table.columns:
        header += [f"{column.title}: paper", "ours", "difference"]
    lines = [header, ["---"] * (1 + grouped) + ["--:"] * 3 * len(table.columns)]
    for row in rows:
        line = [row.group] * grouped + [_escaped(row.method) + notes.of(row, None)]
        for column, value in zip(table.columns, row.values, strict=True):
            found = None if row.ours is None else cell(row, column)
            line += _three(value, found, column.digits, notes.of(row, column))
        lines.append(line)
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    parts = [title, f"Section {table.section} of the paper. " + " ".join(about), body, notes.text()]
    return "\n\n".join(part for part in parts if part) + "\n"


def format_apart(numbers: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """NME on visible and on occluded landmarks, as Markdown.

    Args:
        numbers: From the name of a row to that of a column to a number a seed, in percent.
    """
    columns = list(next(iter(numbers.values())))
    rows = [
        [_escaped(method), *(spread(found[column], 2) for column in columns)]
        for method, found in numbers.items()
    ]
    about = (
        "NME (%) of ours on the landmarks that the set marks as visible and as occluded, apart. "
        "The paper has no such numbers."
    )
    return f"\n{about}\n\n{markdown_table(['method', *columns], rows, markdown=True)}\n"


def spread(values: Sequence[float], digits: int) -> str:
    """The mean, and where there are several the standard deviation."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _three(
    value: float | str | None, found: list[float] | str | None, digits: int, mark: str
) -> list[str]:
    """The cells of one column."""
    paper = f"{value:.{digits}f}" if isinstance(value, int | float) else value or NOTHING
    if found is None or isinstance(found, str):
        return [paper + mark, found or NOTHING, NOTHING]
    difference = NOTHING
    if isinstance(value, int | float):
        difference = f"{statistics.fmean(found) - value:+.{digits}f}"
    return [paper + mark, spread(found, digits), difference]


class _Footnotes:
    """The notes of a table, numbered in their order of appearance."""

    def __init__(self, table: PaperTable) -> None:
        self.table = table
        self.used: list[Note] = []

    def of(self, row: Row | None, column: Column | None) -> str:
        """The marks of a cell, of a row without a column, or of the table."""
        wanted = ("", None, column and column.title)
        if row is not None:
            wanted = (row.group, row.method, column and column.title)
        marks = [self._mark(note) for note in self.table.notes if self._place(note) == wanted]
        return "".join(marks)

    def text(self) -> str:
        """The footnotes themselves."""
        return "\n".join(f"{self._mark(note)}: {_escaped(note.text)}" for note in self.used)

    def _place(self, note: Note) -> tuple[str, str | None, str | None]:
        return note.group, note.row, note.column

    def _mark(self, note: Note) -> str:
        if note not in self.used:
            self.used.append(note)
        return f"[^t{self.table.number}-{self.used.index(note) + 1}]"


def _escaped(text: str) -> str:
    """Stars as they are, not as emphasis."""
    return text.replace("*", r"\*")

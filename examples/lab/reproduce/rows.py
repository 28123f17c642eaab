"""What a table of the paper is made of: columns, rows, notes, and our runs that belong there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from lab.reproduce.sources import W300

__all__ = [
    "NAMES",
    "SUBSETS_300W",
    "WAYS",
    "Column",
    "Note",
    "Ours",
    "PaperTable",
    "Row",
    "Value",
    "cited",
    "full_notes",
    "trained",
]

Value = float | str | None

NAMES: Mapping[str, str] = {"mdm": "MDM", "hg1": "HG*1", "hg2": "HG*2"}
WAYS: Mapping[str, str] = {
    "plain": "{}",
    "paper": "{} + SAAT",
    "augment": "{} + SAAT, by `augment`",
}


@dataclass(frozen=True)
class Ours:
    """Which of our runs a row shows.

    Attributes:
        detector: "mdm", "hg1" or "hg2".
        way: How it is trained: "plain", "paper", "augment" or the name of an ablation.
        train: Key of the training set.
        covered: Whether training pictures get occluding patches.
        watched: Whether it is measured again and again after it has converged.
    """

    detector: str
    way: str
    train: str = W300
    covered: bool = False
    watched: bool = False


@dataclass(frozen=True)
class Row:
    """One line: the paper's values, one a column, and our runs, if we have any."""

    method: str
    values: tuple[Value, ...]
    ours: Ours | None = None
    group: str = ""


@dataclass(frozen=True)
class Column:
    """A heading, the subset it is about, and the measure: a name in `lab.reproduce.measures`."""

    title: str
    subset: str
    measure: str = "nme"
    digits: int = 2


@dataclass(frozen=True)
class Note:
    """What is wrong or open in the paper, about a row of a group (or all) and a column (or all)."""

    text: str
    row: str | None = None
    column: str | None = None
    group: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper; `test` is the key of the test set, None for the networks themselves."""

    number: int
    title: str
    section: str
    test: str | None
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[Note, ...] = ()


def trained(
    values: Mapping[tuple[str, str], Sequence[Value]],
    count: int,
    detectors: Sequence[str] = tuple(NAMES),
    *,
    train: str = W300,
    covered: bool = False,
    group: str = "",
) -> tuple[Row, ...]:
    """Rows of each detector in each way, with the paper's values where it has them."""
    nothing = (None,) * count
    return tuple(
        Row(
            WAYS[way].format(NAMES[detector]),
            tuple(values.get((detector, way), nothing)),
            Ours(detector, way, train, covered),
            group,
        )
        for way, detector in product(WAYS, detectors)
    )


def cited(rows: Mapping[str, Sequence[Value]], group: str = "") -> tuple[Row, ...]:
    """Rows of other methods, by name, with the paper's values only."""
    return tuple(Row(method, tuple(values), None, group) for method, values in rows.items())


SUBSETS_300W = tuple(Column(name.title(), name) for name in ("challenging", "common", "full"))
COMMON, CHALLENGING = 554, 135  # pictures
ROUNDING = 0.02  # what is left to numbers of two digits


def full_notes(rows: Sequence[Row]) -> tuple[Note, ...]:
    """One for each row whose Full is not the mean of its Common and Challenging."""
    notes = []
    for row in rows:
        challenging, common, full = map(float, (value or 0 for value in row.values))
        implied = (COMMON * common + CHALLENGING * challenging) / (COMMON + CHALLENGING)
        if abs(implied - full) > ROUNDING:
            text = (
                f"Full should be (554 Common + 135 Challenging) / 689, which is {implied:.2f} by "
                f"this row's own numbers, but the paper prints {full:.2f}."
            )
            notes.append(Note(text, row.method, "Full"))
    return tuple(notes)

"""`advaug data check` and `advaug data preview`: what a data set holds, and how it looks."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from advaug.cli.output import say
from advaug.cli.reading import add_decoding, add_skip_broken, decoding_of

if TYPE_CHECKING:
    from advaug.datasets.decoding import Decoding
    from advaug.datasets.known import KnownDataset

__all__ = ["add_data"]

COLUMNS = "{:<16}{:>10}{:>10}{:>10}{:>10}"


def add_data(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `advaug data`."""
    parser = commands.add_parser(
        "data",
        help="check a data set, or look at it",
        description="Check a data set, or look at it.",
    )
    parser.set_defaults(run=lambda _: parser.print_help())
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="list what is there, missing or broken, and where to request it",
        description="Read every file of a data set once. Prints a table of its subsets, and one "
        "line for each missing or broken file. The exit status is 0 if the set is complete.",
    )
    _add_dataset(check)
    check.add_argument(
        "--subsets", nargs="+", metavar="NAME", help="some subsets (default: the whole set)"
    )
    check.set_defaults(run=_check)
    preview = actions.add_parser(
        "preview",
        help="draw a contact sheet with landmarks, boxes and visibility",
        description="Draw pictures of a data set, evenly spread, with their landmarks, boxes and "
        "crops, into one png file.",
    )
    _add_dataset(preview)
    preview.add_argument("--subset", metavar="NAME", help="which subset (default: the first)")
    preview.add_argument(
        "--out", type=Path, default=Path("preview.png"), help="file to write (preview.png)"
    )
    preview.add_argument("--count", type=int, default=24, help="how many pictures (default: 24)")
    add_skip_broken(preview)
    preview.set_defaults(run=_preview)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="ROOT", type=Path, help="folder of the data set")
    parser.add_argument(
        "--dataset", required=True, metavar="NAME", help="300w, wflw, ...; a wrong one lists all"
    )
    add_decoding(parser)


def _check(arguments: argparse.Namespace) -> None:
    """Check subsets one by one, and raise at the end if any is incomplete.

    Raises:
        DatasetError: If anything is missing or broken.
    """
    from advaug.datasets.known import find_known
    from advaug.errors import DatasetError

    known = find_known(arguments.dataset)
    decoding = decoding_of(arguments)
    known.check_decoding(decoding)
    subsets = [known.require_subset(name) for name in arguments.subsets or known.parts]
    say(f"{known.title}, in {arguments.root}")
    say(COLUMNS.format("subset", "published", "usable", "missing", "problems"))
    problems: list[str] = []
    for subset in subsets:
        found = _check_subset(known, arguments.root, subset, decoding)
        problems += [problem for problem in found if problem not in problems]
    for problem in problems:
        say(f"  - {problem}")
    say(f"Where to get the data: {known.ask}")
    if problems:
        message = (
            f"`{arguments.root}` must hold all of {known.name}, but got {len(problems)} problems, "
            "listed above. Repair them, or leave them out where the set is used: with "
            "`skip_broken=True`, or `--skip-broken` of `advaug evaluate` and `advaug data preview`."
        )
        raise DatasetError(message, problems=problems)


def _check_subset(
    known: "KnownDataset", root: Path, subset: str, decoding: "Decoding | None"
) -> list[str]:
    """Print the line of a subset, and return its problems."""
    from advaug.errors import DatasetError

    problems: list[str] = []
    try:
        usable = len(known.open(root, subset, decoding=decoding))
    except DatasetError as error:
        problems = list(error.problems) or [str(error)]
        usable = error.usable
    published = known.subsets[subset]
    missing = "-" if published is None else max(published - usable, 0)
    expected = "-" if published is None else published
    say(COLUMNS.format(subset, expected, usable, missing, len(problems)))
    return problems


def _preview(arguments: argparse.Namespace) -> None:
    from advaug.base.checks import check_at_least_one
    from advaug.base.files import require_writable, whole_file
    from advaug.datasets.known import find_known, open_known
    from advaug.datasets.preview import contact_sheet

    # Before the set is opened, which reads every file.
    check_at_least_one(count=arguments.count)
    find_known(arguments.dataset).require_subset(arguments.subset)
    require_writable("--out", arguments.out.parent)
    dataset = open_known(
        arguments.dataset,
        arguments.root,
        arguments.subset,
        skip_broken=arguments.skip_broken,
        decoding=decoding_of(arguments),
    )
    sheet = contact_sheet(dataset, count=arguments.count)
    with whole_file(arguments.out) as path:
        sheet.save(path, format="PNG")
    say(f"{min(arguments.count, len(dataset))} of {len(dataset)} pictures in {arguments.out}")

"""Make the tables and figures of the paper again, with the paper's numbers beside ours.

    python examples/reproduce.py --table 1 6
    python examples/reproduce.py --table all --figure all --budget smoke
    python examples/reproduce.py --table 1 --data pts --root FOLDER --budget small
    python examples/reproduce.py --table all --data real --root FOLDER --budget paper --device cuda

Without data the faces are drawn, and only the rows of ours can be compared. Start the same command
again after a stop and it goes on. Runs are shared between tables; all is kept in `--output`.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from lab.reproduce import BUDGETS, DETECTORS, FIGURES, SOURCES, TABLES, Settings, reproduce
from lab.stopped import unless_stopped


def main(words: list[str] | None = None) -> int:
    """Parse the arguments, train what is missing, print."""
    parser = _parser()
    arguments = parser.parse_args(words)
    try:
        tables = _numbers("table", arguments.table, TABLES)
        figures = _numbers("figure", arguments.figure, FIGURES)
        if not tables and not figures:
            msg = "`--table` or `--figure` must say what to make, but both are missing."
            raise ValueError(msg)
        texts = reproduce(_settings(arguments), tables, figures)
    except (ValueError, OSError, ImportError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print("\n".join(texts))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--table", nargs="+", default=[], metavar="N", help="1 to 9, or all")
    add("--figure", nargs="+", default=[], metavar="N", help="3 to 5, or all")
    add("--data", choices=SOURCES, default="synthetic")
    add("--root", type=Path, help="folder of the pictures, for all data that is not synthetic")
    add("--budget", choices=tuple(BUDGETS), default="smoke", help="length of the runs")
    add("--steps", type=int, help="of each run, instead of the budget's")
    add("--seeds", type=int, help="runs of each kind, instead of the budget's")
    add("--detectors", nargs="+", choices=DETECTORS, default=DETECTORS, help="rows to make")
    add(
        "--weights",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="detectors that are trained already, such as hg1-paper-300w=FILE",
    )
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--workers", type=int, default=0, help="processes that read pictures")
    add("--output", type=Path, default=Path("runs/reproduce"), help="folder of runs and tables")
    return parser


def _numbers(kind: str, words: Sequence[str], known: Iterable[int]) -> list[int]:
    """Numbers of tables or figures."""
    names = [str(number) for number in known]
    if list(words) == ["all"]:
        words = names
    for word in words:
        if word not in names:
            msg = f"`--{kind}` must be one of {', '.join(names)} or all, but got {word!r}."
            raise ValueError(msg)
    return [int(word) for word in dict.fromkeys(words)]


def _settings(arguments: argparse.Namespace) -> Settings:
    budget = BUDGETS[arguments.budget]
    if arguments.workers < 0:
        msg = f"`--workers` must not be negative, but got {arguments.workers}."
        raise ValueError(msg)
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Settings(
        data=arguments.data,
        root=arguments.root,
        budget=budget if arguments.steps is None else budget.with_steps(arguments.steps),
        output=arguments.output,
        device=device,
        seeds=budget.seeds if arguments.seeds is None else arguments.seeds,
        detectors=tuple(arguments.detectors),
        weights=dict(map(_weight, arguments.weights)),
        workers=arguments.workers,
    )


def _weight(word: str) -> tuple[str, Path]:
    name, separator, path = word.partition("=")
    if not separator or not Path(path).is_file():
        msg = f"`--weights` must be NAME=FILE with a file that is there, but got {word!r}."
        raise ValueError(msg)
    return name, Path(path)


if __name__ == "__main__":
    sys.exit(unless_stopped(main, go_on="Run the same command again to go on."))

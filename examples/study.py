"""Compare ways to train on real hard faces, in a given number of minutes.

    python examples/study.py --plan gpu --minutes 9 --root FOLDER
    python examples/study.py --plan cpu --minutes 600 --root FOLDER --measured choose
    python examples/study.py report --report runs/study/report

FOLDER holds `train` and `val` with pictures named person_frame. The first start measures what a
step of each arm costs and plans runs of equal time, or of equal steps; start the same command again
after a stop and it goes on by that plan. What is not given is the plan's.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import torch
from lab.stopped import unless_stopped
from lab.study import ARMS, PLANS, Settings, run_study, write_report

from advaug.augment.corruptions import check_severities


def main(words: list[str] | None = None) -> int:
    """Run the study, or write its tables again."""
    parser = _parser()
    arguments = parser.parse_args(words)
    report = arguments.report or arguments.output / "report"
    try:
        if arguments.command == "report":
            write_report(report)
            return 0
        left = run_study(_settings(arguments), minutes=arguments.minutes, report=report)
    except (ValueError, RuntimeError, OSError) as error:
        parser.error(str(error))
    for run in left:
        print(f"not done: {run.arm}, seed {run.seed}")
    return 1 if left else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("command", nargs="?", choices=("run", "report"), default="run")
    add("--plan", choices=tuple(PLANS), default="cpu")
    add("--minutes", type=float, default=9.0, help="until all has ended (default 9)")
    add("--root", type=Path, default=Path("data"), help="folder of the pictures")
    add("--output", type=Path, default=Path("runs/study"), help="folder to work in")
    add("--report", type=Path, help="folder of the tables (default: in the other one)")
    titles = "\n".join(f"{name}: {arm.title}" for name, arm in ARMS.items())
    add("--arms", nargs="+", metavar="ARM", choices=tuple(ARMS), help=titles)
    add("--seeds", nargs="+", type=int)
    add("--committee", type=int, help="plain runs that choose the hardest pictures")
    add("--measured", choices=("test", "choose"), help="`val`, or 40 people held back from `train`")
    add("--choose-people", type=int, help="how many are held back")
    add(
        "--equal",
        choices=("time", "steps"),
        help="what all runs have the same of (default time); cheaper arms then take less time",
    )
    add(
        "--negative",
        choices=("position", "occluded"),
        help="what negative numbers of `.pts` files mean; occluded: hidden landmarks stand apart",
    )
    add("--severities", nargs="+", type=int, help="of the rendered corruptions")
    add("--learning-rate", type=float)
    add("--averaging", type=float, help="decay of the average of weights that is measured, as 0.99")
    add("--weight-decay", type=float, help="of AdamW, for all arms (default 0: Adam)")
    add("--batch-size", type=int)
    add("--image-size", type=int)
    add("--device", choices=("cpu", "cuda"))
    add("--precision", choices=("no", "bf16"))
    add("--processes", type=int, help="that train at the same time (default: the plan's)")
    add("--threads", type=int, help="of each process on a CPU")
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    """The plan's, with what the command line says."""
    own = {"command", "plan", "minutes", "report"}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(arguments).items()
        if name not in own and value is not None
    }
    settings = Settings(**{**PLANS[arguments.plan], **given})
    check_severities(settings.severities)
    for name in ("minutes", "batch_size", "threads"):
        value = getattr(arguments, name)
        if value is not None and value <= 0:
            msg = f"`--{name.replace('_', '-')}` must be above 0, but got {value}."
            raise ValueError(msg)
    if not 0 <= settings.averaging < 1:
        msg = f"`--averaging` must be from 0 to below 1, but got {settings.averaging}. Try 0.99."
        raise ValueError(msg)
    if not 0 <= settings.weight_decay < math.inf:
        msg = f"`--weight-decay` must be at least 0, but got {settings.weight_decay}. Try 0.01."
        raise ValueError(msg)
    if settings.device == "cuda" and not torch.cuda.is_available():
        msg = "`--device cuda` needs a CUDA device, but there is none. Use `--plan cpu`."
        raise ValueError(msg)
    return settings


if __name__ == "__main__":
    sys.exit(unless_stopped(main, go_on="Run the same command again to go on."))

"""`advaug make-masked` and `advaug corrupt`: write changed copies of a folder of pictures."""

import argparse

from advaug.cli.output import say
from advaug.cli.reading import add_decoding, add_skip_broken, decoding_of

__all__ = ["add_corrupt", "add_make_masked"]


def add_make_masked(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `advaug make-masked`."""
    parser = commands.add_parser(
        "make-masked",
        help="put face masks on a folder of annotated pictures",
        description="Write a copy of a folder of pictures with .pts files in which every face "
        "wears a mask; the landmarks do not change. Can be interrupted and run again.",
    )
    parser.add_argument("source", metavar="SRC", help="folder of pictures with .pts files")
    parser.add_argument("destination", metavar="DST", help="folder to write, new or resumed")
    parser.add_argument("--style", help="one style for all (default: drawn for each picture)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the set (default: 0)")
    add_decoding(parser)
    add_skip_broken(parser)
    parser.set_defaults(run=_make_masked)


def _make_masked(arguments: argparse.Namespace) -> None:
    from advaug.datasets.writers.masked import make_masked

    written = make_masked(
        arguments.source,
        arguments.destination,
        style=arguments.style,
        seed=arguments.seed,
        decoding=decoding_of(arguments),
        skip_broken=arguments.skip_broken,
    )
    say(f"{written} pictures written to {arguments.destination}")


def add_corrupt(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `advaug corrupt`."""
    parser = commands.add_parser(
        "corrupt",
        help="make the corruption benchmark of a folder of annotated pictures",
        description="Write copies DST/KIND/SEVERITY of a folder of pictures with .pts files: "
        "noisy, blurred, badly lit, compressed or covered; the landmarks do not change. Can be "
        "interrupted and run again.",
    )
    parser.add_argument("source", metavar="SRC", help="folder of pictures with .pts files")
    parser.add_argument("destination", metavar="DST", help="folder to write, new or resumed")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="some kinds (default: all)")
    parser.add_argument(
        "--severities", nargs="+", type=int, metavar="N", help="some of 1 to 5 (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the set (default: 0)")
    add_decoding(parser)
    add_skip_broken(parser)
    parser.set_defaults(run=_corrupt)


def _corrupt(arguments: argparse.Namespace) -> None:
    from advaug.augment.corruptions import CORRUPTIONS, SEVERITIES
    from advaug.datasets.writers.corrupted import make_corrupted

    written = make_corrupted(
        arguments.source,
        arguments.destination,
        kinds=arguments.kinds or tuple(CORRUPTIONS),
        severities=arguments.severities or SEVERITIES,
        seed=arguments.seed,
        decoding=decoding_of(arguments),
        skip_broken=arguments.skip_broken,
    )
    say(f"{written} pictures written to {arguments.destination}")

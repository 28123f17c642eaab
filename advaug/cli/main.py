"""The command `advaug`."""

import argparse
from collections.abc import Sequence

import advaug
from advaug.cli.copies import add_corrupt, add_make_masked
from advaug.cli.data import add_data
from advaug.cli.evaluate import add_evaluate
from advaug.cli.output import say

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Each is added by a function that gives its parser a `run`: a callable that receives the parsed
    arguments and imports what it needs itself, so that `advaug --help` stays fast.

    Args:
        argv: The arguments after the program's name; None uses those of the process.

    Returns:
        The exit status: 0; 2 after an error, whose message is on stderr; 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog="advaug", description="Sample-adaptive adversarial training for landmark detectors."
    )
    parser.add_argument("--version", action="version", version=f"advaug {advaug.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    add_make_masked(commands)
    add_corrupt(commands)
    add_data(commands)
    add_evaluate(commands)
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 0
    try:
        arguments.run(arguments)
    except (ValueError, OSError, ImportError, MemoryError) as error:
        say(f"advaug: {error}", to_stderr=True)
        return 2
    except KeyboardInterrupt:
        say("advaug: stopped. Run the same command again to go on.", to_stderr=True)
        return 130  # as in shells: 128 and the number of the signal
    return 0

"""Ctrl-C ends a long run with one line that says how to go on."""

import sys
from collections.abc import Callable

__all__ = ["unless_stopped"]

STOPPED = 130  # as in shells: 128 and the number of the signal


def unless_stopped(main: Callable[[], int], *, go_on: str) -> int:
    """The exit status of `main`, or of a run that was stopped by hand.

    Args:
        main: What runs.
        go_on: How to go on, a sentence.
    """
    try:
        return main()
    except KeyboardInterrupt:
        pass  # what it holds, such as a progress bar, ends with this block
    print(f"\nstopped. {go_on}", file=sys.stderr)
    return STOPPED

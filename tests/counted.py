"""What work costs, counted: unlike seconds, it is the same on every machine, however busy."""

import sys


def calls(work):
    """How many functions are called, Python's and C's."""
    count = 0

    def seen(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count

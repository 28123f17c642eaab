"""What the commands print."""

import sys

__all__ = ["say"]


def say(line: str, *, to_stderr: bool = False) -> None:
    """Print one line."""
    stream = sys.stderr if to_stderr else sys.stdout
    # A file's name may have bytes that are not text.
    stream.write(line.encode(errors="backslashreplace").decode() + "\n")

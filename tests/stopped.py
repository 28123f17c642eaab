"""A command that a signal hits at a moment that is the same on every machine."""

import subprocess
import sys

# The half of a file is what no later moment may find under the file's name.
_PROGRAM = """
import signal, sys
from pathlib import Path

whole, left, number = Path.write_bytes, int(sys.argv[1]), int(sys.argv[2])

def write_bytes(path, data):
    global left
    left -= 1
    if left:
        return whole(path, data)
    whole(path, data[: len(data) // 2])
    signal.raise_signal(number)

Path.write_bytes = write_bytes
from advaug.cli import main
sys.exit(main(sys.argv[3:]))
"""


def stopped_at(file, number, *words):
    """Run `advaug` with these words until half of its `file`-th file is written, then signal it.

    Every folder's first and last file is its manifest; between them lie pairs of a `.pts` file and
    a picture.
    """
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(file), str(int(number)), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )

"""MATLAB's files, read in a separate process: a damaged one makes scipy crash or never end."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advaug.base.files import open_regular
from advaug.datasets.readers.matlab import explain_missing
from advaug.errors import DatasetError

__all__ = ["read_mat"]

SECONDS = 60.0  # a file of 300W needs half a second, most of it to start
MEMORY_BYTES = 4 << 30  # of address space; scipy's libraries reserve a large part of it
_CHILD = Path(__file__).with_name("_mat_child.py")


def read_mat(  # the file may hold anything
    path: Path,
    variable: str,
    *,
    rule: str,
    fix: str,
    instead: str = "",
    seconds: float = SECONDS,
) -> Any:  # noqa: ANN401
    """Read a variable of a `.mat` file of MATLAB 4 to 7.2.

    Args:
        path: The file.
        variable: The variable's name.
        rule: What the file must be or hold, for the message.
        fix: What to do if it cannot be read, for the message.
        instead: How to do without the file, for the message where scipy is not installed.
        seconds: Longest time to wait for it.

    Returns:
        Arrays of numbers as nested lists, cells as a flat list, a struct as a dict, text as str.

    Raises:
        DatasetError: If the file cannot be read in time and within 4 GiB.
        ImportError: If scipy is not installed.
    """
    try:
        import scipy.io  # noqa: F401 # the child imports it, and its message is lost
    except ImportError as error:
        explain_missing("scipy", path, error, instead)
    try:
        open_regular(path).close()
    except OSError as error:
        raise _refused(path, rule, f"{error.strerror}", fix) from error
    # -P: nothing is imported from the folder that the program was started in.
    command = [sys.executable, "-P", str(_CHILD), os.fspath(path), variable, str(MEMORY_BYTES)]
    try:
        done = subprocess.run(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _refused(path, rule, f"no end after {seconds:g} s", fix) from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        fact = lines[-1][:200] if lines else f"a crash with status {done.returncode}"
        raise _refused(path, rule, fact, fix)
    return json.loads(done.stdout)


def _environment() -> Mapping[str, str]:
    """The caller's environment, with its import paths and one thread, as stacks count as memory."""
    paths = [path for path in sys.path if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}


def _refused(path: Path, rule: str, fact: str, fix: str) -> DatasetError:
    return DatasetError(f"`{path}` must {rule}, but got {fact}. {fix}")

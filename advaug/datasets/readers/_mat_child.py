"""The process of `mat.py`: prints a variable of a `.mat` file as JSON, or ends with an error.

Its arguments are the file, the variable and the bytes of memory that it may use.
"""

import json
import sys
from typing import Any

import numpy as np
from scipy.io import loadmat

MOST_NUMBERS = 2_000_000


def main() -> None:
    """Read and print."""
    path, variable, memory = sys.argv[1:]
    _limit_memory(int(memory))
    held = loadmat(path, variable_names=[variable])
    if variable not in held:
        sys.exit("no variable of that name")
    print(json.dumps(_plain(held[variable])))  # noqa: T201 # to the parent


def _limit_memory(size: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _plain(value: Any) -> Any:  # noqa: ANN401 # whatever a file may hold
    """Arrays, structs and cells as lists and dicts."""
    if isinstance(value, np.void):
        return {name: _plain(value[name]) for name in value.dtype.names or ()}
    if not isinstance(value, np.ndarray):
        return value.item() if isinstance(value, np.generic) else str(value)
    if value.size > MOST_NUMBERS:
        sys.exit(f"an array of {value.size} numbers")
    if value.dtype.kind not in "OV":
        return value.item() if value.dtype.kind in "US" and value.size == 1 else value.tolist()
    if value.dtype.kind == "V" and value.size == 1:  # a struct
        return _plain(value.ravel()[0])
    return [_plain(each) for each in value.ravel()]


if __name__ == "__main__":
    main()

"""What the runs of a study have left, as far as it is whole."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advaug.base.files import open_regular, whole_file
from advaug.errors import DatasetError
from lab.study.settings import Run, Settings
from lab.trainer import write_json

__all__ = ["read_json", "read_measured", "read_result", "write_measured"]

NEEDED = {"arm", "seed", "steps", "planned", "way"}
ERRORS = {"conditions", "inter_ocular", "box"}
Result = dict[str, Any]
Errors = Mapping[str, NDArray[np.generic]]


def write_measured(run: Run, settings: Settings, result: Result, errors: Errors) -> None:
    """Write a run's errors, then its result, which says that both are there."""
    folder = run.folder(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "errors.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **errors)
    write_json(folder / "result.json", result)


def read_measured(run: Run, settings: Settings) -> tuple[Result, Errors] | None:
    """The result and the errors of a run that was measured; None where they are not whole."""
    folder = run.folder(settings.output)
    try:
        result = read_json(folder / "result.json")
        # Reading checks the sum of each array.
        with open_regular(folder / "errors.npz") as file, np.load(file) as held:
            errors = {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    whole = isinstance(result, dict) and set(result) >= NEEDED and set(errors) >= ERRORS
    return (result, errors) if whole else None


def read_result(run: Run, settings: Settings) -> Result | None:
    """The result of a run that went to its end; None where there is none that is whole."""
    found = read_measured(run, settings)
    if found is None or found[0]["steps"] != found[0]["planned"]:
        return None
    return found[0]


def read_json(path: Path) -> Any:  # noqa: ANN401 # anything json can hold
    """Read a file.

    Raises:
        DatasetError: If it is not whole.
        FileNotFoundError: If there is none.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        msg = f"`{path}` must be a whole json file, but got {error}. Restore or remove it."
        raise DatasetError(msg) from error

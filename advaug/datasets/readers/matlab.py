"""MATLAB's files: the older format by scipy, the newer one (7.3, which is HDF5) by h5py."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from advaug.errors import DatasetError

if TYPE_CHECKING:
    import h5py

__all__ = ["explain_missing", "open_hdf5", "pictures_with_mat", "read_numbers"]


def explain_missing(package: str, path: Path, error: ImportError, instead: str = "") -> NoReturn:
    """Say how to install a package.

    Args:
        package: Its name.
        path: The file that cannot be read without it.
        error: What the import raised.
        instead: How to do without, if there is a way.

    Raises:
        ImportError: Always.
    """
    message = (
        f"{package} must be installed to read `{path}`, but got: {error}. Run "
        f"`pip install {package}`, or `pip install 'advaug[datasets]'` for all data sets."
        + (f" {instead}" if instead else "")
    )
    raise ImportError(message) from error


def pictures_with_mat(folder: Path) -> list[Path]:
    """Return the pictures of a folder, even missing ones, that have a `.jpg` or a `.mat` file."""
    names = {path.stem for suffix in (".jpg", ".mat") for path in folder.glob(f"*{suffix}")}
    return [folder / f"{name}.jpg" for name in sorted(names)]


def read_numbers(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """Read variables of a file in MATLAB's older format (up to version 7).

    Args:
        path: The file.
        shapes: The name of each variable and its shape; -1 stands for any size.

    Returns:
        The variables by name.

    Raises:
        DatasetError: If the file cannot be read, lacks a variable, or one of them has another shape
            or non-finite numbers.
        ImportError: If scipy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        explain_missing("scipy", path, error)
    _require_file(path)
    try:
        content = loadmat(path, variable_names=list(shapes))
    except Exception as error:  # scipy raises many kinds on a broken or missing file
        raise _unreadable(path, error) from error
    for name, shape in shapes.items():
        _require_numbers(path, name, content.get(name), shape)
    return {name: content[name] for name in shapes}


@contextmanager
def open_hdf5(path: Path) -> "Iterator[h5py.File]":
    """Open a file in MATLAB's newer format (7.3) for reading.

    Axes are in the reverse of MATLAB's order.

    Raises:
        DatasetError: If the file cannot be read, or what the block reads is broken.
        ImportError: If h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        explain_missing("h5py", path, error)
    _require_file(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DatasetError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from error


def _require_file(path: Path) -> None:
    """Refuse a missing file; scipy's and h5py's own messages are long or empty."""
    if not path.is_file():
        message = f"`{path}` must be a file of MATLAB's, but got none. Copy it there."
        raise DatasetError(message)


def _unreadable(path: Path, error: Exception) -> DatasetError:
    message = (
        f"`{path}` must be a whole file of MATLAB's, but got {type(error).__name__}: {error}. "
        "Copy or download it again."
    )
    return DatasetError(message)


def _require_numbers(path: Path, name: str, value: Any, shape: tuple[int, ...]) -> None:  # noqa: ANN401 # from scipy
    """Refuse a variable that is missing, has another shape, or has non-finite numbers."""
    array = np.asarray(value)
    fits = array.ndim == len(shape) and all(
        expected in (-1, size) for expected, size in zip(shape, array.shape, strict=True)
    )
    numeric = fits and array.dtype.kind in "buif" and bool(np.isfinite(array).all())
    if value is None or not numeric:
        wanted = " x ".join("any" if size == -1 else str(size) for size in shape)
        got = "none" if value is None else f"{array.dtype} of shape {array.shape}"
        if fits and array.dtype.kind == "f":
            got = "some that are not finite"
        message = (
            f"`{path}` must hold `{name}`, {wanted} finite numbers, but got {got}. "
            "Copy or download it again."
        )
        raise DatasetError(message)

"""What a user's own code holds, named as `package.module:name`."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["current_folder_first", "load_object"]


@contextmanager
def current_folder_first() -> Iterator[None]:
    """Let imports see the current folder, as `python -m` does and a console script does not."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


@current_folder_first()
def load_object(place: str, argument: str, kind: type[Any] | None = None) -> Any:  # noqa: ANN401 # a user's
    """Load the object `package.module:name`, and call it if it is a function.

    Modules are looked for in the current folder first.

    Args:
        place: Module and name, with a colon between.
        argument: Which argument or option it is, for the messages.
        kind: What it must be, after the call.

    Raises:
        ValueError: If there is no such thing, or it is of another kind.
    """
    found = _found(place, argument)
    if callable(found) and not (kind is not None and isinstance(found, kind)):
        found = _called(found, place, argument)
    if kind is not None and not isinstance(found, kind):
        msg = (
            f"`{argument}` must be of type {kind.__name__}, or a function without arguments that "
            f"returns one, but {place} gives {type(found).__name__}. Wrap what makes one in a "
            "function."
        )
        raise ValueError(msg)
    return found


def _found(place: str, argument: str) -> Any:  # noqa: ANN401 # a user's
    module_name, colon, name = place.partition(":")
    if not (module_name and colon and name):
        msg = (
            f"`{argument}` must be MODULE:NAME, such as mypackage.models:detector, but got "
            f"{place!r}. Put a colon between the module and the name."
        )
        raise ValueError(msg)
    if module_name.endswith(".py"):
        msg = (
            f"`{argument}` must name a module, not its file, but got {place!r}. Leave the .py out: "
            f"{module_name.removesuffix('.py')}:{name}."
        )
        raise ValueError(msg)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        msg = (
            f"`{argument}` must name a module that can be imported, but importing {module_name} "
            f"raised: {error}. Run this in the folder that holds it, or put that folder on "
            "PYTHONPATH."
        )
        raise ValueError(msg) from error
    if not hasattr(module, name):
        known = [word for word in vars(module) if not word.startswith("_")]
        msg = (
            f"`{argument}` must be a name in {module_name}, but there is no {name!r}. It has "
            f"{', '.join(known) or 'none'}. Name one of them."
        )
        raise ValueError(msg)
    return getattr(module, name)


def _called(function: Any, place: str, argument: str) -> Any:  # noqa: ANN401 # a user's
    try:
        return function()
    except TypeError as error:
        msg = (
            f"`{argument}` must be callable without arguments, but {place} raised: {error}. Wrap "
            "it in a function that passes them."
        )
        raise ValueError(msg) from error

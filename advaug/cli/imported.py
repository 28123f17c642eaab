"""What the commands import from a user's own code: `package.module:name`."""

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advaug import PixelSpec

__all__ = ["add_pixels", "load", "load_batch", "pixels_of"]


def load(place: str, argument: str, kind: type[Any] | None = None) -> Any:  # noqa: ANN401 # a user's
    """What stands at `package.module:name`, called if it is a function.

    Modules are looked for in the current folder first.

    Args:
        place: Module and name, with a colon between.
        argument: Which argument of the command it is, for the messages.
        kind: What it must be, after the call.

    Raises:
        ValueError: If there is no such thing, or it is of another kind.
        ImportError: If the module itself cannot be imported.
    """
    module_name, colon, name = place.partition(":")
    if not (module_name and colon and name):
        msg = (
            f"`{argument}` must be MODULE:NAME, such as mypackage.models:detector, but got "
            f"{place!r}. Put a colon between the module and the name."
        )
        raise ValueError(msg)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        msg = (
            f"`{argument}` must name a module that can be imported, but importing {module_name} "
            f"raised: {error}. Run the command from the folder that holds it, or install it."
        )
        raise ImportError(msg) from error
    if not hasattr(module, name):
        known = [word for word in vars(module) if not word.startswith("_")]
        msg = (
            f"`{argument}` must be a name in {module_name}, but there is no {name!r}. It has "
            f"{', '.join(known) or 'none'}."
        )
        raise ValueError(msg)
    found = getattr(module, name)
    if callable(found) and not (kind is not None and isinstance(found, kind)):
        found = _called(found, place, argument)
    if kind is not None and not isinstance(found, kind):
        msg = (
            f"`{argument}` must be of type {kind.__name__}, or a function without arguments that "
            f"returns one, but {place} gives {type(found).__name__}."
        )
        raise ValueError(msg)
    return found


def _called(function: Any, place: str, argument: str) -> Any:  # noqa: ANN401 # a user's
    try:
        return function()
    except TypeError as error:
        msg = (
            f"`{argument}` must be callable without arguments, but {place} raised: {error}. Wrap "
            "it in a function that passes them."
        )
        raise ValueError(msg) from error


def load_batch(place: str) -> tuple[Any, Any]:
    """Pictures and target of `package.module:name`: a pair, a function or a loader of pairs.

    Raises:
        ValueError, ImportError: As `load`, or if it is no pair whose first part is a tensor.
    """
    import torch

    batch = load(place, "batch")
    if not isinstance(batch, tuple | list | torch.Tensor):
        try:
            batch = next(iter(batch))
        except (TypeError, StopIteration) as error:
            msg = (
                "`batch` must be (images, target), or a loader that gives them, but "
                f"{place} gives {type(batch).__name__}. Write a function that returns a batch."
            )
            raise ValueError(msg) from error
    if isinstance(batch, torch.Tensor):
        return batch, None
    parts = list(batch)  # a tuple, a list, or a NamedTuple such as a LandmarkSample
    if len(parts) == 3 and all(isinstance(part, torch.Tensor) for part in parts):
        parts = [parts[0], (parts[1], parts[2])]  # with `visible`
    if len(parts) != 2 or not isinstance(parts[0], torch.Tensor):
        kinds = ", ".join(type(part).__name__ for part in parts)
        msg = (
            "`batch` must be (images, target) or (images, landmarks, visible), images a tensor "
            f"(B, C, H, W), but {place} gives {len(parts)} parts: {kinds}. Write a function that "
            "picks them out."
        )
        raise ValueError(msg)
    return parts[0], parts[1]


def add_pixels(parser: argparse.ArgumentParser) -> None:
    """Add what both commands ask about pictures and landmarks."""
    add = parser.add_argument
    add("--mean", type=float, nargs="+", default=(), help="of the pictures' normalisation")
    add(
        "--std", type=float, nargs="+", default=(), help="likewise; one for each channel, in [0, 1]"
    )
    add(
        "--from-255",
        action="store_true",
        help="the pictures, --mean and --std are in 0 to 255",
    )
    add(
        "--normalized",
        action="store_true",
        help="landmarks are in parts of the picture's sides, not in pixels",
    )


def pixels_of(arguments: argparse.Namespace) -> "PixelSpec":
    """The PixelSpec that the arguments describe."""
    from advaug import PixelSpec

    mean, std = tuple(arguments.mean), tuple(arguments.std)
    return PixelSpec.from_255(mean, std) if arguments.from_255 else PixelSpec(mean, std)

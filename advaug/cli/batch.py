"""What `check` and `preview` share: the batch of a user's own code, and how its pictures are."""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from advaug.base.user_code import current_folder_first, load_object

if TYPE_CHECKING:
    from advaug import PixelSpec

__all__ = ["add_pixels", "load_batch", "pixels_of", "with_flags"]

# What the adversary's messages say in Python, and the option of `add_pixels` that does it.
FLAGS = {
    "Divide 0..255 pictures by 255": "--from-255",
    "PixelSpec.from_255(": "--from-255",
    "pixels=PixelSpec(mean, std)": "--mean and --std",
    "normalized=True": "--normalized",
}


@current_folder_first()
def load_batch(place: str) -> tuple[Any, Any]:
    """Pictures and target of `package.module:name`: a pair, a function or a loader of pairs.

    Raises:
        ValueError: As `load_object`, or if it is no pair whose first part is a tensor.
    """
    import torch

    batch = load_object(place, "batch")
    if not isinstance(batch, tuple | list | Mapping | torch.Tensor):
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
    if isinstance(batch, Mapping):
        msg = (
            f"`batch` must be (images, target), but {place} gives a dict with the keys "
            f"{', '.join(map(str, batch))}. Write a function that returns the two parts."
        )
        raise ValueError(msg)
    parts = list(batch)  # a tuple, a list, or a NamedTuple such as a LandmarkSample
    if len(parts) == 3 and all(isinstance(part, torch.Tensor) for part in parts):
        parts = [parts[0], (parts[1], parts[2])]  # with `visible`
    if len(parts) != 2 or not isinstance(parts[0], torch.Tensor):
        kinds = ", ".join(type(part).__name__ for part in parts)
        msg = (
            "`batch` must be (images, target) or (images, landmarks, visible), images a tensor "
            f"(B, C, H, W), but {place} gives {len(parts)} parts: {kinds}. Write a function that "
            "picks them out, and that stacks a list of pictures or takes one of them: `[None]`."
        )
        raise ValueError(msg)
    return parts[0], parts[1]


@contextmanager
def with_flags() -> Iterator[None]:
    """Say what an error is fixed with on the command line, where its message is for Python.

    Raises:
        ValueError: For a `TypeError` or `ValueError`: what either says is for the user.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        message = str(error)
        flags = next((flag for words, flag in FLAGS.items() if words in message), None)
        more = "" if flags is None else f" On the command line: {flags}."
        raise ValueError(message + more) from error


def add_pixels(parser: argparse.ArgumentParser) -> None:
    """Add what both commands ask about pictures and landmarks."""
    add = parser.add_argument
    add(
        "--mean",
        type=numbers,
        default=(),
        metavar="R,G,B",
        help="of the pictures' normalisation, one for each channel, in [0, 1]",
    )
    add("--std", type=numbers, default=(), metavar="R,G,B", help="likewise")
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


def numbers(words: str) -> tuple[float, ...]:
    """The numbers of `0.5,0.25`, for argparse, which says what it got where they are none."""
    return tuple(float(word) for word in words.split(","))


def pixels_of(arguments: argparse.Namespace) -> "PixelSpec":
    """The PixelSpec that the arguments describe."""
    from advaug import PixelSpec

    mean, std = arguments.mean, arguments.std
    return PixelSpec.from_255(mean, std) if arguments.from_255 else PixelSpec(mean, std)

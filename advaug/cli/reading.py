"""What the commands that read a folder of pictures share: the options about its files."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advaug.datasets.decoding import Decoding

__all__ = ["add_decoding", "add_skip_broken", "decoding_of"]


def add_decoding(parser: "argparse._ActionsContainer") -> None:
    """Add what picture files do not settle by themselves."""
    parser.add_argument(
        "--orientation",
        choices=("stored", "exif"),
        help="keep pixels as they are stored, or turn them as EXIF says (default: stored, with a "
        "warning)",
    )
    parser.add_argument(
        "--white",
        type=float,
        metavar="VALUE",
        help="of pictures of more than 8 bits, such as 4095 (default: what each file says)",
    )


def add_skip_broken(parser: "argparse._ActionsContainer") -> None:
    """Add the way to go on without broken files."""
    parser.add_argument("--skip-broken", action="store_true", help="leave broken pictures out")


def decoding_of(arguments: argparse.Namespace) -> "Decoding | None":
    """What the options say; None if none was given."""
    from advaug.datasets.decoding import Decoding

    if arguments.orientation is None and arguments.white is None:
        return None
    return Decoding(orientation=arguments.orientation, white=arguments.white)

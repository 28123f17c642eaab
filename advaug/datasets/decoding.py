"""Picture files to pixels: what cannot be known from a file is an option, and is never guessed."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from advaug.base.checks import check_choice
from advaug.base.files import open_regular
from advaug.errors import DatasetError

__all__ = ["Decoding", "PictureFacts", "decode", "inspect_picture", "opened"]

Orientation = Literal["stored", "exif"]

# Each decoder is a door for crafted files; that of EPS would start another program.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
PILLOW_LIMIT = 89_478_485  # pixels: above it Pillow warns by itself, above twice as many it refuses
ROWS = 64  # scaled at a time, so that no wide copy of a whole picture is made
DARK = 0.25  # of white: a picture with nothing brighter has another white than its file says
LARGE_PIXELS = 16_000_000  # more are decoded one picture at a time
WHITE = "Pass `decoding=Decoding(white=...)` (`--white`) with the value of white"
_ORIENTATION = 0x0112  # tag of EXIF and of TIFF
_PHOTOMETRIC, _BITS = 262, 258  # of TIFF

LYING = 4  # orientations above it exchange width and height

_large = threading.Lock()

_Turn = Image.Transpose
_TURNS = {
    2: _Turn.FLIP_LEFT_RIGHT,
    3: _Turn.ROTATE_180,
    4: _Turn.FLIP_TOP_BOTTOM,
    5: _Turn.TRANSPOSE,
    6: _Turn.ROTATE_270,
    7: _Turn.TRANSVERSE,
    8: _Turn.ROTATE_90,
}
_BACK = {6: _Turn.ROTATE_90, 8: _Turn.ROTATE_270}  # the other turns undo themselves


@dataclass(frozen=True)
class Decoding:
    """How picture files become pixels, where the files leave it open.

    Attributes:
        orientation: "stored" keeps the pixels as they lie in the file, whatever its EXIF
            orientation says; "exif" turns them as it says. It depends on the tool that annotated
            them. None is "stored", with a warning where a picture has such a tag.
        channels: 3 for RGB, or 1 for grey, such as X-ray or infrared.
        white: The value that becomes 1 in pictures of more than 8 bits, such as 4095 where 12 bits
            are stored in 16, or 1.0 in floating point. None is what the file says: all of its
            bits, or 1.0; a picture that would be dark all over by that is refused.
        max_pixels: Width times height above which a picture is refused: a small file may hold
            gigabytes of one colour.
    """

    orientation: Orientation | None = None
    channels: Literal[1, 3] = 3
    white: float | None = None
    max_pixels: int = field(default=PILLOW_LIMIT, kw_only=True)

    def __post_init__(self) -> None:
        """Raise on values out of range."""
        if self.orientation is not None:
            check_choice("orientation", self.orientation, get_args(Orientation), " or None")
        if self.channels not in (1, 3):
            msg = f"`channels` must be 1 or 3, but got {self.channels}. Pass 3 for RGB."
            raise ValueError(msg)
        if (self.white is not None and not self.white > 0) or self.max_pixels < 1:
            msg = (
                "`white` and `max_pixels` must be positive, but got "
                f"{self.white} and {self.max_pixels}. Leave them out for the usual ones."
            )
            raise ValueError(msg)

    @property
    def mode(self) -> str:
        """Pillow's name of what is given."""
        return "RGB" if self.channels == 3 else "L"


class PictureFacts(NamedTuple):
    """What the readers ask of a file before anything is trained.

    Attributes:
        size: (width, height), as the `Decoding` gives it.
        orientation: The EXIF orientation, 1 to 8; 1 where the file has none.
    """

    size: tuple[int, int]
    orientation: int


def inspect_picture(path: str | os.PathLike[str], decoding: Decoding) -> PictureFacts:
    """Decode a picture to the end, and say how large it is and which way up.

    Raises:
        DatasetError: If the file is not a whole picture, or cannot be given as `decoding` says.
    """
    with opened(path, decoding) as image:
        tag = orientation_of(image)
        if image.format not in ("JPEG", "MPO"):
            return PictureFacts(decode(image, decoding, tag).size, tag)
        width, height = image.size
        # JPEG decodes at an eighth of its size in about half the time, and still reads every byte.
        image.draft(image.mode, (1, 1))
        image.load()
        turned = decoding.orientation == "exif" and tag > LYING
        return PictureFacts((height, width) if turned else (width, height), tag)


@contextmanager
def opened(path: str | os.PathLike[str], decoding: Decoding) -> Iterator[Image.Image]:
    """Open a picture, undecoded; whatever goes wrong is a `DatasetError` that names the file."""
    try:
        with open_regular(path) as file, Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > decoding.max_pixels:
                raise Image.DecompressionBombError(f"{width} x {height} pixels")  # noqa: EM102 # reworded below
            with _large if width * height > LARGE_PIXELS else nullcontext():
                yield image
    except DatasetError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        message = (
            f"`{os.fspath(path)}` must have at most {decoding.max_pixels} pixels, but got: "
            f"{error}. Make it smaller, or in Python pass `decoding=Decoding(max_pixels=...)`; "
            f"above {PILLOW_LIMIT}, set `PIL.Image.MAX_IMAGE_PIXELS = None` too."
        )
        raise DatasetError(message) from error
    except _Refused as error:
        message = f"`{os.fspath(path)}` must {error}"
        raise DatasetError(message) from error
    except Exception as error:  # each decoder has its own: OSError, SyntaxError, struct.error, ...
        message = (
            f"`{os.fspath(path)}` must be a whole picture, but got {type(error).__name__}: {error}."
            " Copy or download it again."
        )
        raise DatasetError(message) from error


def decode(image: Image.Image, decoding: Decoding, orientation: int | None = None) -> Image.Image:
    """Decode an opened picture to 8 bits, RGB or grey, the way up that is asked for.

    Args:
        image: From `opened`.
        decoding: How.
        orientation: What the file says, where that is known already.
    """
    tag = orientation_of(image) if orientation is None else orientation
    cut_to_8_bits = "16" in _raw_mode(image) and not _is_wide(image)
    image.load()
    already_turned = image.format == "TIFF" and orientation_of(image) == 1  # by newer Pillows
    upright = decoding.orientation == "exif"
    pixels = _scaled(image, decoding.white) if _is_wide(image) else _plain(image)
    if cut_to_8_bits:
        _refuse_dark(
            max(high for _, high in _extrema(pixels)),
            255,
            "Convert it to 8 bits with the right white",
        )
    if tag != 1 and upright != already_turned:
        turn = _TURNS[tag] if upright else _BACK.get(tag, _TURNS[tag])
        pixels = pixels.transpose(turn)
    return pixels if pixels.mode == decoding.mode else pixels.convert(decoding.mode)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of a picture, 1 where there is none or no valid one."""
    try:
        tag = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken block of EXIF says nothing; the pixels may be whole
        return 1
    return tag if tag in _TURNS else 1


class _Refused(ValueError):  # noqa: N818 # not an error that leaves this file
    """A picture that is whole but whose meaning is not known; the words after "must"."""


def _is_wide(image: Image.Image) -> bool:
    """Whether a picture has one channel of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def _raw_mode(image: Image.Image) -> str:
    """How the samples lie in the file, such as "RGB;16B"."""
    tiles: list[Any] = getattr(image, "tile", [])
    return str(tiles[0][3]) if tiles and image.format != "JPEG" else ""


def _plain(image: Image.Image) -> Image.Image:
    """8 bits a channel to RGB or grey; an alpha channel is dropped."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode in ("P", "PA"):  # transparent entries cannot go to RGB in one step
        image = image.convert("RGBA")
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def _scaled(image: Image.Image, white: float | None) -> Image.Image:
    """More than 8 bits a pixel to 8, which `convert()` would clip, not scale."""
    tags: Any = getattr(image, "tag_v2", {})
    levels = np.asarray(image)
    whole = levels.dtype.kind != "f"
    known = float(2 ** _bits(tags.get(_BITS, 16)) - 1) if whole else 1.0
    top = known if white is None else float(white)
    low, high = float(levels.min()), float(levels.max())
    slack = 0.0 if whole else 1e-3 * top  # of a resize in floating point
    if not (low >= -slack and high <= top + slack):  # `not`, for NaN
        kind = "whole numbers" if whole else "floating point"
        msg = (
            f"have values from 0 to {top:g}, its white, but got {kind} from {low:g} to {high:g}. "
            f"{WHITE}."
        )
        raise _Refused(msg)
    if white is None:
        _refuse_dark(high, top, WHITE)
    inverted = tags.get(_PHOTOMETRIC) == 0  # "white is zero", usual in X-ray
    out = np.empty(levels.shape, np.uint8)
    for start in range(0, len(levels), ROWS):
        part = levels[start : start + ROWS].astype(np.float32) * np.float32(255 / top)
        out[start : start + ROWS] = np.rint(np.clip(255 - part if inverted else part, 0, 255))
    return Image.fromarray(out)


def _bits(tag: Any) -> int:  # noqa: ANN401 # a number or a tuple of them
    return int(tag[0] if isinstance(tag, tuple) else tag)


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    found: Any = image.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]


def _refuse_dark(high: float, top: float, fix: str) -> None:
    """Refuse a picture that would be dark all over, whose white is not what its file says."""
    if high > DARK * top:
        return
    msg = (
        f"have a pixel above a quarter of its white, {top:g}, but got at most {high:g}, as where "
        f"fewer bits are stored than the file says. {fix}."
    )
    raise _Refused(msg)

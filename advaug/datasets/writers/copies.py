"""Changed copies of a folder of annotated pictures: planned first, written whole, resumed.

A copy is the same tree with other pixels: each picture under its name and in its format, each
`.pts` file byte for byte, and `manifest.json` with the settings and, for each picture, what was
done to it, its length and its checksum. Until a call ends, length and checksum are kept in a
journal, so that the next call can tell whole pictures from damaged ones however the first one
ended.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from advaug.augment.masks import check_landmarks
from advaug.base.files import is_own, open_regular, write_whole
from advaug.datasets.decoding import Decoding
from advaug.datasets.pictures import AnnotatedPicture, read_picture
from advaug.datasets.readers.pairs import FilePair, check_pairs, find_pairs
from advaug.errors import DatasetError

__all__ = ["FaceFile", "check_folders", "known_pictures", "read_faces", "seed_of", "write_copies"]

_MANIFEST = "manifest.json"
_JOURNAL = ".written.tmp"
_CHECKS = ("bytes", "sha256")
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class FaceFile:
    """A picture of a face to be copied; `name` is its path relative to the source, with `/`."""

    name: str
    pts_name: str
    pair: FilePair
    picture: AnnotatedPicture
    size: tuple[int, int]

    def entry(self, seed: int, **more: object) -> dict[str, Any]:
        """What a manifest says about it."""
        width, height = self.size
        return {"seed": seed, **more, "width": width, "height": height}


def check_folders(source: Path, destination: Path, seed: int, decoding: Decoding) -> dict[str, Any]:
    """Raise on a negative seed or grey, or if the next call would copy the copies again.

    Returns:
        What the manifest has to say about how pictures are decoded, if that changes the copies.
    """
    if decoding.channels != 3:
        message = f"`decoding` must have 3 channels, but got {decoding.channels}. Leave them out."
        raise ValueError(message)
    if seed < 0:
        message = f"`seed` must be 0 or more, but got {seed}. Choose another."
        raise ValueError(message)
    if destination.resolve().is_relative_to(source.resolve()):
        message = (
            f"`destination` must be outside `{source}`, but got `{destination}`. Choose a folder "
            "beside the source."
        )
        raise ValueError(message)
    given = {"orientation": decoding.orientation, "white": decoding.white}
    return {name: value for name, value in given.items() if value not in (None, "stored")}


def read_faces(source: Path, decoding: Decoding) -> tuple[list[FaceFile], list[str]]:
    """Read every file once; return what can be copied, and one message per broken file."""
    pairs, problems = find_pairs(source)
    pictures, broken = check_pairs(pairs, num_landmarks=68, decoding=decoding)
    pair_of = {pair.picture: pair for pair in pairs}
    faces: list[FaceFile] = []
    for picture in pictures:
        pair = pair_of[picture.path]
        try:
            check_landmarks(picture.landmarks)
        except ValueError as error:
            broken.append(f"`{pair.pts}`: {error}")
            continue
        name, pts_name = (path.relative_to(source).as_posix() for path in (pair.picture, pair.pts))
        assert picture.size is not None  # of a picture that was checked
        faces.append(FaceFile(name, pts_name, pair, picture, picture.size))
    return faces, problems + broken


def seed_of(name: str, seed: int) -> int:
    """A number of 48 bits that depends only on the two arguments; JSON readers keep it exact."""
    # A name may have bytes that are not text.
    digest = hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big")


def known_pictures(destination: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the pictures of an earlier call's manifest; none for a new or empty folder.

    Raises:
        DatasetError: If the folder holds anything but pictures made with the same settings.
    """
    is_new = not destination.exists()
    if is_new or (destination.is_dir() and all(is_own(path) for path in destination.iterdir())):
        return {}
    found, pictures = _read_manifest(destination)
    if found != settings:
        message = (
            f"`destination` must be new, empty or made with {settings}, but got `{destination}`, "
            f"made with {found}. Choose another folder, or the same settings."
        )
        raise DatasetError(message)
    return pictures


def write_copies(
    destination: Path,
    settings: dict[str, Any],
    faces: Sequence[tuple[FaceFile, dict[str, Any]]],
    change: Callable[[FaceFile, Image.Image], Image.Image],
    decoding: Decoding,
) -> int:
    """Write the manifest, and every copy that is missing or damaged.

    Holds the lock of the folder, so that no other process writes to it.

    Args:
        destination: The folder to write.
        settings: What all copies share.
        faces: What to copy, and what the manifest says about each.
        change: From a face and its picture to the picture that is written.
        decoding: How the pictures are read.

    Returns:
        How many pictures were written.

    Raises:
        DatasetError: As `known_pictures`, or if a picture is gone since it was checked.
        OSError: If the disk is full.
    """
    known = known_pictures(destination, settings)
    destination.mkdir(parents=True, exist_ok=True)
    checks = {name: _checks(entry) for name, entry in known.items()} | _read_journal(destination)
    # A picture for which the manifest says something else is made again.
    for face, entry in faces:
        if _without_checks(known.get(face.name, entry)) != entry:
            checks.pop(face.name, None)
    pictures = known | {face.name: entry for face, entry in faces}
    # Before the pictures, so that an interrupted call's folder is not taken for a foreign one.
    _write_manifest(destination, settings, pictures, checks)
    with _journal(destination) as note:
        try:
            return sum(
                _write_copy(face, destination, change, checks, note, decoding) for face, _ in faces
            )
        finally:
            _write_manifest(destination, settings, pictures, checks)
            (destination / _JOURNAL).unlink()


def _read_manifest(destination: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with open_regular(destination / _MANIFEST) as file:
            manifest = json.loads(file.read())
        pictures = manifest.pop("pictures")
        if all(isinstance(entry, dict) for entry in pictures.values()):
            return manifest, pictures
        fact = "names no pictures"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fact = type(error).__name__
    message = (
        f"`destination` must be new, empty or an earlier call's, but got `{destination}`, "
        f"which has no readable `{_MANIFEST}` ({fact}). Choose another folder."
    )
    raise DatasetError(message)


def _write_manifest(
    destination: Path, settings: dict[str, Any], pictures: dict[str, Any], checks: dict[str, Any]
) -> None:
    entries = {
        name: _without_checks(entry) | checks.get(name, {})
        for name, entry in sorted(pictures.items())
    }
    text = json.dumps(settings | {"pictures": entries}, indent=1) + "\n"
    write_whole(destination / _MANIFEST, text.encode())


@contextmanager
def _journal(destination: Path) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Note the checks of each picture once it has its name; deleted when a manifest has them."""
    with (destination / _JOURNAL).open("a", encoding="utf-8") as file:

        def note(name: str, checks: dict[str, Any]) -> None:
            file.write(json.dumps({"name": name, **checks}) + "\n")
            file.flush()

        yield note


def _read_journal(destination: Path) -> dict[str, dict[str, Any]]:
    """The checks of what a killed call has written."""
    checks: dict[str, dict[str, Any]] = {}
    try:
        lines = (destination / _JOURNAL).read_bytes().splitlines()
    except OSError:
        return checks
    for line in lines:
        try:
            entry = json.loads(line)
            checks[entry.pop("name")] = _checks(entry)
        except (ValueError, KeyError, TypeError, AttributeError):  # the line that was cut off
            continue
    return checks


def _checks(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in _CHECKS if name in entry}


def _without_checks(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in _CHECKS}


def _checks_of(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _write_copy(
    face: FaceFile,
    destination: Path,
    change: Callable[[FaceFile, Image.Image], Image.Image],
    checks: dict[str, Any],
    note: Callable[[str, dict[str, Any]], None],
    decoding: Decoding,
) -> bool:
    """Write one picture and its landmarks, unless both exist; return whether it did."""
    target, pts_target = destination / face.name, destination / face.pts_name
    pts = _read(face.pair.pts)
    if _holds(pts_target, _checks_of(pts)) and _holds(target, checks.get(face.name, {})):
        return False
    checks.pop(face.name, None)
    data = _encoded(change(face, read_picture(face.picture.path, decoding)), target.suffix)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(pts_target, pts)
    write_whole(target, data)
    checks[face.name] = _checks_of(data)
    note(face.name, checks[face.name])
    return True


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        message = f"`{path}` must stay while it is copied, but got: {error.strerror}. Restore it."
        raise DatasetError(message) from error


def _holds(path: Path, checks: dict[str, Any]) -> bool:
    """Whether a file exists and is still what it was when it was written."""
    try:
        if os.stat(path).st_size != checks.get("bytes"):
            return False
        with open_regular(path) as file:
            return _checks_of(file.read()) == checks
    except OSError:
        return False


def _encoded(image: Image.Image, suffix: str) -> bytes:
    """Encode to memory: on a full disk Pillow truncates the file without an error."""
    buffer = io.BytesIO()
    if suffix.lower() == ".png":
        image.save(buffer, format="PNG")
    else:
        image.save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()

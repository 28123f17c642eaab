"""Changed copies of a folder of annotated pictures: planned first, written whole, resumed.

A copy is the same tree with other pixels: each picture under its name and in its format, each
`.pts` file byte for byte, and the manifest.
"""

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from advaug.augment.masks import check_landmarks
from advaug.base.files import (
    locked_folder,
    open_regular,
    remove_leftovers,
    require_writable,
    write_whole,
)
from advaug.datasets.decoding import Decoding
from advaug.datasets.pictures import AnnotatedPicture, read_picture
from advaug.datasets.readers.checking import check_pairs, report_problems
from advaug.datasets.readers.pairs import FilePair, find_pairs
from advaug.datasets.writers.manifest import (
    JOURNAL,
    checks_in,
    checks_of,
    journal,
    known_pictures,
    read_journal,
    without_checks,
    write_manifest,
)
from advaug.errors import DatasetError

__all__ = ["Copy", "FaceFile", "make_copies"]

_JPEG_QUALITY = 95


@dataclass(frozen=True)
class FaceFile:
    """A picture of a face to be copied.

    Attributes:
        name: Its path relative to the source, with `/`.
        pts_name: The same of its `.pts` file.
        pair: Both files.
        picture: What is annotated.
        size: Width and height.
        seed: Of whatever is random in its copies.
    """

    name: str
    pts_name: str
    pair: FilePair
    picture: AnnotatedPicture
    size: tuple[int, int]
    seed: int


@dataclass(frozen=True)
class Copy:
    """One changed copy of a folder of faces.

    Attributes:
        folder: The folder to write.
        settings: What all its pictures share.
        change: From a face and its picture to the picture that is written.
        describe: What the manifest says about a face beside its seed and size.
    """

    folder: Path
    settings: dict[str, Any]
    change: Callable[[FaceFile, Image.Image], Image.Image]
    describe: Callable[[FaceFile], dict[str, Any]] = lambda face: {}


def make_copies(
    source: Path,
    destination: Path,
    copies: Sequence[Copy],
    *,
    seed: int,
    decoding: Decoding | None,
    skip_broken: bool,
) -> int:
    """Write every picture of every copy that is missing or damaged.

    Args:
        source: The folder to read.
        destination: Holds the folders of all copies.
        copies: What to write. All are checked before any is written.
        seed: Seed of the whole set.
        decoding: How the pictures are read.
        skip_broken: Leave broken pictures out, with one warning, instead of raising.

    Returns:
        How many pictures were written.

    Raises:
        DatasetError: If a file of `source` is broken, a folder holds anything but pictures of the
            same settings, or another process is writing there.
        OSError: If the disk is full.
        ValueError: For a negative seed, grey pictures, or a destination within the source.
    """
    decoding = decoding or Decoding()
    more = _check_folders(source, destination, seed, decoding)
    copies = [replace(copy, settings=copy.settings | more) for copy in copies]
    for copy in copies:
        known_pictures(copy.folder, copy.settings)  # refused before all of the source is read
    faces, problems = _read_faces(source, seed, decoding)
    report_problems(source, problems, len(faces), skip_broken=skip_broken)
    require_writable("destination", destination)
    with locked_folder(destination):
        remove_leftovers(destination)
        return sum(_write(copy, faces, decoding) for copy in copies)


def _check_folders(
    source: Path, destination: Path, seed: int, decoding: Decoding
) -> dict[str, Any]:
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


def _read_faces(source: Path, seed: int, decoding: Decoding) -> tuple[list[FaceFile], list[str]]:
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
        faces.append(FaceFile(name, pts_name, pair, picture, picture.size, _seed_of(name, seed)))
    return faces, problems + broken


def _seed_of(name: str, seed: int) -> int:
    """A number of 48 bits that depends only on the two arguments; JSON readers keep it exact."""
    # A name may have bytes that are not text.
    digest = hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big")


def _write(copy: Copy, faces: Sequence[FaceFile], decoding: Decoding) -> int:
    """Write the manifest of a copy, and every picture that is missing or damaged; count these.

    Raises:
        DatasetError: As `known_pictures`, or if a picture is gone since it was checked.
        OSError: If the disk is full.
    """
    folder, settings = copy.folder, copy.settings
    entries = {face.name: _entry(copy, face) for face in faces}
    known = known_pictures(folder, settings)
    folder.mkdir(parents=True, exist_ok=True)
    checks = {name: checks_in(entry) for name, entry in known.items()} | read_journal(folder)
    # A picture for which the manifest says something else is made again.
    for name, entry in entries.items():
        if without_checks(known.get(name, entry)) != entry:
            checks.pop(name, None)
    pictures = known | entries
    # Before the pictures, so that an interrupted call's folder is not taken for a foreign one.
    write_manifest(folder, settings, pictures, checks)
    with journal(folder) as note:
        try:
            return sum(_write_picture(copy, face, checks, note, decoding) for face in faces)
        finally:
            write_manifest(folder, settings, pictures, checks)
            (folder / JOURNAL).unlink()


def _entry(copy: Copy, face: FaceFile) -> dict[str, Any]:
    """What the manifest says about a picture."""
    width, height = face.size
    return {"seed": face.seed, **copy.describe(face), "width": width, "height": height}


def _write_picture(
    copy: Copy,
    face: FaceFile,
    checks: dict[str, Any],
    note: Callable[[str, dict[str, Any]], None],
    decoding: Decoding,
) -> bool:
    """Write one picture and its landmarks, unless both exist; return whether it did."""
    target, pts_target = copy.folder / face.name, copy.folder / face.pts_name
    pts = _read(face.pair.pts)
    if _holds(pts_target, checks_of(pts)) and _holds(target, checks.get(face.name, {})):
        return False
    checks.pop(face.name, None)
    data = _encoded(copy.change(face, read_picture(face.picture.path, decoding)), target.suffix)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(pts_target, pts)
    write_whole(target, data)
    checks[face.name] = checks_of(data)
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
            return checks_of(file.read()) == checks
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

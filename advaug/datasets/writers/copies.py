"""Changed copies of a folder of annotated pictures: planned first, written whole, resumed.

A copy is the same tree with other pixels: each picture under its name and in its format, each
`.pts` file byte for byte, and `manifest.json` with the settings and what was done to each picture.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from advaug.augment.masks import check_landmarks
from advaug.base.files import whole_file
from advaug.datasets.pictures import AnnotatedPicture, read_picture
from advaug.datasets.readers.pairs import FilePair, check_pairs, find_pairs
from advaug.errors import DatasetError

__all__ = ["FaceFile", "check_folders", "known_pictures", "read_faces", "seed_of", "write_copies"]

_MANIFEST = "manifest.json"
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
        """What a manifest says of it."""
        width, height = self.size
        return {"seed": seed, **more, "width": width, "height": height}


def check_folders(source: Path, destination: Path, seed: int) -> None:
    """Raise on a negative seed, or where the copies would be copied again by the next call."""
    if seed < 0:
        message = f"`seed` must be 0 or more, but got {seed}. Choose another."
        raise ValueError(message)
    if destination.resolve().is_relative_to(source.resolve()):
        message = (
            f"`destination` must be outside `{source}`, but got `{destination}`. Choose a folder "
            "beside the source."
        )
        raise ValueError(message)


def read_faces(source: Path) -> tuple[list[FaceFile], list[str]]:
    """Read every file once; give what can be copied, and one message per broken file."""
    pairs, problems = find_pairs(source)
    pictures, broken = check_pairs(pairs, num_landmarks=68)
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
        with Image.open(picture.path) as image:
            faces.append(FaceFile(name, pts_name, pair, picture, image.size))
    return faces, problems + broken


def seed_of(name: str, seed: int) -> int:
    """A number of 48 bits that depends on nothing but the two; JSON readers keep it exact."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def known_pictures(destination: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Give the pictures of an earlier call's manifest; none for a new or empty folder.

    Raises:
        DatasetError: If the folder holds anything but pictures made with the same settings.
    """
    if not destination.exists() or (destination.is_dir() and not any(destination.iterdir())):
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
    known: dict[str, Any],
    faces: Sequence[tuple[FaceFile, dict[str, Any]]],
    change: Callable[[FaceFile, Image.Image], Image.Image],
) -> int:
    """Write the manifest, and every copy that is not there yet.

    Args:
        destination: The folder to write.
        settings: What all copies share.
        known: What the manifest says already, as `known_pictures` gives it.
        faces: What to copy, and what the manifest is to say of each.
        change: From a face and its picture to the picture that is written.

    Returns:
        How many pictures were written.
    """
    destination.mkdir(parents=True, exist_ok=True)
    # Before the pictures, so that an interrupted call can be told from somebody else's folder.
    pictures = known | {face.name: entry for face, entry in faces}
    text = json.dumps(settings | {"pictures": dict(sorted(pictures.items()))}, indent=1) + "\n"
    with whole_file(destination / _MANIFEST) as path:
        path.write_text(text, encoding="utf-8")
    return sum(_write_copy(face, destination, change) for face, _ in faces)


def _read_manifest(destination: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        manifest = json.loads((destination / _MANIFEST).read_text(encoding="utf-8"))
        return manifest, manifest.pop("pictures")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = (
            f"`destination` must be new, empty or an earlier call's, but got `{destination}`, "
            f"which has no readable `{_MANIFEST}`. Choose another folder."
        )
        raise DatasetError(message) from error


def _write_copy(
    face: FaceFile, destination: Path, change: Callable[[FaceFile, Image.Image], Image.Image]
) -> bool:
    """Write one picture and its landmarks, unless both are there; tell whether it did."""
    target, pts_target = destination / face.name, destination / face.pts_name
    pts = face.pair.pts.read_bytes()
    if target.is_file() and pts_target.is_file() and pts_target.read_bytes() == pts:
        return False
    changed = change(face, read_picture(face.picture.path))
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(pts_target) as path:
        path.write_bytes(pts)
    with whole_file(target) as path:
        _save(changed, path, target.suffix)
    return True


def _save(image: Image.Image, path: Path, suffix: str) -> None:
    if suffix.lower() == ".png":
        image.save(path, format="PNG")
    else:
        image.save(path, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)

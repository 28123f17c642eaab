"""Masked-300W out of any folder of annotated faces: the pictures masked, the landmarks kept."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from advaug.augment.masks import (
    RENDERER_VERSION,
    STYLES,
    check_landmarks,
    draw_style,
    render_mask,
)
from advaug.datasets.pairs import FilePair, check_pairs, find_pairs, report_problems
from advaug.datasets.pictures import AnnotatedPicture, read_picture
from advaug.errors import DatasetError

__all__ = ["make_masked"]

_MANIFEST = "manifest.json"
_JPEG_QUALITY = 95


def make_masked(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    style: str | None = None,
    seed: int = 0,
    skip_broken: bool = False,
) -> int:
    """Mask every face of a folder of pictures with `.pts` files (68 points).

    The same tree appears under `destination`: each picture under its name and in its format, each
    `.pts` file copied byte for byte, and `manifest.json` with the renderer's version, the settings
    and the seed, style and size of every picture. A picture's mask follows from its pixels, its
    landmarks, its path relative to `source` and `seed`, so neither order nor company matters.

    Every file is replaced whole. A second call with the same settings makes what is missing.

    Args:
        source: The folder to read, at any depth.
        destination: The folder to write: a new or empty one, or an earlier call's.
        style: One of `advaug.augment.masks.STYLES`; None draws one for each picture.
        seed: Of the whole set; 0 or more.
        skip_broken: Leave broken pictures out, with one warning, instead of raising.

    Returns:
        How many pictures this call has written; those already there are not counted.

    Raises:
        DatasetError: If any file of `source` is broken (the message lists all of them), or if
            `destination` holds something else than the same settings' pictures.
        ValueError: For an unknown style, a negative seed, or a destination within the source.
    """
    source, destination = Path(source), Path(destination)
    _check_arguments(source, destination, style, seed)
    settings = {"renderer": RENDERER_VERSION, "seed": seed, "style": style}
    known = _known_pictures(destination, settings)

    tasks, problems = _plan(source, style, seed)
    report_problems(source, problems, len(tasks), skip_broken=skip_broken)
    destination.mkdir(parents=True, exist_ok=True)
    # Before the pictures, so that an interrupted call can be told from somebody else's folder.
    known |= {task.name: task.entry() for task in tasks}
    text = json.dumps(settings | {"pictures": dict(sorted(known.items()))}, indent=1) + "\n"
    _replace(destination / _MANIFEST, lambda path: path.write_text(text, encoding="utf-8"))
    return sum(_make(task, source, destination) for task in tasks)


@dataclass(frozen=True)
class _Task:
    """One picture to mask; `name` is its path relative to the source, with `/`."""

    name: str
    pair: FilePair
    picture: AnnotatedPicture
    size: tuple[int, int]
    style: str
    seed: int

    def entry(self) -> dict[str, Any]:
        """What the manifest says of it."""
        width, height = self.size
        return {"seed": self.seed, "style": self.style, "width": width, "height": height}


def _check_arguments(source: Path, destination: Path, style: str | None, seed: int) -> None:
    if style is not None and style not in STYLES:
        message = f"`style` must be one of {', '.join(STYLES)}, but got {style!r}. Choose one."
        raise ValueError(message)
    if seed < 0:
        message = f"`seed` must be 0 or more, but got {seed}. Choose another."
        raise ValueError(message)
    # Masked pictures inside the source would be masked again by the next call.
    if destination.resolve().is_relative_to(source.resolve()):
        message = (
            f"`destination` must be outside `{source}`, but got `{destination}`. Choose a folder "
            "beside the source."
        )
        raise ValueError(message)


def _known_pictures(destination: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Give the pictures of an earlier call's manifest; none for a new or empty folder."""
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


def _plan(source: Path, style: str | None, seed: int) -> tuple[list[_Task], list[str]]:
    """Read every file once; give what can be masked, and one message per broken file."""
    pairs, problems = find_pairs(source)
    pictures, broken = check_pairs(pairs, num_landmarks=68)
    pair_of = {pair.picture: pair for pair in pairs}
    tasks: list[_Task] = []
    for picture in pictures:
        try:
            check_landmarks(picture.landmarks)
        except ValueError as error:
            broken.append(f"`{pair_of[picture.path].pts}`: {error}")
            continue
        name = picture.path.relative_to(source).as_posix()
        own = _seed_of(name, seed)
        with Image.open(picture.path) as image:
            size = image.size
        chosen = style or draw_style(own)
        tasks.append(_Task(name, pair_of[picture.path], picture, size, chosen, own))
    return tasks, problems + broken


def _seed_of(name: str, seed: int) -> int:
    """A number of 48 bits that depends on nothing but the two; JSON readers keep it exact."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def _make(task: _Task, source: Path, destination: Path) -> bool:
    """Write one picture and its landmarks, unless both are there; tell whether it did."""
    target = destination / task.name
    pts_target = destination / task.pair.pts.relative_to(source)
    pts = task.pair.pts.read_bytes()
    if target.is_file() and pts_target.is_file() and pts_target.read_bytes() == pts:
        return False
    image = read_picture(task.picture.path)
    masked = render_mask(image, task.picture.landmarks, style=task.style, seed=task.seed)
    target.parent.mkdir(parents=True, exist_ok=True)
    _replace(pts_target, lambda path: path.write_bytes(pts))
    _replace(target, lambda path: _save(masked, path, target.suffix))
    return True


def _save(image: Image.Image, path: Path, suffix: str) -> None:
    if suffix.lower() == ".png":
        image.save(path, format="PNG")
    else:
        image.save(path, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside `path` and rename, which is atomic within a folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

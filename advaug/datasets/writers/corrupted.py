"""The corruption benchmark from any folder of annotated faces; the landmarks are kept."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from advaug.augment.corruptions import (
    BENCHMARK,
    BENCHMARK_VERSION,
    CORRUPTIONS,
    SEVERITIES,
    Square,
    check_kinds,
    check_severities,
    corrupt,
)
from advaug.base.files import locked_folder, remove_leftovers
from advaug.datasets.crop import SquareCrop
from advaug.datasets.decoding import Decoding
from advaug.datasets.readers.pairs import report_problems
from advaug.datasets.writers.copies import (
    FaceFile,
    check_folders,
    known_pictures,
    read_faces,
    seed_of,
    write_copies,
)

__all__ = ["make_corrupted"]


def make_corrupted(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    kinds: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    decoding: Decoding | None = None,
    skip_broken: bool = False,
) -> int:
    """Corrupt every face of a folder of pictures with `.pts` files (68 points).

    The same tree appears under `destination/KIND/SEVERITY` for every kind and severity, each with
    `manifest.json`: the benchmark's version, the settings, and the seed and size of every picture.
    Pictures keep their size. Strengths are relative to the square around the face that the readers
    crop, whose side is the diagonal of the landmarks' box. A copy depends on the picture, its
    landmarks, its path relative to `source` and `seed`, so neither the order nor the other pictures
    matter.

    Every file is replaced atomically. A second call writes what is missing or damaged, and may add
    other kinds.

    Args:
        source: The folder to read, at any depth.
        destination: The folder to write: a new or empty one, or an earlier call's.
        kinds: Names of `advaug.augment.corruptions.CORRUPTIONS`.
        severities: From 1 to 5.
        seed: Seed of the whole set; 0 or more.
        decoding: What the picture files do not settle: orientation, white, the size limit.
        skip_broken: Leave broken pictures out, with one warning, instead of raising.

    Returns:
        How many pictures this call has written; those that already exist are not counted.

    Raises:
        DatasetError: If any file of `source` is broken (the message lists all of them), if a folder
            of `destination` holds anything but pictures of the same settings, or if another process
            is writing there.
        OSError: If the disk is full.
        ValueError: For an unknown kind or severity, a negative seed, or a destination within the
            source.
    """
    source, destination = Path(source), Path(destination)
    check_kinds(kinds)
    check_severities(severities)
    decoding = decoding or Decoding()
    more = check_folders(source, destination, seed, decoding)
    folders = [(kind, severity) for kind in kinds for severity in severities]
    settings = {each: _settings(*each, seed) | more for each in folders}
    # All of them are checked before any is written.
    for each in folders:
        known_pictures(_folder(destination, *each), settings[each])
    faces, problems = read_faces(source, decoding)
    report_problems(source, problems, len(faces), skip_broken=skip_broken)
    entries = [(face, face.entry(seed_of(face.name, seed))) for face in faces]
    with locked_folder(destination):
        remove_leftovers(destination)
        return sum(
            write_copies(
                _folder(destination, kind, severity),
                settings[kind, severity],
                entries,
                lambda face, image, kind=kind, severity=severity: _corrupted(
                    image, face, kind, severity, seed_of(face.name, seed)
                ),
                decoding,
            )
            for kind, severity in folders
        )


def _folder(destination: Path, kind: str, severity: int) -> Path:
    return destination / kind / str(severity)


def _settings(kind: str, severity: int, seed: int) -> dict[str, Any]:
    return {
        "benchmark": BENCHMARK,
        "version": BENCHMARK_VERSION,
        "kind": kind,
        "severity": severity,
        "seed": seed,
    }


def _corrupted(
    image: Image.Image, face: FaceFile, kind: str, severity: int, seed: int
) -> Image.Image:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    # Only the crop's position matters, not its resolution.
    crop = SquareCrop.from_box(face.picture.box, image_size=1)
    corrupted = corrupt(
        pixels,
        kind,
        severity,
        seeds=[seed],
        landmarks=torch.from_numpy(face.picture.landmarks)[None],
        square=Square(crop.left, crop.top, crop.side),
    )
    levels = (255 * corrupted[0]).round().byte().permute(1, 2, 0)
    return Image.fromarray(levels.contiguous().numpy())

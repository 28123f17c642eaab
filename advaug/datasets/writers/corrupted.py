"""The corruption benchmark from any folder of annotated faces; the landmarks are kept."""

import os
from collections.abc import Sequence
from pathlib import Path

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
from advaug.datasets.crop import SquareCrop
from advaug.datasets.decoding import Decoding
from advaug.datasets.writers.copies import Copy, FaceFile, make_copies

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
    check_kinds(kinds)
    check_severities(severities)
    destination = Path(destination)
    copies = [_copy(destination, kind, level, seed) for kind in kinds for level in severities]
    return make_copies(
        Path(source), destination, copies, seed=seed, decoding=decoding, skip_broken=skip_broken
    )


def _copy(destination: Path, kind: str, severity: int, seed: int) -> Copy:
    settings = {
        "benchmark": BENCHMARK,
        "version": BENCHMARK_VERSION,
        "kind": kind,
        "severity": severity,
        "seed": seed,
    }
    return Copy(
        destination / kind / str(severity),
        settings,
        lambda face, image: _corrupted(image, face, kind, severity),
    )


def _corrupted(image: Image.Image, face: FaceFile, kind: str, severity: int) -> Image.Image:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    # Only the crop's position matters, not its resolution.
    crop = SquareCrop.from_box(face.picture.box, image_size=1)
    corrupted = corrupt(
        pixels,
        kind,
        severity,
        seeds=[face.seed],
        landmarks=torch.from_numpy(face.picture.landmarks)[None],
        square=Square(crop.left, crop.top, crop.side),
    )
    levels = (255 * corrupted[0]).round().byte().permute(1, 2, 0)
    return Image.fromarray(levels.contiguous().numpy())

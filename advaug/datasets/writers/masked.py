"""Masked-300W from any folder of annotated faces: the pictures masked, the landmarks kept."""

import os
from pathlib import Path

from PIL import Image

from advaug.augment.masks import RENDERER_VERSION, STYLES, draw_style, render_mask
from advaug.base.files import locked_folder, remove_leftovers
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

__all__ = ["make_masked"]


def make_masked(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    style: str | None = None,
    seed: int = 0,
    decoding: Decoding | None = None,
    skip_broken: bool = False,
) -> int:
    """Mask every face of a folder of pictures with `.pts` files (68 points).

    The same tree appears under `destination`: each picture under its name and in its format, each
    `.pts` file copied byte for byte, and `manifest.json` with the renderer's version, the settings,
    and the seed, style and size of every picture. A picture's mask depends on its pixels, its
    landmarks, its path relative to `source` and `seed`, so neither the order nor the other pictures
    matter.

    Every file is replaced atomically. A second call with the same settings writes what is missing
    or damaged.

    Args:
        source: The folder to read, at any depth.
        destination: The folder to write: a new or empty one, or an earlier call's.
        style: One of `advaug.augment.masks.STYLES`; None draws one for each picture.
        seed: Seed of the whole set; 0 or more.
        decoding: What the picture files do not settle: orientation, white, the size limit.
        skip_broken: Leave broken pictures out, with one warning, instead of raising.

    Returns:
        How many pictures this call has written; those that already exist are not counted.

    Raises:
        DatasetError: If any file of `source` is broken (the message lists all of them), or if
            `destination` holds anything but pictures of the same settings or is being written by
            another process.
        OSError: If the disk is full.
        ValueError: For an unknown style, a negative seed, or a destination within the source.
    """
    source, destination = Path(source), Path(destination)
    if style is not None and style not in STYLES:
        message = f"`style` must be one of {', '.join(STYLES)}, but got {style!r}. Choose one."
        raise ValueError(message)
    decoding = decoding or Decoding()
    settings = {"renderer": RENDERER_VERSION, "seed": seed, "style": style}
    settings |= check_folders(source, destination, seed, decoding)
    known_pictures(destination, settings)  # refused before all of the source is read

    def style_of(face: FaceFile) -> str:
        return style or draw_style(seed_of(face.name, seed))

    def mask(face: FaceFile, image: Image.Image) -> Image.Image:
        own = seed_of(face.name, seed)
        return render_mask(image, face.picture.landmarks, style=style_of(face), seed=own)

    faces, problems = read_faces(source, decoding)
    report_problems(source, problems, len(faces), skip_broken=skip_broken)
    entries = [(face, face.entry(seed_of(face.name, seed), style=style_of(face))) for face in faces]
    with locked_folder(destination):
        remove_leftovers(destination)
        return write_copies(destination, settings, entries, mask, decoding)

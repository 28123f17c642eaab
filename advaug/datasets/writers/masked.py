"""Masked-300W from any folder of annotated faces: the pictures masked, the landmarks kept."""

import os
from pathlib import Path

from PIL import Image

from advaug.augment.masks import RENDERER_VERSION, STYLES, draw_style, render_mask
from advaug.base.checks import check_choice
from advaug.datasets.decoding import Decoding
from advaug.datasets.writers.copies import Copy, FaceFile, make_copies

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
    if style is not None:
        check_choice("style", style, STYLES)

    def style_of(face: FaceFile) -> str:
        return style or draw_style(face.seed)

    def mask(face: FaceFile, image: Image.Image) -> Image.Image:
        points = face.picture.landmarks
        return render_mask(image, points, style=style_of(face), seed=face.seed)

    destination = Path(destination)
    settings = {"renderer": RENDERER_VERSION, "seed": seed, "style": style}
    copy = Copy(destination, settings, mask, lambda face: {"style": style_of(face)})
    return make_copies(
        Path(source), destination, [copy], seed=seed, decoding=decoding, skip_broken=skip_broken
    )

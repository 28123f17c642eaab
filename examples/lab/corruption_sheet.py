"""Draw a sheet of every corruption at every severity, on synthetic faces.

python examples/benchmark.py corruption-sheet docs/images/corruptions.png
"""

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from advaug.augment.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from advaug.datasets import SyntheticFaces

LABEL = 96  # pixels
COLUMNS = 2  # of kinds


def main() -> int:
    """Draw, and save as a PNG."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("path", type=Path, help="PNG to write")
    parser.add_argument("--image-size", type=int, default=80, help="side of a picture (default 80)")
    arguments = parser.parse_args()
    try:
        draw_sheet(arguments.image_size).save(arguments.path, format="PNG", optimize=True)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def draw_sheet(side: int) -> Image.Image:
    """A row a kind: its name, the picture as it is, and the five severities."""
    rows = -(-len(CORRUPTIONS) // COLUMNS)
    block = LABEL + (1 + len(SEVERITIES)) * side
    sheet = Image.new("RGB", (COLUMNS * block, rows * side), "white")
    pen = ImageDraw.Draw(sheet)
    faces = SyntheticFaces(len(CORRUPTIONS), split="val", image_size=side)
    for number, kind in enumerate(CORRUPTIONS):
        column, row = divmod(number, rows)
        pen.text((column * block + 4, row * side + side // 2 - 5), kind, fill="black")
        image, landmarks, _ = faces[number]
        strip = [image]
        for severity in SEVERITIES:
            args = (image[None], kind, severity)
            strip += corrupt(*args, seeds=[number], landmarks=landmarks[None])
        picture = _to_picture(torch.cat(strip, dim=2))
        sheet.paste(picture, (column * block + LABEL, row * side))
    return sheet


def _to_picture(image: Tensor) -> Image.Image:
    return Image.fromarray((255 * image).round().byte().permute(1, 2, 0).contiguous().numpy())


if __name__ == "__main__":
    sys.exit(main())

"""Folders of annotated faces for the campaigns, and what they count."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from advaug.datasets import write_pts


def landmarks(side: int, seed: int) -> np.ndarray:
    """68 points on a ring of several radii, which is face enough for masks and crops."""
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    radii = side * (0.3 + 0.05 * np.random.default_rng(seed).random(68))
    return side / 2 + np.column_stack([radii * np.cos(angles), radii * np.sin(angles)])


def make_faces(folder: Path, count: int, side: int = 64) -> Path:
    """Write `count` pictures with a `.pts` file each, at two depths and in two formats."""
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (side, side, 3), dtype=np.uint8)
        suffix = ("png", "jpg")[index % 3 % 2]
        path = folder / ("deep" if index % 2 else "") / f"{index:03}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((side, side)).save(path)
        write_pts(path.with_suffix(".pts"), landmarks(side, index))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder but what is being written, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".tmp"
    }


def half_written(folder: Path, whole: dict[str, bytes]) -> list[str]:
    """Files with a final name that are not what they are once all is written.

    A manifest grows while pictures are written; it must be json at every moment.
    """
    broken = []
    for name, content in contents(folder).items():
        if name.endswith("manifest.json"):
            try:
                json.loads(content)["pictures"]
            except (ValueError, KeyError):
                broken.append(name)
        elif content != whole.get(name):
            broken.append(name)
    return broken


def table(title: str, counts: Counter[str]) -> str:
    """The counts of a campaign, a line each."""
    width = max(map(len, counts), default=0)
    lines = [f"  {name:{width}}  {count}" for name, count in sorted(counts.items())]
    return "\n".join([title, *lines])

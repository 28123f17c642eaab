"""A folder of drawn faces and the settings of a study of them, which takes seconds."""

from pathlib import Path

import pytest
from lab.study import PLANS, Settings
from PIL import Image

from advaug.datasets import SyntheticFaces
from advaug.datasets.readers.pts import write_pts

PEOPLE = {"train": 7, "val": 5}
SEVERAL = 2  # pictures of each person
LONG = 3600.0  # seconds: none of these studies is in a hurry, however busy the machine is


@pytest.fixture(scope="session", name="root")
def people_root(tmp_path_factory):
    """A folder of drawn faces, named as real ones are."""
    root = tmp_path_factory.mktemp("people")
    for split, people in PEOPLE.items():
        (root / split).mkdir()
        faces = SyntheticFaces(people * SEVERAL, split=split, image_size=40, seed=3)
        for number in range(people * SEVERAL):
            face = faces[number]
            stem = root / split / f"{split}{number // SEVERAL:02d}_{number % SEVERAL}"
            pixels = (255 * face.image.permute(1, 2, 0)).round().byte().numpy()
            Image.fromarray(pixels).save(f"{stem}.jpg")
            write_pts(f"{stem}.pts", face.landmarks)
    return root


def settings_of(root, output, **changes):
    usual = {**PLANS["tiny"], "choose_people": 2, "severities": (3,)}
    return Settings(root=root, output=Path(output), **{**usual, **changes})

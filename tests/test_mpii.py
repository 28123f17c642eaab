"""MPII: crops from centre and scale, pixels from 1, head sizes, and what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from advaug.datasets import Mpii
from advaug.errors import DatasetError
from advaug.schemes import MPII_16

JOINTS = [[31.0 + index, 21.0] for index in range(16)]


def entry(**changes):
    return {
        "image": "a.png",
        "center": [41.0, 21.0],
        "scale": 0.2,
        "joints": JOINTS,
        "joints_vis": [1] * 15 + [0],
    } | changes


@pytest.fixture
def write(tmp_path):
    """A function that writes the data set with some entries, and gives its root."""

    def write(entries, split="valid", boxes=None):
        for folder in ("images", "annot"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (80, 60), "grey").save(tmp_path / "images" / "a.png")
        (tmp_path / "annot" / f"{split}.json").write_text(json.dumps(entries))
        if boxes is not None:
            savemat(tmp_path / "annot" / f"gt_{split}.mat", {"headboxes_src": boxes})
        return tmp_path

    return write


def test_the_crop_follows_from_centre_and_scale(write):
    dataset = Mpii(write([entry()]), "valid", image_size=100)
    crop = dataset.crop(0)
    assert crop.side == pytest.approx(1.25 * 200 * 0.2)
    # The file's pixel 41 is our 40, whose centre is 40.5 from the edge; 15 x 0.2 lower.
    centre = (crop.left + crop.side / 2, crop.top + crop.side / 2)
    assert centre == pytest.approx((40.5, 23.5))
    sample = dataset[0]
    np.testing.assert_allclose(crop.to_picture(sample.landmarks), np.array(JOINTS) - 1, atol=1e-4)
    assert sample.visible.tolist() == [True] * 15 + [False]
    assert dataset.scheme is MPII_16


def test_people_without_a_joint_are_left_out(write):
    dataset = Mpii(write([entry(joints_vis=[0] * 16), entry()], "train"))
    assert len(dataset) == 1


def test_head_sizes_are_diagonals_in_pixels_of_the_crops(write):
    boxes = np.zeros((2, 2, 2))
    boxes[:, :, 0] = [[0, 0], [100, 100]]  # of the person that is left out
    boxes[:, :, 1] = [[10, 10], [13, 14]]
    root = write([entry(joints_vis=[0] * 16), entry()], boxes=boxes)
    sizes = Mpii(root, "valid", image_size=100).head_sizes()
    np.testing.assert_allclose(sizes, [5 * 100 / 50])


def test_head_sizes_need_a_file_of_as_many_people(write):
    dataset = Mpii(write([entry()]), "valid")
    with pytest.raises(DatasetError, match="gt_valid.mat.*which PCKh needs"):
        dataset.head_sizes()
    write([entry()], boxes=np.zeros((2, 2, 3)))
    with pytest.raises(DatasetError, match=r"shape \(2, 2, 1\)"):
        dataset.head_sizes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None}, "entry 1: `image` must be the name"),
        ({"image": "b.png"}, "b.png` must be a whole picture"),
        ({"joints": JOINTS[1:]}, "`joints` must be 32 finite numbers"),
        ({"joints_vis": [1]}, "`joints_vis` must be 16"),
        ({"center": [float("nan"), 3]}, "`center` must be 2 finite numbers"),
        ({"scale": 0.0}, "a box of at least 2 x 2 pixels"),
    ],
    ids=["image", "missing", "joints", "flags", "center", "scale"],
)
def test_a_broken_entry_is_named_or_left_out(write, changes, message):
    root = write([entry(), entry(**changes)])
    with pytest.raises(DatasetError, match=message):
        Mpii(root, "valid")
    with pytest.warns(UserWarning, match="1 problems"):
        assert len(Mpii(root, "valid", skip_broken=True)) == 1


def test_other_files_and_splits_are_refused(write):
    with pytest.raises(ValueError, match="`split` must be one of"):
        Mpii(write([]), "test")
    with pytest.raises(DatasetError, match="must be a list of people"):
        Mpii(write([]), "valid")


def test_a_sample_is_a_picture_in_unit_range(write):
    image = Mpii(write([entry()]), "valid", image_size=64)[0].image
    assert image.shape == (3, 64, 64)
    assert image.dtype == torch.float32
    assert image[:, 32, 32].tolist() == pytest.approx([128 / 255] * 3)

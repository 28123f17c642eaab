"""MERL-RAV: what the signs of a `.pts` file say, the folders, and broken files."""

import numpy as np
import pytest
import torch
from small_sets import add_picture, assert_a_good_sample, make_merl_rav, points, truncate

from advaug.datasets import MerlRav, read_pts, write_pts
from advaug.errors import DatasetError
from advaug.schemes import FACE_68


@pytest.fixture
def root(tmp_path):
    return make_merl_rav(tmp_path / "merl_rav_organized")


def test_signs_by_hand(tmp_path):
    path = tmp_path / "a.pts"
    path.write_text("version: 1\nn_points: 4\n{\n11.5 21\n-31 -41.25\n-1 -1\n1 1\n}\n")
    landmarks, placed, hidden = read_pts(path, negative="occluded")
    np.testing.assert_array_equal(landmarks[placed], [[10.5, 20], [30, 40.25], [0, 0]])
    assert placed.tolist() == [True, True, False, True]
    assert hidden.tolist() == [False, True, True, False]


@pytest.mark.parametrize(("split", "count"), [("train", 10), ("test", 10), ("all", 20)])
def test_a_split_has_the_pictures_of_its_folders(root, split, count):
    dataset = MerlRav(root, split, image_size=32)
    assert len(dataset) == count
    assert dataset.scheme is FACE_68
    assert_a_good_sample(dataset)
    if split != "all":
        assert {path.parent.name for path in dataset.paths} == {f"{split}set"}


def test_occluded_landmarks_have_a_place_and_others_are_not_visible(root):
    dataset = MerlRav(root, "test", image_size=64)
    sample = dataset[1]
    assert sample.visible.tolist() == [False] + [True] * 67
    assert sample.occluded.tolist() == [True, True] + [False] * 66
    assert torch.equal(dataset.occluded[1], sample.occluded)
    found = dataset.crop(1).to_picture(sample.landmarks)[1:]
    np.testing.assert_allclose(found, points(68, 1)[1:], atol=1e-4)
    # The landmark without a place does not enlarge the box.
    tight = np.linalg.norm(np.ptp(points(68)[1:], axis=0))
    assert dataset.crop(1).side == pytest.approx(tight)


def test_everything_broken_is_listed(root):
    folder = root / "left" / "trainset"
    truncate(folder / "image00000.jpg")
    (folder / "image00001.pts").unlink()
    folder = root / "right" / "trainset"
    write_pts(folder / "image00000.pts", np.full((68, 2), -2.0))  # -1 -1 in the file
    lines = (folder / "image00001.pts").read_text().splitlines()
    lines[6] = "7 x"
    (folder / "image00001.pts").write_text("\n".join(lines))
    for path in [*(root / "frontal" / "trainset").iterdir()]:
        path.unlink()
    (root / "frontal" / "trainset").rmdir()
    with pytest.raises(DatasetError) as caught:
        MerlRav(root, "train")
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    for fact in (
        "frontal/trainset` must be a folder, but got none",
        "left/trainset/image00000.jpg` must be a whole picture",
        "left/trainset/image00001.jpg` must have a `.pts` file beside it",
        "right/trainset/image00000.pts` must have 68 points, one with a place at least",
        "right/trainset/image00001.pts`, line 7, must be two finite numbers, but got '7 x'",
    ):
        assert fact in text
    with pytest.warns(UserWarning, match="5 problems, going on without them and with 4"):
        assert len(MerlRav(root, "train", skip_broken=True)) == 4


def test_any_folder_of_such_files(tmp_path):
    path = add_picture(tmp_path / "deep" / "a.png")
    write_pts(path.with_suffix(".pts"), points(68))
    dataset = MerlRav(tmp_path, "all")
    assert len(dataset) == 1
    assert not dataset.occluded.any()


def test_unknown_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`split` must be one of train, test, all, but got 'val'"):
        MerlRav(tmp_path, "val")

"""COFW and COFW68: MATLAB's two formats, occlusion, boxes, grey pictures, and broken files."""

import pickle
import sys

import numpy as np
import pytest
import torch
from small_sets import (
    HEIGHT,
    WIDTH,
    assert_a_good_sample,
    first_landmark,
    make_cofw,
    make_cofw68,
    pixels,
    points,
    truncate,
)
from torch.utils.data import DataLoader

from advaug.datasets import Cofw, Cofw68
from advaug.datasets.readers import cofw
from advaug.errors import DatasetError
from advaug.evaluation.metrics import nme
from advaug.schemes import FACE_29, FACE_68

h5py = pytest.importorskip("h5py")
SMALL = {"train": 5, "test": 4}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(cofw, "COUNTS", SMALL)


@pytest.fixture
def root(tmp_path):
    return make_cofw(tmp_path / "COFW_color", SMALL, grey=(1,)).parent


@pytest.fixture
def root68(tmp_path):
    return make_cofw68(tmp_path / "COFW68", SMALL)


def test_published_sizes(monkeypatch):
    monkeypatch.undo()
    assert cofw.COUNTS == {"train": 1345, "test": 507}


@pytest.mark.parametrize("split", SMALL)
def test_a_split_has_its_faces_and_occlusion(root, split):
    dataset = Cofw(root, split, image_size=32)
    assert len(dataset) == SMALL[split]
    assert dataset.scheme is FACE_29
    assert_a_good_sample(dataset)
    expected = [index % 4 == 2 for index in range(29)]
    assert dataset[2].occluded.tolist() == dataset.occluded[2].tolist() == expected
    assert dataset[2].visible.sum() > 15  # an occluded landmark has to be guessed


def test_points_and_boxes_count_from_0(root):
    dataset = Cofw(root, "test", image_size=50)
    np.testing.assert_allclose(first_landmark(dataset, 3), points(29, 3)[0], atol=1e-4)
    crop = dataset.crop(3)
    # left 21, top 11, 40 wide, 30 high, counted from 1
    assert crop.side == 50
    np.testing.assert_allclose(crop.to_picture([24.5, 24.5]), [40, 25])
    tight = Cofw(root, "test", boxes="landmarks").crop(3).side
    assert tight == pytest.approx(np.linalg.norm(np.ptp(points(29), axis=0)))


def test_pictures_keep_their_axes_and_channels_and_grey_ones_become_rgb(root):
    dataset = Cofw(root, "train")
    picture = dataset.picture(2)
    assert picture.size == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(np.asarray(picture), pixels(2))
    grey = np.asarray(dataset.picture(1))
    np.testing.assert_array_equal(grey, np.stack([pixels(1, grey=True)] * 3, axis=2))
    assert dataset.name(2).endswith("COFW_train_color.mat, IsTr{3}")


def test_the_grey_file_is_read_where_there_is_no_other(root):
    path = root / "COFW_color" / "COFW_test_color.mat"
    path.rename(path.with_name("COFW_test.mat"))
    assert Cofw(root, "test").paths[0].name == "COFW_test.mat"


def test_both_normalisers_fit(root):
    target = Cofw(root, "test")[0].landmarks[None]
    preds = target + torch.tensor([3.0, 4.0])
    for normalizer, one, other in (("inter_ocular", 8, 9), ("inter_pupil", 16, 17)):
        distance = (target[0, one] - target[0, other]).norm()
        torch.testing.assert_close(nme(preds, target, normalizer=normalizer)[0], 5 / distance)


def test_batches_by_workers_and_pickles(root):
    dataset = Cofw(root, "train", image_size=16)
    batch = next(iter(DataLoader(dataset, batch_size=5, num_workers=1)))
    torch.testing.assert_close(batch.image[4], dataset[4].image)
    copy = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(copy[2].image, dataset[2].image)
    assert torch.equal(copy[2].occluded, dataset[2].occluded)


def change(root, split, action):
    with h5py.File(root / f"COFW_color/COFW_{split}_color.mat", "r+") as file:
        action(file)


def test_broken_faces_are_listed_by_their_number(root):
    def damage(file):
        del file["#refs#/0"]
        file["#refs#/0"] = np.zeros((3, WIDTH, HEIGHT))  # of another type
        file["IsTr"][0, 0] = file["#refs#/0"].ref
        file["phisTr"][0, 3] = 1e6
        file["phisTr"][80, 1] = np.nan  # an occlusion bit
        file["bboxesTr"][0, 2] = np.inf

    change(root, "train", damage)
    with pytest.raises(DatasetError) as caught:
        Cofw(root, "train")
    first, second, third, fourth = sorted(caught.value.problems)
    assert "IsTr{1}" in first
    assert "must be a picture of 8 bits, grey or RGB, but got float64" in first
    assert "face 2 in" in second
    assert "landmarks and box near its 96 x 72 pixels, but got [nan, nan]" in second
    assert "face 3 in" in third
    assert "face 4 in" in fourth
    with pytest.warns(UserWarning, match="4 problems, going on without them and with 1"):
        dataset = Cofw(root, "train", skip_broken=True)
    assert dataset.name(0)[-7:] == "IsTr{5}"
    np.testing.assert_array_equal(np.asarray(dataset.picture(0)), pixels(4))
    assert dataset.occluded.shape == (1, 29)


def test_a_face_too_few_is_counted(root, monkeypatch):
    monkeypatch.setattr(cofw, "COUNTS", {"train": 6, "test": 4})
    with pytest.raises(DatasetError, match="must have 6 faces, but got 5 of 6"):
        Cofw(root, "train")
    with pytest.warns(UserWarning, match="1 problems"):
        assert len(Cofw(root, "train", skip_broken=True)) == 5


@pytest.mark.parametrize(
    ("damage", "fact"),
    [
        ("cut", "must be a whole file of MATLAB's"),
        ("no boxes", "must hold `bboxesT`, but got"),
        ("28 points", "must hold `phisT`, 87 numbers a face"),
        ("a box less", "must have as many faces as pictures and boxes, but got 4, 4 and 3"),
    ],
)
def test_an_unreadable_file_is_named(root, damage, fact):
    def act(file):
        phis, boxes = file["phisT"][()], file["bboxesT"][()]
        if damage in ("no boxes", "a box less"):
            del file["bboxesT"]
        if damage == "a box less":
            file["bboxesT"] = boxes[:, :3]
        if damage == "28 points":
            del file["phisT"]
            file["phisT"] = phis[:84]

    if damage == "cut":
        truncate(root / "COFW_color/COFW_test_color.mat")
    else:
        change(root, "test", act)
    with pytest.raises(DatasetError) as caught:
        Cofw(root, "test")
    assert "COFW_test_color.mat` " + fact in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"must hold `COFW_test.mat`.*COFW_test_color.mat"):
        Cofw(tmp_path, "test")


def test_missing_h5py_says_what_to_do(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"h5py must be installed.*advaug\[datasets\]"):
        Cofw(root, "test")


def test_cofw68_joins_the_annotations_with_cofws_pictures(root68):
    dataset = Cofw68(root68, image_size=50)
    assert len(dataset) == 4
    assert dataset.scheme is FACE_68
    assert_a_good_sample(dataset, 3)
    np.testing.assert_allclose(first_landmark(dataset, 3), points(68, 3)[0], atol=1e-4)
    np.testing.assert_array_equal(np.asarray(dataset.picture(3)), pixels(3))
    assert dataset.occluded[0].nonzero().ravel().tolist() == list(range(0, 68, 5))
    assert torch.equal(dataset[0].occluded, dataset.occluded[0])
    assert dataset.crop(0).side == 50
    tight = Cofw68(root68, boxes="landmarks").crop(0).side
    assert tight == pytest.approx(np.linalg.norm(np.ptp(points(68), axis=0)))


def test_cofw68_lists_every_broken_annotation(root68):
    from scipy.io import savemat

    folder = root68 / "COFW68_Data" / "test_annotations"
    (folder / "1_points.mat").unlink()
    (folder / "2_points.mat").write_bytes(b"no file of MATLAB's")
    savemat(folder / "3_points.mat", {"Points": np.zeros((67, 2)), "Occ": np.zeros((1, 68))})
    with pytest.raises(DatasetError) as caught:
        Cofw68(root68)
    one, two, three = caught.value.problems
    assert "1_points.mat` must be a file of MATLAB's, but got none" in one
    assert "2_points.mat` must be a whole file of MATLAB's" in two
    assert "3_points.mat` must hold `Points`, 68 x 2 finite numbers, but got float64" in three
    with pytest.warns(UserWarning, match="3 problems, going on without them and with 1"):
        dataset = Cofw68(root68, skip_broken=True)
    np.testing.assert_array_equal(np.asarray(dataset.picture(0)), pixels(3))


def test_cofw68_names_the_part_that_is_missing(root68):
    (root68 / "COFW68_Data" / "cofw68_test_bboxes.mat").unlink()
    assert len(Cofw68(root68, boxes="landmarks")) == 4
    with pytest.raises(DatasetError, match=r"must hold `cofw68_test_bboxes.mat`"):
        Cofw68(root68)

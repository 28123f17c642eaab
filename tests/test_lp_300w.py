"""300W-LP: folders and counts, which of its annotations is read, and broken files."""

import numpy as np
import pytest
from small_sets import (
    add_picture,
    assert_a_good_sample,
    first_landmark,
    make_300w_lp,
    points,
    truncate,
)

from advaug.datasets import Faces300WLP
from advaug.datasets.readers import lp_300w
from advaug.errors import DatasetError
from advaug.schemes import FACE_68

scipy_io = pytest.importorskip("scipy.io")
SMALL = {"AFW": 2, "HELEN": 3, "IBUG": 4, "LFPW": 1}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(lp_300w, "PART_COUNTS", SMALL)
    return make_300w_lp(tmp_path / "300W_LP", SMALL)


def test_published_sizes():
    assert sum(lp_300w.PART_COUNTS.values()) == 61_225
    assert lp_300w.PART_COUNTS["IBUG"] == 1786


def test_the_splits_with_and_without_the_challenging_pictures_of_300w(root):
    dataset = Faces300WLP(root, image_size=32)
    assert len(dataset) == 10
    assert dataset.scheme is FACE_68
    assert_a_good_sample(dataset)
    rest = Faces300WLP(root, "without-ibug")
    assert {path.parent.name for path in rest.paths} == {"AFW", "HELEN", "LFPW"}
    assert len(rest) == 6


def test_mirrored_copies_are_passed_over(root):
    add_picture(root / "AFW_Flip" / "AFW_0_0.jpg")
    assert len(Faces300WLP(root)) == 10


@pytest.mark.parametrize(("which", "seed"), [("pts_2d", 0), ("pts_3d", 1), ("pt2d", 2)])
def test_each_annotation_counts_from_0(root, which, seed):
    dataset = Faces300WLP(root, points=which)
    expected = points(68, 1, seed=seed)
    np.testing.assert_allclose(first_landmark(dataset, 1), expected[0], atol=1e-4)
    tight = np.linalg.norm(np.ptp(expected, axis=0))
    assert dataset.crop(1).side == pytest.approx(tight)
    assert dataset[1].visible.all()
    assert dataset[1].occluded is None


def test_auto_takes_the_annotation_in_2d_where_there_is_a_folder_of_it(root):
    np.testing.assert_allclose(first_landmark(Faces300WLP(root)), points(68)[0], atol=1e-4)
    (root / "landmarks").rename(root / "other")
    expected = points(68, seed=2)[0]
    np.testing.assert_allclose(first_landmark(Faces300WLP(root)), expected, atol=1e-4)


def test_everything_broken_is_listed(root):
    truncate(root / "AFW" / "AFW_0_0.jpg")
    (root / "HELEN" / "HELEN_0_0.jpg").unlink()  # its .mat stays
    (root / "landmarks" / "HELEN" / "HELEN_1_0_pts.mat").unlink()
    broken = root / "landmarks" / "HELEN" / "HELEN_2_0_pts.mat"
    scipy_io.savemat(broken, {"pts_2d": np.full((68, 2), np.nan)})
    for suffix in (".jpg", ".mat"):
        (root / "IBUG" / "IBUG_3_0").with_suffix(suffix).unlink()
    with pytest.raises(DatasetError) as caught:
        Faces300WLP(root)
    expected = [
        "IBUG` must have 4 pictures, but got 3 of 4",
        "HELEN_1_0_pts.mat` must be a file of MATLAB's, but got none",
        "HELEN_2_0_pts.mat` must hold `pts_2d`, 68 x 2 finite numbers, but got some that are not",
        "AFW_0_0.jpg` must be a whole picture",
        "HELEN_0_0.jpg` must be a whole picture, but got FileNotFoundError",
    ]
    assert len(caught.value.problems) == len(expected)
    for problem, fact in zip(caught.value.problems, expected, strict=True):
        assert fact in problem
    with pytest.warns(UserWarning, match="5 problems, going on without them and with 5"):
        assert len(Faces300WLP(root, skip_broken=True)) == 5


@pytest.mark.parametrize("arguments", [{"split": "train"}, {"points": "3d"}])
def test_unknown_arguments_are_refused(tmp_path, arguments):
    with pytest.raises(ValueError, match="must be one of (all, without-ibug|auto, pts_2d)"):
        Faces300WLP(tmp_path, **arguments)

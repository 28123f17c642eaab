"""AFLW2000-3D: 68 and 21 landmarks, subsets by yaw, and broken files."""

import numpy as np
import pytest
from small_sets import add_picture, assert_a_good_sample, first_landmark, make_aflw2000, points

from advaug.datasets import Aflw2000
from advaug.datasets.readers import aflw2000
from advaug.errors import DatasetError
from advaug.schemes import FACE_21, FACE_68

scipy_io = pytest.importorskip("scipy.io")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Five faces, turned by 0, 22, 44, 66 and 88 degrees."""
    monkeypatch.setattr(aflw2000, "COUNT", 5)
    return make_aflw2000(tmp_path / "AFLW2000", 5)


def test_published_size():
    assert aflw2000.COUNT == 2000


def test_68_landmarks_count_from_0_and_are_all_visible(root):
    dataset = Aflw2000(root, image_size=64)
    assert len(dataset) == 5
    assert dataset.scheme is FACE_68
    assert_a_good_sample(dataset, 2)
    np.testing.assert_allclose(first_landmark(dataset, 2), points(68, 2)[0], atol=1e-4)
    assert dataset.crop(2).side == pytest.approx(np.linalg.norm(np.ptp(points(68), axis=0)))
    assert dataset[2].visible.all()


def test_of_21_landmarks_those_without_a_place_are_not_visible(root):
    dataset = Aflw2000(root, num_landmarks=21)
    assert dataset.scheme is FACE_21
    assert_a_good_sample(dataset)
    seen = np.arange(21) % 3 != 1
    assert dataset[3].visible.tolist() == seen.tolist()
    np.testing.assert_allclose(first_landmark(dataset, 3), points(21, 3)[0], atol=1e-4)
    # The box is that of the landmarks that are seen.
    tight = np.linalg.norm(np.ptp(points(21)[seen], axis=0))
    assert dataset.crop(3).side == pytest.approx(tight)


def test_subsets_by_yaw_share_nothing_and_make_the_whole(root):
    parts = {name: Aflw2000(root, name) for name in aflw2000.YAWS}
    assert [len(parts[name]) for name in aflw2000.YAWS] == [5, 2, 1, 2]
    np.testing.assert_allclose(parts["all"].yaws, [0, -22, -44, -66, -88], atol=1e-4)
    assert parts["yaw-30-60"].paths == parts["all"].paths[2:3]


def test_everything_broken_is_listed(root):
    scipy_io.savemat(root / "image00000.mat", {"pt3d_68": np.zeros((3, 68))})
    (root / "image00001.mat").write_bytes(b"")
    add_picture(root / "image00009.jpg")
    with pytest.raises(DatasetError) as caught:
        Aflw2000(root)
    expected = [
        "AFLW2000` must have 5 pictures, but got 6 of 5",
        "image00000.mat` must hold `Pose_Para`, 1 x 7 finite numbers, but got none",
        "image00001.mat` must be a whole file of MATLAB's",
        "image00009.mat` must be a file of MATLAB's, but got none",
    ]
    for problem, fact in zip(caught.value.problems, expected, strict=True):
        assert fact in problem
    with pytest.warns(UserWarning, match="4 problems, going on without them and with 3"):
        assert len(Aflw2000(root, skip_broken=True)) == 3


def test_a_face_without_a_landmark_that_is_seen_is_broken(root):
    content = scipy_io.loadmat(root / "image00000.mat", variable_names=["pt3d_68", "Pose_Para"])
    content = {name: content[name] for name in ("pt3d_68", "Pose_Para")}
    content["pt2d"] = np.full((2, 21), -1.0)
    scipy_io.savemat(root / "image00000.mat", content)
    with pytest.raises(DatasetError, match=r"image00000.mat` must have a landmark that can be"):
        Aflw2000(root, num_landmarks=21)
    assert len(Aflw2000(root)) == 5


@pytest.mark.parametrize("arguments", [{"subset": "yaw"}, {"num_landmarks": 29}])
def test_unknown_arguments_are_refused(tmp_path, arguments):
    with pytest.raises(ValueError, match="must be one of (all, yaw-0-30|68, 21)"):
        Aflw2000(tmp_path, **arguments)

"""WFLW: the lists' columns, the six subsets, several faces in a picture, and broken lines."""

import numpy as np
import pytest
from small_sets import assert_a_good_sample, first_landmark, make_wflw, points, truncate

from advaug.datasets import Wflw
from advaug.datasets.readers import wflw
from advaug.errors import DatasetError
from advaug.schemes import FACE_68, FACE_98, FACE_98_TO_68

LIST = "WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_{}.txt"
# Of 12 test faces each has one attribute, in turn.
SMALL = {"train": 5, "test": 12} | dict.fromkeys(wflw.WFLW_ATTRIBUTES, 2)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(wflw, "COUNTS", SMALL)
    return make_wflw(tmp_path / "WFLW", SMALL)


@pytest.fixture
def rewrite(root):
    """A function that changes one line of a list, counted from 1."""

    def rewrite(split, number, change):
        path = root / LIST.format(split)
        lines = path.read_text().splitlines()
        lines[number - 1] = change(lines[number - 1].split(" "))
        path.write_text("\n".join(lines) + "\n")

    return rewrite


def test_published_sizes():
    assert wflw.COUNTS == {
        "train": 7500,
        "test": 2500,
        "pose": 326,
        "expression": 314,
        "illumination": 698,
        "make-up": 206,
        "occlusion": 736,
        "blur": 773,
    }


@pytest.mark.parametrize("subset", SMALL)
def test_each_subset_has_its_faces(root, subset):
    dataset = Wflw(root, subset, image_size=32)
    assert len(dataset) == SMALL[subset]
    assert dataset.scheme is FACE_98
    assert_a_good_sample(dataset)


def test_a_subset_has_the_faces_of_its_attribute(root):
    blur, test = Wflw(root, "blur"), Wflw(root, "test")
    assert blur.attributes.tolist() == [[False] * 5 + [True]] * 2
    where = test.attributes[:, 5].nonzero().ravel().tolist()
    assert where == [5, 11]
    assert [test.paths[index] for index in where] == blur.paths


def test_landmarks_count_from_0_and_the_crop_is_that_of_the_annotated_box(root):
    dataset = Wflw(root, "test", image_size=100)
    np.testing.assert_allclose(first_landmark(dataset, 3), points(98, 3)[0], atol=1e-4)
    crop = dataset.crop(3)
    assert crop.side == pytest.approx(np.hypot(56, 50))
    np.testing.assert_allclose(crop.to_picture([49.5, 49.5]), [48, 35])
    assert dataset[3].visible.all()
    assert dataset[3].occluded is None
    tight = Wflw(root, "test", boxes="landmarks").crop(3).side
    assert tight == pytest.approx(np.linalg.norm(np.ptp(points(98), axis=0)))


def test_two_faces_of_a_picture_are_two_samples(root):
    dataset = Wflw(root, "train")
    assert dataset.paths[0] == dataset.paths[1] != dataset.paths[2]
    assert dataset.paths[0].name == "000.jpg"
    assert dataset.name(1).endswith("000.jpg, line 2")
    assert not np.allclose(dataset[0].landmarks, dataset[1].landmarks)


def test_68_of_the_98_in_the_same_crop(root):
    dataset, whole = Wflw(root, "test", num_landmarks=68), Wflw(root, "test")
    assert dataset.scheme is FACE_68
    assert dataset.crop(1) == whole.crop(1)
    np.testing.assert_array_equal(dataset[1].landmarks, whole[1].landmarks[list(FACE_98_TO_68)])


def test_everything_broken_is_listed_by_list_and_line(root, rewrite):
    rewrite("test", 2, lambda fields: " ".join(fields[:100]))
    rewrite("test", 3, lambda fields: " ".join(["x", *fields[1:]]))
    rewrite("test", 4, lambda fields: " ".join([*fields[:-1], "none.jpg"]))
    rewrite("test", 5, lambda fields: " ".join(["1e6", *fields[1:]]))
    rewrite("test", 6, lambda fields: " ".join([*fields[:200], "2", *fields[201:]]))
    truncate(root / "WFLW_images/0--Parade test/004.jpg")  # of the faces in lines 9 and 10
    with pytest.raises(DatasetError) as caught:
        Wflw(root, "test")
    message = str(caught.value)
    assert "8 problems" not in message  # the count of faces is right
    assert "7 problems beside 5 usable pictures" in message
    for line, fact in [
        (2, "must be 206 finite numbers and a picture's name, but got 99"),
        (3, "must be 206 finite numbers"),
        (4, "none.jpg` must be a whole picture, but got FileNotFoundError"),
        (5, "must have landmarks and box near its 96 x 72 pixels"),
        (6, "must end its numbers with six attributes, 0 or 1, but got [2.0"),
        (9, "004.jpg` must be a whole picture"),
        (10, "004.jpg` must be a whole picture"),
    ]:
        found = [text for text in caught.value.problems if f"_test.txt`, line {line}" in text]
        assert len(found) == 1, line
        assert fact in found[0]
    assert caught.value.usable == 5
    with pytest.warns(UserWarning, match="7 problems, going on without them and with 5") as warned:
        assert len(Wflw(root, "test", skip_broken=True)) == 5
    assert warned[0].filename == __file__


def test_a_list_that_ends_early_is_a_problem(root):
    path = root / LIST.format("train")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(DatasetError, match='must have 5 faces of "train", but got 3 of 5'):
        Wflw(root, "train")


def test_without_lists_nothing_can_be_skipped(tmp_path):
    with pytest.raises(DatasetError, match=r"list_98pt_rect_attr_train.txt` must be a readable"):
        Wflw(tmp_path, "train", skip_broken=True)


@pytest.mark.parametrize(
    ("arguments", "known"),
    [({"subset": "pse"}, "pose"), ({"boxes": "x"}, "annotated"), ({"num_landmarks": 70}, "98")],
)
def test_unknown_arguments_are_refused_with_the_known_ones(tmp_path, arguments, known):
    with pytest.raises(ValueError, match=f"must be one of .*{known}"):
        Wflw(tmp_path, **arguments)

"""300W on a fake tree of the true size: splits, counts, the organisers' boxes, broken parts."""

import os
import shutil
import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from advaug.datasets import Faces300W, write_pts
from advaug.datasets.readers import faces_300w
from advaug.errors import DatasetError
from advaug.schemes import FACE_68

COUNTS = {
    "afw": 337,
    "helen/trainset": 2000,
    "lfpw/trainset": 811,
    "helen/testset": 330,
    "lfpw/testset": 224,
    "ibug": 135,
}
LANDMARKS = np.random.default_rng(0).uniform([16, 10], [48, 38], (68, 2))


def suffix(part):
    return ".png" if part.startswith("lfpw") else ".jpg"


def stems(part, counts):
    names = [f"image_{i:04d}" for i in range(counts[part])]
    # 300W's own quirk: one name of ibug carries a space that others of its files may lack.
    return ["image_092 _01", *names[1:]] if part == "ibug" else names


def make_tree(root, counts):
    """Hard links to one picture and one `.pts` file, in the layout of 300W."""
    sources = root / "sources"
    sources.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for kind in (".jpg", ".png"):
        Image.fromarray(pixels).save(sources / f"face{kind}")
    write_pts(sources / "face.pts", LANDMARKS)
    for part in counts:
        (root / part).mkdir(parents=True)
        for stem in stems(part, counts):
            for kind in (suffix(part), ".pts"):
                os.link(sources / f"face{kind}", root / part / f"{stem}{kind}")
    shutil.rmtree(sources)
    return root


@pytest.fixture(scope="module")
def full_tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("300w"), COUNTS)


SMALL = {part: number for number, part in enumerate(COUNTS, start=2)}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Two to seven pictures a folder, with the expected counts to match."""
    monkeypatch.setattr(faces_300w, "PART_COUNTS", SMALL)
    return make_tree(tmp_path / "300W", SMALL)


def write_boxes(root, part, *, folder="Bounding Boxes", boxes=None, keep=None):
    """Write a `.mat` file as the organisers did: a row of cells, each a 1 x 1 struct."""
    scipy_io = pytest.importorskip("scipy.io")
    names = [f"{stem}{suffix(part)}" for stem in stems(part, SMALL)][:keep]
    cells = np.empty((1, len(names)), dtype=object)
    for i, name in enumerate(names):
        cells[0, i] = {
            "imgName": name,
            "bb_detector": np.array([[21.0 + i, 11.0, 51.0 + i, 51.0] if boxes is None else boxes]),
            "bb_ground_truth": np.array([[1.0, 1.0, 2.0, 2.0]]),
        }
    (root / folder).mkdir(exist_ok=True)
    path = root / folder / f"bounding_boxes_{part.replace('/', '_')}.mat"
    scipy_io.savemat(path, {"bounding_boxes": cells})
    return path


@pytest.mark.parametrize(
    ("split", "count"),
    [
        ("train", 3148),
        ("common", 554),
        ("challenging", 135),
        ("full", 689),
        ("helen", 2000),
        ("helen-811", 811),
        ("lfpw", 811),
    ],
)
def test_the_splits_have_their_published_sizes(full_tree, split, count):
    dataset = Faces300W(full_tree, split, image_size=32)
    assert len(dataset) == len(set(dataset.paths)) == count
    assert dataset.scheme is FACE_68
    assert dataset[0].image.shape == (3, 32, 32)


def test_the_challenging_split_is_ibug_and_train_has_none_of_the_test_pictures(full_tree):
    challenging = Faces300W(full_tree, "challenging").paths
    assert {p.parent.name for p in challenging} == {"ibug"}
    assert set(Faces300W(full_tree, "train").paths).isdisjoint(Faces300W(full_tree, "full").paths)


def test_the_three_readings_of_helen_with_811_pictures(full_tree):
    helen, part, lfpw = (Faces300W(full_tree, s).paths for s in ("helen", "helen-811", "lfpw"))
    assert {path.parent.parent.name for path in helen + part} == {"helen"}
    assert {path.parent.parent.name for path in lfpw} == {"lfpw"}
    assert set(part) < set(helen)
    places = [helen.index(path) for path in part]
    assert {after - before for before, after in pairwise(places)} == {2, 3}


def test_folders_in_any_case_of_the_letters(tree):
    (tree / "helen" / "testset").rename(tree / "helen" / "TestSet")
    (tree / "helen").rename(tree / "HELEN")
    assert len(Faces300W(tree, "common")) == SMALL["helen/testset"] + SMALL["lfpw/testset"]


def test_mirrored_copies_are_passed_over(tree):
    for kind in (".jpg", ".pts"):
        os.link(tree / "afw" / f"image_0000{kind}", tree / "afw" / f"image_0000_mirror{kind}")
    assert not any("mirror" in path.name for path in Faces300W(tree, "train").paths)


def test_the_organisers_detector_boxes_are_used_and_counted_from_0(tree):
    write_boxes(tree, "ibug")
    dataset = Faces300W(tree, "challenging", image_size=100)
    index = [p.stem for p in dataset.paths].index("image_0002")
    crop = dataset.crop(index)
    # 30 x 40 pixels, centred at (22 + 30/2, 10 + 40/2) once the 1 is subtracted.
    assert crop.side == 50
    np.testing.assert_allclose(crop.to_picture([49.5, 49.5]), [37, 30])


def test_boxes_are_matched_by_name_with_or_without_the_stray_space(tree):
    write_boxes(tree, "ibug")
    (tree / "ibug" / "image_092 _01.jpg").rename(tree / "ibug" / "image_092_01.jpg")
    dataset = Faces300W(tree, "challenging", boxes="detector")
    index = [p.name for p in dataset.paths].index("image_092_01.jpg")
    assert dataset.crop(index).side == 50


def test_without_a_mat_file_the_box_is_that_of_the_landmarks(tree):
    write_boxes(tree, "helen/testset", folder="bounding_boxes_v2")
    dataset = Faces300W(tree, "common")
    sides = {path.parent.parent.name: dataset.crop(i).side for i, path in enumerate(dataset.paths)}
    tight = np.linalg.norm(np.ptp(LANDMARKS, axis=0))
    assert sides["helen"] == 50
    assert sides["lfpw"] == pytest.approx(tight)
    ignoring = Faces300W(tree, "common", boxes="landmarks")
    assert ignoring.crop(0).side == pytest.approx(tight)


def test_detector_boxes_that_are_asked_for_must_be_there(tree):
    with pytest.raises(DatasetError, match=r"Bounding Boxes/bounding_boxes_ibug\.mat"):
        Faces300W(tree, "challenging", boxes="detector")


def test_a_picture_that_the_mat_file_leaves_out_is_a_problem(tree):
    write_boxes(tree, "ibug", keep=SMALL["ibug"] - 1)
    with pytest.raises(DatasetError, match=r"image_0006\.jpg` must have a box in .*ibug\.mat"):
        Faces300W(tree, "challenging")
    with pytest.warns(UserWarning, match=r"1 problems.* 6 pictures"):
        assert len(Faces300W(tree, "challenging", skip_broken=True)) == 6


@pytest.mark.parametrize("damage", ["text", "other variable", "three numbers"])
def test_a_broken_mat_file_is_named(tree, damage):
    scipy_io = pytest.importorskip("scipy.io")
    path = write_boxes(tree, "ibug", boxes=[1.0, 2.0, 3.0] if damage == "three numbers" else None)
    if damage == "text":
        path.write_text("<html>404</html>")
    elif damage == "other variable":
        scipy_io.savemat(path, {"boxes": np.zeros((3, 4))})
    with pytest.raises(DatasetError, match=r"bounding_boxes_ibug\.mat` must be the organisers'"):
        Faces300W(tree, "challenging")


def test_missing_scipy_says_what_to_do(tree, monkeypatch):
    write_boxes(tree, "ibug")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ImportError, match=r"pip install scipy.*boxes=\"landmarks\""):
        Faces300W(tree, "challenging")


def test_missing_pictures_are_counted_by_folder(tree):
    shutil.rmtree(tree / "afw")
    for kind in (".jpg", ".pts"):
        (tree / "helen" / "trainset" / f"image_0001{kind}").unlink()
    cut = tree / "lfpw" / "trainset" / "image_0001.png"
    cut.unlink()  # a hard link, whose other names must stay whole
    cut.write_bytes(b"\x89PNG cut")
    with pytest.raises(DatasetError) as caught:
        Faces300W(tree, "train")
    message = str(caught.value)
    assert f"afw` must have {SMALL['afw']} pictures, but got no such folder" in message
    assert "trainset` must have 3 pictures with a `.pts` file, but got 2 of 3" in message
    assert "image_0001.png` must be a whole picture" in message
    with pytest.warns(UserWarning, match="3 problems") as warned:
        dataset = Faces300W(tree, "train", skip_broken=True)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert len(dataset) == 2 + 3


def test_too_many_pictures_are_refused(tree):
    for kind in (".jpg", ".pts"):
        os.link(tree / "ibug" / f"image_0001{kind}", tree / "ibug" / f"extra{kind}")
    with pytest.raises(DatasetError, match="got 8 of 7"):
        Faces300W(tree, "challenging")


def test_an_empty_root_names_every_folder_and_cannot_be_skipped(tmp_path):
    for skip_broken in (False, True):
        with pytest.raises(DatasetError, match=r"(?s)afw.*337.*helen.*2000.*lfpw.*811"):
            Faces300W(tmp_path, "train", skip_broken=skip_broken)


@pytest.mark.parametrize("argument", ["split", "boxes"])
def test_unknown_words_are_refused_with_the_known_ones(tmp_path, argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be one of (train|auto), .*'test'"):
        Faces300W(tmp_path, **{argument: "test"})

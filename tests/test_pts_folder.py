"""Folders of pictures with `.pts` files: what is found, what is given, what is refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from advaug.datasets import LandmarkSample, PtsFolder, write_pts
from advaug.datasets.pictures import read_picture
from advaug.errors import DatasetError
from advaug.schemes import FACE_29, FACE_68

YTF68 = Path(__file__).parents[2] / "shared/data/ytf68"


def face_landmarks(num_landmarks=68, seed=0):
    """Landmarks spread over the middle of a 64 x 48 picture."""
    return np.random.default_rng(seed).uniform([16, 10], [48, 38], (num_landmarks, 2))


def add_picture(folder, name, *, num_landmarks=68, seed=0, pts=True, **save):
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name, **save)
    if pts:
        write_pts((folder / name).with_suffix(".pts"), face_landmarks(num_landmarks, seed))
    return folder / name


def truncate(path, keep=0.6):
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


@pytest.fixture
def root(tmp_path):
    """Three good pictures at three depths."""
    add_picture(tmp_path, "b.jpg", seed=1)
    add_picture(tmp_path / "deep" / "er", "a.PNG", seed=2)
    add_picture(tmp_path / "deep", "c.JPeG", seed=3)
    return tmp_path


def test_pictures_are_found_at_any_depth_and_in_a_fixed_order(root):
    dataset = PtsFolder(root)
    assert [p.relative_to(root).as_posix() for p in dataset.paths] == [
        "b.jpg",
        "deep/c.JPeG",
        "deep/er/a.PNG",
    ]
    assert len(dataset) == 3
    assert dataset.scheme is FACE_68


def test_a_sample_keeps_the_contract_of_landmark_sample(root):
    sample = PtsFolder(root, image_size=96)[0]
    assert isinstance(sample, LandmarkSample)
    assert (sample.image.shape, sample.image.dtype) == ((3, 96, 96), torch.float32)
    assert (sample.landmarks.shape, sample.landmarks.dtype) == ((68, 2), torch.float32)
    assert (sample.visible.shape, sample.visible.dtype) == ((68,), torch.bool)
    assert 0 <= sample.image.min() < 0.2
    assert 0.8 < sample.image.max() <= 1
    assert sample.visible.all()


def test_the_tight_box_fills_the_crop_by_its_diagonal(root):
    landmarks = PtsFolder(root, image_size=96)[0].landmarks
    sides = landmarks.amax(dim=0) - landmarks.amin(dim=0)
    assert sides.norm().item() == pytest.approx(96, abs=1e-3)
    center = (landmarks.amax(dim=0) + landmarks.amin(dim=0)) / 2
    torch.testing.assert_close(center, torch.full((2,), 47.5), atol=1e-3, rtol=0)


def test_predictions_map_back_to_the_original_picture(root):
    dataset = PtsFolder(root)
    back = dataset.crop(0).to_picture(dataset[0].landmarks)
    np.testing.assert_allclose(back, face_landmarks(seed=1), atol=1e-4)


def test_given_boxes_are_used_and_landmarks_outside_are_not_visible(tmp_path):
    add_picture(tmp_path, "a.png")
    dataset = PtsFolder(tmp_path, image_size=40, boxes={"a.png": (20, 14, 26, 22)})
    crop = dataset.crop(0)
    assert crop.side == 10
    sample = dataset[0]
    assert 0 < sample.visible.sum() < 68
    inside = ((sample.landmarks > -0.5) & (sample.landmarks < 39.5)).all(dim=1)
    torch.testing.assert_close(sample.visible, inside)


def test_batches_workers_and_pickles(root):
    dataset = PtsFolder(root, image_size=32)
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert batch.image.shape == (3, 3, 32, 32)
    copy = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(copy[1].image, dataset[1].image)


def test_other_numbers_of_landmarks(tmp_path):
    add_picture(tmp_path, "a.jpg", num_landmarks=29)
    assert PtsFolder(tmp_path, num_landmarks=29).scheme is FACE_29
    add_picture(tmp_path, "a.jpg", num_landmarks=17)
    assert PtsFolder(tmp_path, num_landmarks=17).scheme is None


def test_stray_spaces_upper_case_suffixes_and_hidden_files(tmp_path):
    add_picture(tmp_path, "image_092 _01.jpg")
    (tmp_path / "image_092 _01.pts").rename(tmp_path / "image_092_01.PTS")
    (tmp_path / "._image_092_01.jpg").write_bytes(b"resource fork")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "x.jpg").write_bytes(b"resource fork")
    (tmp_path / "readme.txt").write_text("not a picture")
    assert [p.name for p in PtsFolder(tmp_path).paths] == ["image_092 _01.jpg"]


def test_linked_folders_are_followed_and_loops_are_not(tmp_path):
    add_picture(tmp_path / "elsewhere", "a.jpg")
    add_picture(tmp_path / "root", "b.jpg")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "root")
    assert [p.name for p in PtsFolder(tmp_path / "root").paths] == ["b.jpg", "a.jpg"]


GREY = np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (48, 1))


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("grey.jpg", Image.fromarray(GREY)),
        ("grey.png", Image.fromarray(GREY)),
        ("deep.png", Image.fromarray(GREY.astype(np.uint16) * 257)),
        ("palette.png", Image.fromarray(GREY).convert("P")),
        (
            "alpha.png",
            Image.merge("RGBA", [Image.fromarray(GREY)] * 3 + [Image.new("L", (64, 48))]),
        ),
        ("grey_alpha.png", Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (64, 48))])),
        ("cmyk.jpg", Image.fromarray(GREY).convert("RGB").convert("CMYK")),
    ],
)
def test_every_kind_of_picture_becomes_rgb(tmp_path, name, picture):
    picture.save(tmp_path / name)
    write_pts((tmp_path / name).with_suffix(".pts"), face_landmarks())
    rgb = np.asarray(read_picture(PtsFolder(tmp_path).paths[0])).astype(int)
    assert rgb.shape == (48, 64, 3)
    assert abs(rgb - GREY[..., None]).max() <= 6


def test_a_palette_with_transparent_entries_becomes_rgb(tmp_path):
    Image.fromarray(GREY).convert("P").save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert (
        abs(np.asarray(read_picture(tmp_path / "a.png")).astype(int) - GREY[..., None]).max() == 0
    )


def test_exif_orientation_is_not_applied_since_landmarks_count_stored_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to display"
    assert read_picture(add_picture(tmp_path, "a.jpg", exif=exif)).size == (64, 48)


@pytest.mark.parametrize("name", ["absent", "empty", "text"])
def test_a_folder_without_pictures_says_what_was_looked_for(tmp_path, name):
    root = tmp_path / name
    if name != "absent":
        root.mkdir()
    if name == "text":
        (root / "list.txt").write_text("a.jpg")
    expected = "must be a folder" if name == "absent" else r"\.jpg, \.jpeg, \.png.*`\.pts`"
    for skip_broken in (False, True):
        with pytest.raises(DatasetError, match=expected) as caught:
            PtsFolder(root, skip_broken=skip_broken)
        assert str(root) in str(caught.value)


def break_everything(root):
    """Add one file of every kind of damage; give the names an error must have."""
    add_picture(root, "no_pts.jpg", pts=False)
    write_pts(root / "no_picture.pts", face_landmarks())
    add_picture(root, "points_67.jpg", num_landmarks=67)
    (add_picture(root, "text_in_it.jpg").with_suffix(".pts")).write_text("n_points: 1\n{\nx y\n}")
    truncate(add_picture(root, "cut.jpg"))
    truncate(add_picture(root, "progressive.jpg", progressive=True))
    truncate(add_picture(root, "cut_too.png"))
    add_picture(root, "not_a_picture.jpg").write_text("<html>404</html>")
    add_picture(root, "twice.jpg")
    add_picture(root, "twice.png")
    write_pts(add_picture(root, "far.jpg").with_suffix(".pts"), face_landmarks() + 1000)
    write_pts(add_picture(root, "unit.jpg").with_suffix(".pts"), face_landmarks() / 64)
    return [
        "no_pts.jpg",
        "no_picture.pts",
        "points_67.pts",
        "text_in_it.pts",
        "cut.jpg",
        "progressive.jpg",
        "cut_too.png",
        "not_a_picture.jpg",
        "twice.jpg",
        "far.jpg",
        "unit.jpg",
    ]


def test_all_broken_files_are_listed_at_once(root):
    names = break_everything(root)
    with pytest.raises(DatasetError) as caught:
        PtsFolder(root)
    message = str(caught.value)
    assert "got 11 problems beside 3 usable pictures" in message
    assert "skip_broken=True" in message
    lines = message.splitlines()[1:-1]
    assert len(lines) == len(names)
    for name in names:
        assert sum(name in line for line in lines) == 1, name
    assert all("must" in line and "but got" in line for line in lines)


def test_skip_broken_goes_on_and_says_so_once(root):
    break_everything(root)
    with pytest.warns(UserWarning, match="11 problems.* 3 pictures") as caught:
        dataset = PtsFolder(root, skip_broken=True)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "and 6 more" in str(caught[0].message)
    assert [p.name for p in dataset.paths] == ["b.jpg", "c.JPeG", "a.PNG"]
    assert all(len(sample.landmarks) == 68 for sample in (dataset[i] for i in range(3)))


def test_a_pair_broken_on_both_sides_gives_both_problems(tmp_path):
    truncate(add_picture(tmp_path, "a.jpg", num_landmarks=67))
    with pytest.raises(DatasetError, match=r"(?s)a\.pts.*67.*a\.jpg.*truncated"):
        PtsFolder(tmp_path)


def test_skipping_everything_is_still_an_error(tmp_path):
    add_picture(tmp_path, "a.jpg", pts=False)
    with pytest.raises(DatasetError, match="0 usable"):
        PtsFolder(tmp_path, skip_broken=True)


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_truncation_is_seen_wherever_the_file_ends(tmp_path, name, keep):
    truncate(add_picture(tmp_path, name), keep)
    with pytest.raises(DatasetError, match=rf"{name[:1]}\.{name[2:]}` must be a whole picture"):
        PtsFolder(tmp_path)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ({}, r"`boxes` must have a box for 'a\.png', but got none"),
        ({"a.png": (30, 30, 10, 40)}, r"a\.png` must have a box of at least 2 x 2 pixels"),
        ({"a.png": (70, 10, 90, 30)}, r"a\.png` must have a box that overlaps its 64 x 48 pixels"),
        (
            {"a.png": (0, 0, 900, 30)},
            r"a\.png` must have landmarks and box near its 64 x 48 pixels",
        ),
    ],
)
def test_an_unusable_box_is_refused(tmp_path, boxes, message):
    add_picture(tmp_path, "a.png")
    with pytest.raises(DatasetError, match=message):
        PtsFolder(tmp_path, boxes=boxes)


def test_a_picture_that_vanishes_later_is_named(root):
    dataset = PtsFolder(root)
    dataset.paths[0].unlink()
    with pytest.raises(DatasetError, match=r"b\.jpg.*FileNotFoundError"):
        dataset[0]


def test_an_impossible_image_size_is_refused_by_the_constructor(root):
    with pytest.raises(ValueError, match="`image_size`"):
        PtsFolder(root, image_size=0)


@pytest.mark.skipif(not YTF68.is_dir(), reason="real data not at hand")
def test_real_pictures():
    dataset = PtsFolder(YTF68 / "val")
    assert len(dataset) == 474
    samples = [dataset[i] for i in range(0, 474, 60)]
    assert all(sample.visible.all() and sample.image.std() > 0.02 for sample in samples)

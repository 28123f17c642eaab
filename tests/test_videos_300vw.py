"""300VW: the organisers' lists, videos and extracted frames, boxes, and videos that do not fit."""

import pickle
import sys

import numpy as np
import pytest
import torch
from small_sets import (
    HEIGHT,
    WIDTH,
    add_picture,
    assert_a_good_sample,
    first_landmark,
    make_300vw,
    make_video,
    pixels,
    points,
    truncate,
)
from torch.utils.data import DataLoader

from advaug.datasets import Videos300VW
from advaug.datasets.readers import videos_300vw
from advaug.errors import DatasetError
from advaug.schemes import FACE_68

pytest.importorskip("av")
SMALL = {"train": ("001", "002"), "category-1": ("114",)}
FRAMES = 12


@pytest.fixture(autouse=True)
def _small(request, monkeypatch):
    if "published" not in request.node.name:
        monkeypatch.setattr(videos_300vw, "VIDEOS", SMALL)


@pytest.fixture
def root(tmp_path):
    return make_300vw(tmp_path / "300VW", ["001", "002", "114"], FRAMES)


def extract(folder, place, suffix=".png", count=FRAMES):
    for number in range(count):
        add_picture(folder / place / f"{number + 1:06d}{suffix}", number)


def level(image):
    return float(np.asarray(image).mean())


def test_the_published_lists_are_114_videos_without_one_twice():
    lists = videos_300vw.VIDEOS
    assert [len(names) for names in lists.values()] == [50, 31, 19, 14]
    every = [name for names in lists.values() for name in names]
    assert len(set(every)) == len(every) == 114
    assert (every[0], every[49], every[-1]) == ("001", "225", "562")


def test_a_split_has_the_frames_of_its_videos(root):
    dataset = Videos300VW(root, "train", image_size=48)
    assert len(dataset) == 2 * FRAMES
    assert dataset.scheme is FACE_68
    assert_a_good_sample(dataset, 5)
    assert [path.parent.name for path in dataset.paths] == ["001"] * FRAMES + ["002"] * FRAMES
    assert dataset.name(13).endswith("002/vid.avi, frame 2")
    assert len(Videos300VW(root, "category-1")) == FRAMES


def test_landmarks_belong_to_their_frames(root):
    dataset = Videos300VW(root, "train")
    for index in (0, 7, 3, 19, 18):
        number = index % FRAMES
        np.testing.assert_allclose(first_landmark(dataset, index), points(68, number)[0], atol=1e-4)
        assert level(dataset.picture(index)) == pytest.approx(6 * number, abs=2.5)
    assert dataset[0].visible.all()
    assert dataset.crop(0).side == pytest.approx(np.linalg.norm(np.ptp(points(68), axis=0)))


def test_every_fifth_frame(root):
    dataset = Videos300VW(root, "category-1", every=5)
    assert [dataset.name(index).split()[-1] for index in range(3)] == ["1", "6", "11"]
    assert level(dataset.picture(2)) == pytest.approx(60, abs=2.5)
    with pytest.raises(ValueError, match="`every` must be 1 or more, but got 0"):
        Videos300VW(root, every=0)


def test_batches_in_any_order_by_workers_and_a_pickle(root):
    dataset = Videos300VW(root, "train", image_size=16)
    alone = [dataset[index].image for index in range(len(dataset))]
    loader = DataLoader(
        dataset,
        batch_size=4,
        shuffle=True,
        num_workers=2,
        generator=torch.Generator().manual_seed(0),
    )
    seen = torch.cat([batch.image for batch in loader])
    assert len(seen) == len(alone)
    assert all((seen == image).flatten(1).all(1).any() for image in alone)
    torch.testing.assert_close(pickle.loads(pickle.dumps(dataset))[9].image, alone[9])


@pytest.mark.parametrize(("place", "suffix"), [("extraction", ".png"), ("", ".jpg")])
def test_extracted_frames_are_taken_before_the_video(root, place, suffix):
    extract(root / "114", place, suffix)
    (root / "114" / "vid.avi").write_bytes(b"not read")
    dataset = Videos300VW(root, "category-1")
    assert dataset.paths[3] == root / "114" / place / f"000004{suffix}"
    assert dataset.name(3) == str(dataset.paths[3])
    red = np.asarray(dataset.picture(3))[..., 0]
    assert red.mean() == pytest.approx(pixels(3)[..., 0].mean(), abs=3)
    assert_a_good_sample(dataset)


def test_boxes_from_a_file_count_from_0(root, tmp_path):
    path = tmp_path / "boxes.csv"
    rows = [f"114,{number + 1},20,10,60,{40 + number}" for number in range(FRAMES)]
    path.write_text("\n".join(["video,frame,x0,y0,x1,y1", *rows]))
    dataset = Videos300VW(root, "category-1", boxes=path, image_size=50)
    assert dataset.crop(0).side == 50
    np.testing.assert_allclose(dataset.crop(0).to_picture([24.5, 24.5]), [40, 25])

    path.write_text("\n".join(["video,frame,x0,y0,x1,y1", *rows[:-1]]))
    with pytest.raises(DatasetError, match=r"boxes.csv` must have a box for frame 12 of video 114"):
        Videos300VW(root, "category-1", boxes=path)
    path.write_text("\n".join(["video,frame,x0,y0,x1,y1", rows[0], "114,2,a,1,2,3", "114,3"]))
    with pytest.raises(DatasetError, match=r"(?s)boxes.csv`, line 3.*boxes.csv`, line 4"):
        Videos300VW(root, "category-1", boxes=path)
    path.write_text("video,frame,left")
    with pytest.raises(DatasetError, match="line 1, must name the columns .* none for x0, y0"):
        Videos300VW(root, "category-1", boxes=path)


def test_a_video_one_frame_short(root):
    make_video(root / "114" / "vid.avi", FRAMES - 1)
    with pytest.raises(DatasetError) as caught:
        Videos300VW(root, "category-1")
    (problem,) = caught.value.problems
    assert "vid.avi` must have a frame for each of the 12 `.pts` files" in problem
    assert "none for 000012. " in problem
    with pytest.warns(UserWarning, match="1 problems, going on without them and with 11"):
        assert len(Videos300VW(root, "category-1", skip_broken=True)) == 11


def test_everything_broken_is_listed(root):
    (root / "001" / "annot" / "000003.pts").unlink()
    broken = root / "001" / "annot" / "000005.pts"
    lines = broken.read_text().splitlines()
    broken.write_text("\n".join([*lines[:8], "1 2 3", *lines[9:]]))
    (root / "001" / "annot" / "000006.pts").write_text("n_points: 1\n{\n1 2\n}\n")
    far = root / "001" / "annot" / "000007.pts"
    far.write_text(far.read_text().replace(lines[3], "9999 1"))
    (root / "001" / "annot" / "000007.pts").write_text(
        "\n".join([*lines[:3], "9999 1", *lines[4:]])
    )
    extract(root / "002", "frames")
    truncate(root / "002" / "frames" / "000002.png")
    with pytest.raises(DatasetError) as caught:
        Videos300VW(root, "train")
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    for fact in (
        "001/annot` must have a `.pts` file for each of the 12 frames of",
        "000005.pts`, line 9, must be two finite numbers",
        "000006.pts` must have 68 points, but got 1",
        f"000007.pts`: frame 7 of `{root}/001/vid.avi` must have landmarks and box near its "
        f"{WIDTH} x {HEIGHT} pixels",
        "002/frames/000002.png` must be a whole picture",
    ):
        assert fact in text
    with pytest.warns(UserWarning, match="5 problems, going on without them and with 19"):
        dataset = Videos300VW(root, "train", skip_broken=True)
    np.testing.assert_allclose(first_landmark(dataset, 2), points(68, 3)[0], atol=1e-4)
    assert level(dataset.picture(2)) == pytest.approx(18, abs=2.5)


def test_missing_and_unreadable_videos_are_named(root):
    (root / "001" / "vid.avi").unlink()
    (root / "002" / "vid.avi").write_bytes(b"<html>404</html>")
    with pytest.raises(DatasetError, match=r"(?s)001/vid.avi` must be a whole video.*002/vid.avi`"):
        Videos300VW(root, "train", skip_broken=True)
    with pytest.raises(DatasetError, match=r"(?s)/001` must be a folder of 300VW.*/002`"):
        Videos300VW(root / "none", "train")


def test_missing_pyav_says_what_to_do(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"av must be installed.*advaug\[datasets\]"):
        Videos300VW(root, "category-1")
    extract(root / "114", "frames")
    assert len(Videos300VW(root, "category-1")) == FRAMES


def test_unknown_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`split` must be one of train, category-1, .*'test'"):
        Videos300VW(tmp_path, "test")

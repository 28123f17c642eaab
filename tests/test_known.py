"""The data sets by name, and `advaug data`: what is there, what is not, and how it looks."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from small_sets import (
    COFW_COUNTS,
    add_picture,
    make_300vw,
    make_300w_lp,
    make_aflw2000,
    make_cofw,
    make_cofw68,
    make_merl_rav,
    make_wflw,
    points,
    truncate,
)

from advaug.cli import main
from advaug.datasets import write_pts
from advaug.datasets.known import KNOWN, find_known, open_known
from advaug.datasets.pictures import CroppedPictures
from advaug.datasets.preview import contact_sheet
from advaug.datasets.readers import aflw2000, cofw, faces_300w, lp_300w, videos_300vw, wflw
from advaug.errors import DatasetError

pytest.importorskip("av")
pytest.importorskip("h5py")

WFLW_COUNTS = {"train": 5, "test": 12} | dict.fromkeys(wflw.WFLW_ATTRIBUTES, 2)
LP_COUNTS = {"AFW": 2, "HELEN": 3, "IBUG": 1, "LFPW": 1}
W300_COUNTS = dict.fromkeys(faces_300w.PART_COUNTS, 2)
VIDEOS = {"train": ("001",), "category-1": ("114",), "category-2": ("203",), "category-3": ("410",)}


def make_pts(root, names):
    for number, name in enumerate(names):
        path = add_picture(root / name, number)
        write_pts(path.with_suffix(".pts"), points(68, number))
    return root


def make_300w(root):
    return make_pts(root, [f"{part}/{number}.png" for part in W300_COUNTS for number in range(2)])


def make_mpii(root):
    entry = {
        "image": "a.png",
        "center": [48, 36],
        "scale": 0.2,
        "joints": points(16).tolist(),
        "joints_vis": [1] * 16,
    }
    add_picture(root / "images" / "a.png")
    (root / "annot").mkdir()
    for split in ("train", "valid"):
        (root / "annot" / f"{split}.json").write_text(json.dumps([entry]))
    return root


def make_coco(root):
    names = ["nose", "left_eye", "right_eye"]
    for subset in ("train2017", "val2017"):
        add_picture(root / subset / "a.png")
        content = {
            "images": [{"id": 1, "file_name": "a.png"}],
            "categories": [{"id": 1, "name": "person", "keypoints": names}],
            "annotations": [
                {
                    "id": 1,
                    "image_id": 1,
                    "category_id": 1,
                    "bbox": [20, 10, 40, 30],
                    "keypoints": [30, 20, 2, 40, 30, 1, 0, 0, 0],
                }
            ],
        }
        (root / "annotations").mkdir(exist_ok=True)
        path = root / "annotations" / f"person_keypoints_{subset}.json"
        path.write_text(json.dumps(content))
    return root


MAKERS = {
    "300w": make_300w,
    "300vw": lambda root: make_300vw(root, ["001", "114", "203", "410"], 11),
    "300vw-every-10th": lambda root: make_300vw(root, ["001", "114", "203", "410"], 11),
    "wflw": lambda root: make_wflw(root, WFLW_COUNTS),
    "cofw": lambda root: make_cofw(root, COFW_COUNTS),
    "cofw68": lambda root: make_cofw68(root, COFW_COUNTS),
    "300w-lp": lambda root: make_300w_lp(root, LP_COUNTS),
    "aflw2000": lambda root: make_aflw2000(root, 5),
    "merl-rav": make_merl_rav,
    "mpii": make_mpii,
    "coco": make_coco,
    "pts": lambda root: make_pts(root, ["a.png", "deep/b.jpg", "deep/c.png"]),
}
every_set = pytest.mark.parametrize("name", MAKERS)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(wflw, "COUNTS", WFLW_COUNTS)
    monkeypatch.setattr(cofw, "COUNTS", COFW_COUNTS)
    monkeypatch.setattr(lp_300w, "PART_COUNTS", LP_COUNTS)
    monkeypatch.setattr(faces_300w, "PART_COUNTS", W300_COUNTS)
    monkeypatch.setattr(videos_300vw, "VIDEOS", VIDEOS)
    monkeypatch.setattr(aflw2000, "COUNT", 5)


@pytest.fixture
def root(name, tmp_path):
    return MAKERS[name](tmp_path / "data")


def test_every_known_set_has_a_maker_and_says_where_to_ask():
    assert set(MAKERS) == set(KNOWN)
    for known in KNOWN.values():
        assert known.ask
        assert set(known.parts) | set(known.tests) | set(known.unions) <= set(known.subsets)
        assert next(iter(known.subsets)) in known.parts


def test_published_sizes():
    sizes = {name: known.subsets for name, known in KNOWN.items()}
    assert sizes["300w"] == {
        "train": 3148,
        "common": 554,
        "challenging": 135,
        "full": 689,
        "helen": 2000,
        "helen-811": 811,
        "lfpw": 811,
    }
    assert (sizes["wflw"]["test"], sizes["wflw"]["make-up"]) == (2500, 206)
    assert (sizes["cofw"]["train"], sizes["cofw68"]["test"]) == (1345, 507)
    assert sizes["300w-lp"] == {"all": 61_225, "without-ibug": 59_439}
    assert sizes["aflw2000"]["all"] == 2000


@every_set
def test_each_set_opens_by_its_name(name, root):
    for subset in KNOWN[name].parts:
        dataset = open_known(name.upper(), root, subset, image_size=24)
        assert isinstance(dataset, CroppedPictures)
        assert dataset[0].image.shape == (3, 24, 24)
        assert str(root) in dataset.name(0)


@every_set
def test_all_that_is_measured_on_is_opened_once(name, root):
    known = KNOWN[name]
    found = known.open_tests(root, image_size=24)
    assert len(found.names) == len(found.dataset) == len(set(found.names))
    assert set(found.subsets) == set(known.measured) <= set(known.subsets)
    assert known.num_landmarks in (None, len(found.dataset[0].landmarks))
    for subset, indices in found.subsets.items():
        alone = known.open(root, subset)
        expected = sorted(alone.name(index) for index in range(len(alone)))
        assert sorted(found.names[index] for index in indices) == expected, subset
    assert found.dataset[0].image.shape == (3, 24, 24)


def test_unknown_names_and_subsets_name_the_known_ones():
    with pytest.raises(ValueError, match="`dataset` must be one of 300w, 300vw, .* got 'lfw'"):
        find_known("lfw")
    with pytest.raises(ValueError, match="one of train, test for cofw, but got 'val'"):
        open_known("cofw", ".", "val")


def rows(text):
    """The table's numbers by subset."""
    found = [line.split() for line in text.splitlines()]
    return {row[0]: row[1:] for row in found if len(row) == 5 and row[4].isdecimal()}


@every_set
def test_check_passes_a_whole_set(name, root, capsys, monkeypatch):
    monkeypatch.setitem(KNOWN[name].__dict__, "subsets", dict.fromkeys(KNOWN[name].subsets))
    assert main(["data", "check", str(root), "--dataset", name]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    table = rows(out)
    assert list(table) == list(KNOWN[name].parts)
    for subset, (_, usable, missing, problems) in table.items():
        assert int(usable) == len(KNOWN[name].open(root, subset))
        assert (missing, problems) == ("-", "0")
    assert f"Where to get the data: {KNOWN[name].ask}" in out


@pytest.mark.parametrize("name", ["cofw68"])
def test_check_says_what_is_missing_what_is_broken_and_where_to_ask(name, root, capsys):
    folder = root / "COFW68_Data" / "test_annotations"
    (folder / "2_points.mat").unlink()
    truncate(folder / "3_points.mat", 0.3)
    assert main(["data", "check", str(root), "--dataset", name]) == 2
    out, err = capsys.readouterr()
    assert rows(out) == {"test": ["507", "2", "505", "2"]}
    assert re.search(r"  - `.*2_points.mat` must be a file of MATLAB's, but got none", out)
    assert re.search(r"  - `.*3_points.mat` must be a whole file of MATLAB's", out)
    assert "Where to get the data: https://github.com/golnazghiasi/cofw68-benchmark" in out
    assert "must hold all of cofw68, but got 2 problems, listed above" in err


@pytest.mark.parametrize("name", ["300w"])
def test_check_of_some_subsets_and_of_unknown_ones(name, root, capsys):
    (root / "afw" / "0.png").unlink()
    (root / "ibug" / "0.pts").unlink()
    arguments = ["data", "check", str(root), "--dataset", "300W", "--subsets"]
    assert main([*arguments, "challenging", "full", "lfpw"]) == 2
    out = capsys.readouterr().out
    assert {subset: row[1] for subset, row in rows(out).items()} == {
        "challenging": "1",
        "full": "5",
        "lfpw": "2",
    }
    assert out.count("ibug/0.png` must have a `.pts` file") == 1
    assert "afw" not in out
    assert main([*arguments, "ibug"]) == 2
    assert "must be one of train, common, challenging, full" in capsys.readouterr().err


def test_check_of_an_empty_folder_and_without_a_package(tmp_path, capsys, monkeypatch):
    assert main(["data", "check", str(tmp_path), "--dataset", "cofw"]) == 2
    out, _ = capsys.readouterr()
    assert rows(out) == {"train": ["1345", "0", "1345", "1"], "test": ["507", "0", "507", "1"]}
    make_cofw(tmp_path, COFW_COUNTS)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert main(["data", "check", str(tmp_path), "--dataset", "cofw"]) == 2
    assert "pip install 'advaug[datasets]'" in capsys.readouterr().err


def colours(image):
    return {colour for _, colour in image.getcolors(1 << 20)}


@every_set
def test_preview_draws_what_there_is(name, root, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    arguments = ["data", "preview", str(root), "--dataset", name, "--out", str(out), "--count", "3"]
    assert main(arguments) == 0
    count = min(3, len(KNOWN[name].open(root)))
    assert capsys.readouterr().out.startswith(f"{count} of ")
    with Image.open(out) as sheet:
        below = sheet.crop((0, 40, *sheet.size))  # without the legend
        seen = colours(below)
    assert below.width > 224 * count
    assert {(0x40, 0xFF, 0x60), (0xFF, 0xFF, 0xFF), (0x60, 0xA0, 0xFF)} <= seen
    occluded = KNOWN[name].open(root).occluded is not None
    assert ((0xFF, 0x90, 0x20) in seen) == occluded
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


@pytest.mark.parametrize("name", ["pts"])
def test_preview_puts_landmarks_boxes_and_crops_where_they_are(name, root):
    dataset = open_known(name, root)
    sheet = np.asarray(contact_sheet(dataset, count=1)).astype(int)
    tile = sheet[34 : 34 + 224, 6 : 6 + 224]  # below the legend, after the gap
    crop = dataset.crop(0)
    scale = 224 / (1.3 * crop.side)
    left, top = crop.left - 0.15 * crop.side, crop.top - 0.15 * crop.side
    x, y = ((points(68)[5] + 0.5 - [left, top]) * scale - 0.5).round().astype(int)
    assert tile[y, x].tolist() == [0x40, 0xFF, 0x60]
    edge = round(0.15 / 1.3 * 224 - 0.5)
    assert tile[112, edge - 1 : edge + 2].tolist().count([0x60, 0xA0, 0xFF]) == 1


@pytest.mark.parametrize("name", ["pts"])
def test_preview_of_a_broken_set(name, root, tmp_path, capsys):
    truncate(root / "a.png")
    arguments = ["data", "preview", str(root), "--dataset", "pts", "--out", str(tmp_path / "s.png")]
    assert main(arguments) == 2
    assert "a.png` must be a whole picture" in capsys.readouterr().err
    assert not (tmp_path / "s.png").exists()
    with pytest.warns(UserWarning, match="1 problems, going on without them and with 2"):
        assert main([*arguments, "--skip-broken"]) == 0
    assert main([*arguments, "--skip-broken", "--subset", "b"]) == 2
    assert "must be one of all for pts" in capsys.readouterr().err
    assert main([*arguments[:-1], str(root / "deep" / "b.jpg" / "s.png")]) == 2
    assert "`--out` must lead to a folder that can be written" in capsys.readouterr().err
    assert main([*arguments, "--count", "0"]) == 2
    assert "`count` must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pts"])
def test_preview_refuses_no_pictures(name, root):
    with pytest.raises(ValueError, match="`count` must be 1 or more, but got 0"):
        contact_sheet(open_known(name, root), count=0)


def test_an_error_carries_its_problems(tmp_path):
    make_pts(tmp_path, ["a.png", "b.png"])
    truncate(tmp_path / "a.png")
    with pytest.raises(DatasetError) as caught:
        open_known("pts", tmp_path)
    assert caught.value.usable == 1
    assert len(caught.value.problems) == 1

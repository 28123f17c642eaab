"""`advaug evaluate` on the public sets, from small ones of their own format."""

import json

import pytest
import torch
from measured import hourglass
from small_sets import make_cofw68, make_merl_rav, make_wflw

from advaug.cli.main import main
from advaug.datasets.known import KNOWN
from advaug.datasets.readers import cofw, wflw
from advaug.evaluation.sets import SETS, Request, open_set

SIZE = ("--image-size", "32", "--workers", "0", "--device", "cpu")


@pytest.fixture
def measure(tmp_path):
    """A function that runs the command with an hourglass of `landmarks` and gives its results."""

    def measure(landmarks, *words):
        hourglass(landmarks).save(tmp_path / "detector.safetensors")
        output = tmp_path / "out"
        detector = ("--weights", str(tmp_path / "detector.safetensors"))
        status = main(["evaluate", *detector, *SIZE, *words, "--output", str(output)])
        return json.loads((output / "results.json").read_text()) if status == 0 else status

    return measure


@pytest.fixture
def wflw_root(tmp_path, monkeypatch):
    counts = {"train": 2, "test": 12} | dict.fromkeys(wflw.WFLW_ATTRIBUTES, 2)
    monkeypatch.setattr(wflw, "COUNTS", counts)
    return make_wflw(tmp_path / "WFLW", counts)


def test_every_known_set_can_be_asked_for():
    assert set(KNOWN) < set(SETS)


def test_wflw_is_measured_once_with_its_six_subsets(measure, wflw_root):
    found = measure(98, "--data", "wflw", "--root", str(wflw_root), "--flip")
    sizes = {name: subset["pictures"] for name, subset in found["subsets"].items()}
    assert sizes == {"test": 12} | dict.fromkeys(wflw.WFLW_ATTRIBUTES, 2)
    assert found["pace"]["shown"] == 12
    means = {name: s["conditions"]["clean"]["nme"] for name, s in found["subsets"].items()}
    whole = means.pop("test")
    assert sum(means.values()) / 6 == pytest.approx(whole), "each face is in one subset here"
    assert {"jaw", "nose", "mouth"} < set(found["subsets"]["test"]["details"]["clean"]["regions"])


def test_what_a_set_has_not_is_said_before_its_files_are_read(measure, tmp_path, capsys):
    """300VW is read for minutes; here there is no file at all, and it does not matter."""
    for landmarks, name, subset, message in (
        (98, "wflw", "noise", "`--subsets` must be among test, pose, expression"),
        (68, "300w", "ibug", "`--subsets` must be among common, challenging, full for 300w"),
        (68, "aflw2000", "yaw", "`--subsets` must be among all, yaw-0-30"),
        (68, "cofw", "test", "`--data` cofw must have the 68 landmarks of HourglassNet"),
        (68, "mpii", "valid", "landmarks of HourglassNet (detector.safetensors), but got 16"),
    ):
        asked = ("--data", name, "--root", str(tmp_path / "empty"), "--subsets", subset)
        assert measure(landmarks, *asked) == 2
        assert message in capsys.readouterr().err, name


def test_a_set_that_nobody_knows_leaves_no_folder(measure, tmp_path, capsys):
    assert measure(68, "--data", "lfw") == 2
    assert "`--data` must be one of synthetic, 300w" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_names_of_pictures_are_relative_to_their_folder(wflw_root):
    found = open_set("wflw", Request(wflw_root, 32))
    assert all(not name.startswith("/") and "0--Parade" in name for name in found.names)


def test_cofw68_tells_visible_from_occluded(measure, tmp_path, monkeypatch):
    monkeypatch.setattr(cofw, "COUNTS", {"train": 1, "test": 3})
    root = make_cofw68(tmp_path / "COFW", {"train": 1, "test": 3})
    found = measure(68, "--data", "cofw68", "--root", str(root))
    clean = found["subsets"]["test"]["conditions"]["clean"]
    dataset = open_set("cofw68", Request(root, 32)).dataset
    occluded = torch.stack([dataset[index].occluded for index in range(3)])
    share = occluded.double().mean(dim=1)
    assert 0 < share.min() < 0.5
    # Each picture has as many of them, so that the mean is that of both kinds.
    mixed = share[0] * clean["nme_occluded"] + (1 - share[0]) * clean["nme_visible"]
    assert clean["nme_visible"] != clean["nme_occluded"]
    assert mixed.item() == pytest.approx(clean["nme"], rel=0.05)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "NME occluded %" in page


def test_profiles_are_measured_by_their_box(measure, tmp_path, capsys):
    root = make_merl_rav(tmp_path / "MERL")
    asked = ("--data", "merl-rav", "--root", str(root))
    assert measure(68, *asked, "--normalizer", "inter_ocular") == 2
    assert "`--normalizer` must be box or diagonal for merl-rav" in capsys.readouterr().err
    for words in (("masked",), ("landmark-c", "--kinds", "fog", "mask")):
        assert measure(68, *asked, "--conditions", *words) == 2
        assert "where some have no place" in capsys.readouterr().err
    found = measure(68, *asked)
    assert found["normalizer"] == "box"
    assert found["subsets"]["test"]["pictures"] == 10
    details = found["subsets"]["test"]["details"]["clean"]
    assert details["landmarks"][0] is None, "landmark 0 has no place anywhere"
    assert details["landmarks"][1] is not None

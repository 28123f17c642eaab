"""Folders of corrupted faces: the same tree, the same landmarks, again and again."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from stopped import stopped_at
from test_make_masked import files, source

from advaug.augment.corruptions import (
    BENCHMARK,
    BENCHMARK_VERSION,
    CORRUPTIONS,
    SEVERITIES,
    Square,
    corrupt,
)
from advaug.cli import main
from advaug.datasets import PtsFolder, read_pts
from advaug.datasets.crop import landmark_box
from advaug.datasets.writers import corrupted
from advaug.datasets.writers.corrupted import make_corrupted
from advaug.datasets.writers.manifest import JOURNAL
from advaug.errors import DatasetError

__all__ = ["source"]  # a fixture

SOME = {"kinds": ("fog", "mask"), "severities": (1, 4)}


def test_there_is_a_tree_for_every_kind_and_severity(source, tmp_path):
    before = files(source)
    assert make_corrupted(source, tmp_path / "out", **SOME) == 3 * 4
    assert files(source) == before
    after = files(tmp_path / "out")
    folders = [f"{kind}/{severity}/" for kind in ("fog", "mask") for severity in (1, 4)]
    assert set(after) == {
        folder + name for folder in folders for name in (*before, "manifest.json")
    }
    for folder in folders:
        for name, content in before.items():
            assert (after[folder + name] == content) == name.endswith(".pts")
    assert len(PtsFolder(tmp_path / "out/fog/4", image_size=32)) == 3


def test_the_manifest_says_how_to_make_each_picture_again(source, tmp_path):
    make_corrupted(source, tmp_path / "out", kinds=["patch"], severities=[3], seed=5)
    folder = tmp_path / "out/patch/3"
    manifest = json.loads((folder / "manifest.json").read_text())
    pictures = manifest.pop("pictures")
    assert manifest == {
        "benchmark": BENCHMARK,
        "version": BENCHMARK_VERSION,
        "kind": "patch",
        "severity": 3,
        "seed": 5,
    }
    entry = pictures["a.png"]
    assert (entry["width"], entry["height"]) == (96, 96)
    pixels = torch.from_numpy(np.array(Image.open(source / "a.png"))).permute(2, 0, 1)[None] / 255
    left, top, right, bottom = landmark_box(read_pts(source / "a.pts"))
    side = float(np.hypot(right - left, bottom - top))
    square = Square((left + right + 1 - side) / 2, (top + bottom + 1 - side) / 2, side)
    expected = corrupt(pixels, "patch", 3, seeds=[entry["seed"]], square=square)[0]
    found = np.array(Image.open(folder / "a.png"))
    assert (found == (255 * expected).round().byte().permute(1, 2, 0).numpy()).all()


def test_strength_is_relative_to_the_face_and_not_to_the_picture(source, tmp_path):
    with Image.open(source / "a.png") as image:
        larger = Image.new("RGB", (400, 300), "grey")
        larger.paste(image)
    larger.save(tmp_path / "larger.png")
    (tmp_path / "large").mkdir()
    (tmp_path / "larger.png").rename(tmp_path / "large/a.png")
    (tmp_path / "large/a.pts").write_bytes((source / "a.pts").read_bytes())
    for name, folder in (("small", source), ("larger", tmp_path / "large")):
        make_corrupted(folder, tmp_path / name, kinds=["defocus_blur"], severities=[4])
    small, larger = (
        np.array(Image.open(tmp_path / name / "defocus_blur/4/a.png")).astype(int)
        for name in ("small", "larger")
    )
    assert abs(small[20:70, 20:70] - larger[20:70, 20:70]).max() <= 1


def test_a_picture_depends_on_its_own_path_alone(source, tmp_path):
    make_corrupted(source, tmp_path / "all", **SOME)
    for name in ("deep/er/b.jpg", "deep/er/b.pts"):
        (source / name).unlink()
    make_corrupted(source, tmp_path / "some", kinds=("mask",), severities=(4,))
    make_corrupted(source, tmp_path / "other", kinds=("mask",), severities=(4,), seed=1)
    everything, some = files(tmp_path / "all"), files(tmp_path / "some")
    assert some["mask/4/a.png"] == everything["mask/4/a.png"]
    assert files(tmp_path / "other")["mask/4/a.png"] != some["mask/4/a.png"]


def test_an_interrupted_call_is_resumed(source, tmp_path, monkeypatch):
    make_corrupted(source, tmp_path / "whole", **SOME)
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return corrupt(*args, **kwargs)

    monkeypatch.setattr(corrupted, "corrupt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_corrupted(source, tmp_path / "out", **SOME)
    monkeypatch.undo()
    assert make_corrupted(source, tmp_path / "out", **SOME) == 7
    assert make_corrupted(source, tmp_path / "out", **SOME) == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_other_kinds_can_be_added_later(source, tmp_path):
    make_corrupted(source, tmp_path / "whole", **SOME)
    make_corrupted(source, tmp_path / "out", kinds=("mask",), severities=(4,))
    assert make_corrupted(source, tmp_path / "out", **SOME) == 9
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_killed_command_leaves_no_half_file_and_goes_on(source, tmp_path):
    out = tmp_path / "out"
    # In the fourth folder, at its third picture.
    killed = stopped_at(3 * 8 + 7, signal.SIGKILL, "corrupt", source, out)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(set(out.rglob("*.tmp")) - set(out.rglob(JOURNAL))) == 1
    for name, content in files(out).items():
        if name.endswith((".png", ".PNG", ".jpg")):
            Image.open(out / name).load()
        elif name.endswith(".pts"):
            assert content == (source / name.split("/", 2)[2]).read_bytes()
        elif not name.endswith(".tmp"):  # what was being written has another name
            assert json.loads(content)["benchmark"] == BENCHMARK
    written = sum(name.lower().endswith((".png", ".jpg")) for name in files(out))
    total = 3 * len(CORRUPTIONS) * len(SEVERITIES)
    assert written == 3 * 3 + 2
    assert make_corrupted(source, out) == total - written
    assert not list(out.rglob("*.tmp"))


def test_no_half_file_is_left_when_writing_fails(source, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        make_corrupted(source, tmp_path / "out", **SOME)
    assert not files(tmp_path / "out")


def test_a_destination_of_other_settings_is_refused_before_anything_is_written(source, tmp_path):
    make_corrupted(source, tmp_path / "out", kinds=("mask",), severities=(4,))
    before = files(tmp_path / "out")
    with pytest.raises(DatasetError, match=r"made with .* Choose another folder"):
        make_corrupted(source, tmp_path / "out", **SOME, seed=1)
    assert files(tmp_path / "out") == before


def test_a_destination_within_the_source_is_refused(source):
    with pytest.raises(ValueError, match="`destination` must be outside"):
        make_corrupted(source, source / "corrupted")


def test_broken_sources_are_listed_or_left_out(source, tmp_path):
    (source / "a.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"a\.png"):
        make_corrupted(source, tmp_path / "out", **SOME)
    assert not (tmp_path / "out").exists()
    with pytest.warns(UserWarning, match=r"a\.png"):
        assert make_corrupted(source, tmp_path / "out", **SOME, skip_broken=True) == 8


def test_command_line(source, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--kinds", "fog", "bar", "--severities", "2", "--seed", "4"]
    assert main(["corrupt", str(source), str(out), *words]) == 0
    assert capsys.readouterr().out == f"6 pictures written to {out}\n"
    assert json.loads((out / "bar/2/manifest.json").read_text())["seed"] == 4


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--kinds", "rain"], "`kind` must be one of gaussian_noise,"),
        (["--severities", "6"], "`severity` must be from 1 to 5"),
        (["--seed", "-1"], "`seed` must be 0 or more"),
    ],
)
def test_command_line_errors_are_one_line(source, tmp_path, capsys, arguments, match):
    assert main(["corrupt", str(source), str(tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert match in said.err
    assert said.err.count("\n") == 1

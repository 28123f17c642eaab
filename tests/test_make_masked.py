"""A folder of masked faces: the same tree, the same landmarks, again and again."""

import json
import os

import numpy as np
import pytest
from PIL import Image
from test_masks import face, picture

from advaug.augment.masks import RENDERER_VERSION, STYLES, render_mask
from advaug.cli import main
from advaug.datasets import read_pts, write_pts
from advaug.datasets.writers import masked as masked_module
from advaug.datasets.writers.masked import make_masked
from advaug.errors import DatasetError

NAMES = ("a.png", "deep/er/b.jpg", "deep/C.PNG")


@pytest.fixture
def source(tmp_path):
    for index, name in enumerate(NAMES):
        path = tmp_path / "faces" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(96)).save(path)
        write_pts(path.with_suffix(".pts"), face(io=30 + index, centre=(48, 36)))
    return tmp_path / "faces"


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_tree_is_the_same_and_landmarks_are_copied(source, tmp_path):
    before = files(source)
    assert make_masked(source, tmp_path / "out", seed=3) == 3
    after = files(tmp_path / "out")
    assert set(after) == set(before) | {"manifest.json"}
    for name, content in before.items():
        assert (after[name] == content) == name.endswith(".pts")
    assert files(source) == before
    with Image.open(tmp_path / "out/deep/er/b.jpg") as image:
        assert image.format == "JPEG"
        assert image.size == (96, 96)


def test_the_manifest_says_how_to_make_each_picture_again(source, tmp_path):
    make_masked(source, tmp_path / "out", seed=3)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert {key: manifest[key] for key in ("renderer", "seed", "style")} == {
        "renderer": RENDERER_VERSION,
        "seed": 3,
        "style": None,
    }
    assert list(manifest["pictures"]) == sorted(NAMES)
    entry = manifest["pictures"]["a.png"]
    assert (entry["width"], entry["height"]) == (96, 96)
    assert entry["style"] in STYLES
    expected = render_mask(
        np.asarray(Image.open(source / "a.png")),
        read_pts(source / "a.pts"),
        style=entry["style"],
        seed=entry["seed"],
    )
    assert (np.asarray(Image.open(tmp_path / "out/a.png")) == expected).all()


def test_a_picture_depends_on_its_own_path_alone(source, tmp_path):
    make_masked(source, tmp_path / "all")
    for name in ("deep/er/b.jpg", "deep/er/b.pts"):
        (source / name).unlink()
    make_masked(source, tmp_path / "some")
    make_masked(source, tmp_path / "other", seed=1)
    everything, some = files(tmp_path / "all"), files(tmp_path / "some")
    assert some["a.png"] == everything["a.png"]
    assert some["deep/C.PNG"] == everything["deep/C.PNG"]
    assert files(tmp_path / "other")["a.png"] != some["a.png"]


def test_a_named_style_is_worn_by_all(source, tmp_path):
    make_masked(source, tmp_path / "out", style="black")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert {entry["style"] for entry in manifest["pictures"].values()} == {"black"}


def test_an_interrupted_call_is_resumed(source, tmp_path, monkeypatch):
    make_masked(source, tmp_path / "whole")
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return render_mask(*args, **kwargs)

    monkeypatch.setattr(masked_module, "render_mask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_masked(source, tmp_path / "out")
    assert make_masked(source, tmp_path / "out") == 2
    assert make_masked(source, tmp_path / "out") == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_no_half_file_is_left_when_writing_fails(source, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        make_masked(source, tmp_path / "out")
    assert not files(tmp_path / "out")


def test_changed_landmarks_are_masked_again(source, tmp_path):
    make_masked(source, tmp_path / "out")
    write_pts(source / "a.pts", face(io=25, centre=(48, 36)))
    assert make_masked(source, tmp_path / "out") == 1
    assert files(tmp_path / "out")["a.pts"] == files(source)["a.pts"]


@pytest.mark.parametrize("settings", [{"seed": 2}, {"style": "n95"}])
def test_a_destination_of_other_settings_is_refused(source, tmp_path, settings):
    make_masked(source, tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(DatasetError, match=r"made with .* Choose another folder"):
        make_masked(source, tmp_path / "out", **settings)
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_somebody_elses_folder_is_refused(source, tmp_path, content):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("important")
    if content is not None:
        (other / "manifest.json").write_text(content)
    with pytest.raises(DatasetError, match=r"no readable `manifest.json`"):
        make_masked(source, other)


def test_a_destination_within_the_source_is_refused(source):
    with pytest.raises(ValueError, match="`destination` must be outside"):
        make_masked(source, source / "masked")


def test_all_broken_sources_are_listed_at_once(source, tmp_path):
    (source / "a.png").write_bytes(b"no picture")
    (source / "deep/C.pts").unlink()
    write_pts(source / "deep/er/b.pts", np.tile([[5, 5.0], [8, 90.0]], (34, 1)))
    with pytest.raises(DatasetError) as error:
        make_masked(source, tmp_path / "out")
    for part in ("a.png", "C.PNG", "b.pts", "span at least 4 pixels"):
        assert part in str(error.value)
    assert not (tmp_path / "out").exists()


def test_broken_sources_can_be_left_out(source, tmp_path):
    (source / "a.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"a\.png"):
        assert make_masked(source, tmp_path / "out", skip_broken=True) == 2


def test_command_line(source, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["make-masked", str(source), str(out), "--style", "n95", "--seed", "4"]) == 0
    assert capsys.readouterr().out == f"3 pictures written to {out}\n"
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["seed"], manifest["style"]) == (4, "n95")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--style", "scarf"], "`style` must be one of"),
        (["--seed", "-1"], "`seed` must be 0 or more"),
    ],
)
def test_command_line_errors_are_one_line(source, tmp_path, capsys, arguments, match):
    assert main(["make-masked", str(source), str(tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert match in said.err
    assert said.err.count("\n") == 1


def test_command_line_names_a_missing_source(tmp_path, capsys):
    assert main(["make-masked", str(tmp_path / "none"), str(tmp_path / "out")]) == 2
    assert "must be a folder" in capsys.readouterr().err

"""The examples as a new user runs them, on a tiny budget."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from advaug.datasets import PtsFolder, SyntheticFaces, write_pts
from advaug.detectors import MDM

REPOSITORY = Path(__file__).parents[1]


def run(example, *words, folder):
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / example), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_hourglass_example_writes_everything_it_promises(tmp_path):
    tiny = ("--steps", "20", "--batch-size", "4", "--width", "8", "--device", "cpu")
    done = run("train_300w_hg.py", *tiny, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    output = tmp_path / "runs" / "train_300w_hg"
    metrics = json.loads((output / "metrics.json").read_text())
    for arm in ("saat", "plain"):
        for condition in ("clean", "masked", "occluded"):
            assert set(metrics[arm][condition]) == {"nme", "failure_rate", "auc"}
            assert metrics[arm][condition]["nme"] > 0
    for name in ("ced.png", "gallery.png", "curves.png"):
        assert (output / name).stat().st_size > 10_000
    for arm in ("saat", "plain"):
        assert (output / arm / "detector.safetensors").exists()
        assert list((output / arm / "tensorboard").iterdir())
        assert list((output / arm / "checkpoints").glob("step_*"))
    assert "| saat" in done.stdout
    assert "β" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "pts"), "`--root` must name"),
        (("--data", "pts", "--root", "nowhere"), "nowhere"),
        (("--image-size", "50"), "divisible by"),
        (("--width", "12"), "`width` must be divisible by 8"),
    ],
    ids=["no root", "no folder", "size", "width"],
)
def test_the_hourglass_example_refuses_in_one_line(tmp_path, words, message):
    done = run("train_300w_hg.py", *words, "--device", "cpu", folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_pose_example_draws_its_own_people(tmp_path):
    tiny = ("--steps", "4", "--batch-size", "4", "--width", "8", "--device", "cpu")
    done = run("train_pose.py", *tiny, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    output = tmp_path / "runs" / "train_pose"
    metrics = json.loads((output / "metrics.json").read_text())
    for arm in ("saat", "plain"):
        assert list(metrics[arm]) == ["clean", "occluded"]
        for found in metrics[arm].values():
            assert list(found) == ["nme", "PCK@0.05", "PCK@0.1"]
            assert found["nme"] > 0
        assert (output / arm / "detector.safetensors").exists()
    for name in ("ced.png", "gallery.png"):
        assert (output / name).stat().st_size > 10_000
    assert "occluded PCK@0.1 %" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "coco", "--root", "."), "`--annotations` must name"),
        (("--data", "mouse", "--root", "nowhere"), "keypoints.csv"),
    ],
    ids=["no annotations", "no csv"],
)
def test_the_pose_example_refuses_in_one_line(tmp_path, words, message):
    done = run("train_pose.py", *words, "--device", "cpu", folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_mdm_example_starts_from_the_mean_shape_of_its_pictures(tmp_path):
    faces = tmp_path / "faces"
    faces.mkdir()
    for index, face in enumerate(SyntheticFaces(10, image_size=64)):
        pixels = (face.image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(faces / f"{index}.png")
        write_pts(faces / f"{index}.pts", face.landmarks)
    small = ("--steps", "4", "--batch-size", "4", "--hidden", "8", "--patch-size", "10")
    words = ("--data", "pts", "--root", "faces", *small, "--device", "cpu")
    done = run("train_300w_mdm.py", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    output = tmp_path / "runs" / "train_300w_mdm"
    metrics = json.loads((output / "metrics.json").read_text())
    training = PtsFolder(faces, image_size=64)
    mean = torch.stack([training[index].landmarks for index in range(8)]).mean(dim=0)
    for arm in ("saat", "plain"):
        assert 0 < metrics[arm]["clean"]["nme"] < 1
        detector = MDM.load(output / arm / "detector.safetensors")
        torch.testing.assert_close(torch.tensor(detector.arguments["mean_shape"]), mean)
    assert (output / "gallery.png").stat().st_size > 10_000
    assert "| saat" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--patch-size", "9"), "`patch_size` must be at least 10"),
        (("--data", "pts", "--root", "nowhere"), "nowhere"),
    ],
    ids=["patch", "no folder"],
)
def test_the_mdm_example_refuses_in_one_line(tmp_path, words, message):
    done = run("train_300w_mdm.py", *words, "--device", "cpu", folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


# At a step of its own: an import, in which the first one spends seconds, may swallow the signal.
STOPPED = """
import runpy, signal, sys

sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
from lab.trainer import Trainer

step = Trainer.step

def stopped(trainer, number):
    if number == 2:
        signal.raise_signal(signal.SIGINT)
    return step(trainer, number)

Trainer.step = stopped
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("example", "words", "begun", "go_on"),
    [
        (
            "train_300w_hg.py",
            ("--data", "synthetic", "--steps", "2000", "--width", "8"),
            "/2000",
            "with `--resume` to go on",
        ),
        ("reproduce.py", ("--table", "6"), "/16", "again to go on"),
    ],
    ids=["train", "reproduce"],
)
def test_ctrl_c_ends_in_one_line_that_says_how_to_go_on(tmp_path, example, words, begun, go_on):
    command = [sys.executable, "-c", STOPPED, str(REPOSITORY / "examples" / example), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert begun in done.stderr
    assert f"stopped. Run the same command {go_on}." in done.stderr.splitlines()
    assert "Traceback" not in done.stderr

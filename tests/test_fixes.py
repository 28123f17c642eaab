"""What error messages tell the reader to do, done literally. Files' messages: `test_safe_files`."""

import re

import numpy as np
import pytest
import torch
from campaigns.faces import make_faces

from advaug import CoordinateTask, PixelSpec
from advaug.cli.main import main
from advaug.datasets import PtsFolder, write_pts
from advaug.errors import DatasetError


def test_a_pixel_spec_in_0_to_255_names_the_one_that_is_meant():
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    with pytest.raises(ValueError, match=r"which are in 0\.\.255") as caught:
        PixelSpec(mean, std)
    fix = re.search(r"Pass (PixelSpec\.from_255\(.*\))\.$", str(caught.value))
    assert fix is not None
    spec = eval(fix.group(1))
    pictures = torch.rand(2, 3, 4, 4)
    for channel in range(3):
        expected = (255 * pictures[:, channel] - mean[channel]) / std[channel]
        torch.testing.assert_close(spec.from_unit(pictures)[:, channel], expected)


def test_a_pixel_spec_without_a_scale_names_the_identity():
    with pytest.raises(ValueError, match="must be positive.*Leave both out for the identity"):
        PixelSpec((0.5,), (float("nan"),))
    assert PixelSpec() == PixelSpec((), ())


@pytest.mark.parametrize("unit", ["[0, 1]", "[-1, 1]"])
@pytest.mark.parametrize("pair", [False, True], ids=["tensor", "pair"])
def test_landmarks_of_another_unit_name_the_factor(unit, pair):
    height, width = 48, 64
    pixels = torch.tensor([[[10.0, 12.0], [50.0, 40.0], [30.0, 20.0]]])
    share = pixels / torch.tensor([width, height])
    landmarks = share if unit == "[0, 1]" else 2 * share - 1
    visible = torch.ones(1, 3, dtype=torch.bool)
    task = CoordinateTask()
    with pytest.raises(ValueError, match="must be in pixels of the picture") as caught:
        task.landmark_heatmaps((landmarks, visible) if pair else landmarks, (height, width))
    assert f"as in {unit}" in str(caught.value)
    fix = re.search(r"Pass `(.*?)`, and", str(caught.value))
    assert fix is not None
    found = eval(fix.group(1), {"torch": torch, "landmarks": landmarks})
    torch.testing.assert_close(found, pixels)
    assert task.landmark_heatmaps(found, (height, width)).amax() > 0.8


def test_landmarks_in_pixels_are_looked_at_once():
    task = CoordinateTask()
    corner = torch.zeros(1, 2, 2)
    hidden = torch.zeros(1, 2, dtype=torch.bool)
    task.landmark_heatmaps((corner, hidden), (16, 16))  # nothing to tell by
    with pytest.raises(ValueError, match="in pixels"):
        task.landmark_heatmaps(corner, (16, 16))
    task.landmark_heatmaps(torch.tensor([[[3.0, 4.0], [9.0, 9.0]]]), (16, 16))
    task.landmark_heatmaps(corner, (16, 16))  # pixels are known by now


def test_a_pts_file_names_what_repairs_it(tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    points = [[10, 10], [40, 30], [20, 20]]
    write_pts(tmp_path / "a.pts", points)
    fix = r"got 3\. Correct the file, or pass `num_landmarks=3` \(`--num-landmarks 3`\)"
    with pytest.raises(DatasetError, match=f"must have 68 points, but {fix}"):
        PtsFolder(tmp_path)
    assert len(PtsFolder(tmp_path, num_landmarks=3)) == 1
    (tmp_path / "a.pts").write_text("n_points: 4\n{\n10 10\n40 30\n20 20\n}\n")
    with pytest.raises(DatasetError, match="got 3 with `n_points: 4`.*correct the header"):
        PtsFolder(tmp_path, num_landmarks=3)
    (tmp_path / "a.pts").write_text("n_points: 3\n{\n10 10\n40 30\n20 20\n}\n")
    assert len(PtsFolder(tmp_path, num_landmarks=3)) == 1
    Image.new("RGB", (64, 48)).save(tmp_path / "b.png")
    with pytest.raises(DatasetError, match="pass `skip_broken=True`"):
        PtsFolder(tmp_path, num_landmarks=3)
    with pytest.warns(UserWarning, match="1 problems"):
        assert len(PtsFolder(tmp_path, num_landmarks=3, skip_broken=True)) == 1


def folder_of_points(folder, counts):
    """Pictures with so many points each."""
    from PIL import Image

    draw = np.random.default_rng(0)
    for number, count in enumerate(counts):
        pixels = draw.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        write_pts(folder / f"{number}.pts", draw.uniform(8, 40, (count, 2)))
    return folder


def test_the_options_that_a_command_names_are_its_own(tmp_path, capsys):
    source = folder_of_points(tmp_path, [3, 3, 4])
    words = ["preview", str(source), str(tmp_path / "out.png"), "--image-size", "32"]
    assert main(words) == 2
    counted = re.search(r"\(`(--num-landmarks) (3)`\)", capsys.readouterr().err)
    words += counted.groups()
    assert main(words) == 2
    skipped = re.search(r"\(`(--skip-broken)`\)", capsys.readouterr().err)
    with pytest.warns(UserWarning, match="1 problems"):
        assert main([*words, *skipped.groups()]) == 0
    assert (tmp_path / "out.png").stat().st_size > 0


@pytest.mark.parametrize("command", ["make-masked", "corrupt"])
def test_where_68_points_are_required_no_other_number_is_offered(tmp_path, capsys, command):
    (tmp_path / "source").mkdir()
    source = make_faces(folder_of_points(tmp_path / "source", [3]) / "whole", 1).parent
    words = [command, str(source), str(tmp_path / "copy")]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "num" not in message
    assert "must have 68 points, but got 3. Correct the file" in message
    assert "pass `skip_broken=True` (`--skip-broken`)" in message
    if command == "corrupt":
        words += ["--kinds", "gaussian_noise", "--severities", "1"]
    with pytest.warns(UserWarning, match="1 problems"):
        assert main([*words, "--skip-broken"]) == 0


def test_a_set_with_gaps_names_commands_that_leave_them_out(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path), "--dataset", "300w"]) == 2
    named = re.findall(r"`advaug ([a-z ]+)`", capsys.readouterr().err)
    assert named == ["evaluate", "data preview"]
    for command in named:
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), "--help"])
        assert ended.value.code == 0
        assert "--skip-broken" in capsys.readouterr().out

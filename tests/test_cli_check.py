"""`advaug check` and `advaug preview`: what they say, what they draw, and what they refuse."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from toys import pictures

import advaug
from advaug import SampleAdaptiveAdversary
from advaug.cli import main

CODE = """
import torch
from toys import HeatmapToy, pictures

def detector():
    torch.manual_seed(0)
    return HeatmapToy()

built = HeatmapToy()
batch = pictures(4)
images, landmarks = batch

def by_function():
    return batch

loader = [batch, batch].__iter__  # a function that returns an iterator
three = (images, landmarks, torch.ones(4, 3, dtype=torch.bool))
none = images
bright = (255 * images, landmarks)
normal = ((images - 0.5) / 0.25, landmarks)
parts = (images, landmarks / 32)
centred = (images, landmarks / 16 - 1)
keyed = {"image": images, "marks": landmarks}
several = (list(images), landmarks)
hidden = (images, (landmarks, torch.tensor([[1, 1, 1], [0, 0, 0], [1, 1, 1], [1, 1, 1]])))
words = ("cat", "dog")

class Deaf(torch.nn.Module):
    def forward(self, images):
        return images.detach()

class Frozen(HeatmapToy):
    def forward(self, images):
        return super().forward(images.detach())

deaf, frozen = Deaf(), Frozen()
needs = lambda one: one
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield
    sys.modules.pop("mine", None)


@pytest.mark.parametrize(
    ("detector", "batch"),
    [("detector", "batch"), ("built", "by_function"), ("built", "loader"), ("detector", "three")],
)
def test_check_says_what_the_adversary_sees(detector, batch, tmp_path, capsys):
    assert main(["check", f"mine:{detector}", f"mine:{batch}", "--output", "s.png"]) == 0
    said = capsys.readouterr().out
    assert "HeatmapToy" in said
    assert "4 of 3 channels, height 32, width 32; float32 on cpu; values from 0." in said
    assert "visible in 4 of 4 pictures" in said
    assert "plain steps" in said
    assert "MiB beside the weights" in said
    assert "Nothing that can be seen from here would go wrong." in said
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_the_drawing_is_grey_with_the_landmarks_in_red(tmp_path):
    assert main(["check", "mine:detector", "mine:batch", "--output", "s.png"]) == 0
    drawn = np.asarray(Image.open(tmp_path / "s.png").convert("RGB")).astype(int)
    assert drawn.shape == (256, 4 * 256 + 3 * 6, 3)  # 32 pixels, enlarged by 8, four in a row
    images, landmarks = pictures(4)
    grey = 255 * images[0].mean(dim=0)
    corner = drawn[4, 4]  # of the first picture, which has no landmark near
    assert np.ptp(corner) == 0
    assert abs(corner[0] - grey[0, 0]) < 2
    for x, y in landmarks[0].round().int().tolist():
        red, green, blue = drawn[8 * y + 4, 8 * x + 4]
        assert red > green + 50
        assert green == blue


def test_preview_says_what_to_install_before_anything_long(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["preview", "nowhere:batch", "g.png"]) == 2
    assert 'pip install "advaug[examples]"' in capsys.readouterr().err


def test_the_counted_cost_is_more_than_a_plain_step(capsys):
    main(["check", "mine:detector", "mine:batch"])
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("cost"))
    assert float(line.split("computes ")[1].split()[0]) > 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine:detector", "mine:none"], "without S, M and the discriminator"),
        (["mine:detector", "mine:parts", "--normalized"], "visible in 4 of 4"),
        (
            ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "mine:detector", "mine:normal"],
            "Nothing that can be seen from here",
        ),
        (["mine:detector", "mine:bright", "--from-255"], "Nothing that can be seen from here"),
        (["mine:detector", "mine:hidden"], "1 of 4 pictures show no visible landmark"),
        (["mine:frozen", "mine:batch"], "No gradient came back"),
    ],
    ids=["no-target", "normalized", "normalisation", "from-255", "hidden", "frozen"],
)
def test_check_says_what_is_special(arguments, message, capsys):
    assert main(["check", *arguments]) == 0
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("detector", "batch", "message"),
    [
        ("mine", "mine:batch", "`detector` must be MODULE:NAME"),
        ("nowhere.at.all:x", "mine:batch", "importing nowhere.at.all raised: No module named"),
        ("mine:absent", "mine:batch", "there is no 'absent'. It has torch"),
        ("mine:batch", "mine:batch", "`detector` must be of type Module"),
        ("mine:needs", "mine:batch", "`detector` must be callable without arguments"),
        ("mine.py:detector", "mine:batch", "Leave the .py out: mine:detector"),
        ("mine:detector", "mine:words", "`batch` must be (images, target)"),
        ("mine:detector", "mine:keyed", "gives a dict with the keys image, marks"),
        ("mine:detector", "mine:several", "stacks a list of pictures"),
        ("mine:detector", "mine:centred", "As they are in [-1, 1]"),
        ("mine:detector", "mine:built", "`batch` must be callable without arguments"),
        ("mine:detector", "mine:bright", "Divide 0..255 pictures by 255"),
        ("mine:detector", "mine:parts", "normalized=True"),
        ("mine:deaf", "mine:batch", "`detector` must return tensors that carry a graph"),
    ],
)
def test_what_cannot_be_checked_is_named(detector, batch, message, capsys):
    assert main(["check", detector, batch]) == 2
    assert message in capsys.readouterr().err


def test_fractions_from_minus_one_are_not_taken_for_parts_of_the_picture(capsys):
    assert main(["check", "mine:detector", "mine:centred", "--normalized"]) == 2
    assert "As they are in [-1, 1]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "mine:detector", "mine:batch", "--output", "new/s.png"],
        ["preview", "mine:batch", "new/s.png"],
    ],
    ids=["check", "preview"],
)
def test_a_drawing_may_go_into_a_new_folder(arguments, tmp_path):
    assert main(arguments) == 0
    assert (tmp_path / "new/s.png").read_bytes().startswith(b"\x89PNG")


def write_folder(folder):
    folder.mkdir()
    images, landmarks = pictures(3, side=64)
    for number, (image, points) in enumerate(zip(images, landmarks, strict=True)):
        pixels = (255 * image.permute(1, 2, 0)).byte().numpy()
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines = "\n".join(f"{x + 1:.3f} {y + 1:.3f}" for x, y in points.tolist())
        text = f"version: 1\nn_points: {len(points)}\n{{\n{lines}\n}}\n"
        (folder / f"{number}.pts").write_text(text)


def test_preview_draws_the_pictures_of_a_folder(tmp_path, capsys):
    write_folder(tmp_path / "own")
    size = ["--image-size", "64", "--num-landmarks", "3"]
    assert main(["preview", "own", "g.png", *size]) == 0
    said = capsys.readouterr().out
    assert "3 pictures in g.png: mean SSIM 0.9" in said or "mean SSIM 1.0" in said
    assert "not trained" in said
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")


def test_preview_draws_with_a_trained_state(tmp_path, capsys):
    adversary = SampleAdaptiveAdversary(seed=5)
    with torch.no_grad():
        adversary.attacker.last.weight.mul_(50)
    torch.save(adversary.state_dict(), tmp_path / "state.pt")
    assert main(["preview", "mine:batch", "g.png", "--state", "state.pt", "--count", "2"]) == 0
    said = capsys.readouterr().out
    assert "2 pictures in g.png" in said
    assert "not trained" not in said


def test_preview_refuses_what_is_no_state(tmp_path, capsys):
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    assert main(["preview", "mine:batch", "g.png", "--state", "bad.pt"]) == 2
    assert "`--state` must be a file of torch.save" in capsys.readouterr().err
    torch.save(SampleAdaptiveAdversary(channels=1).state_dict(), tmp_path / "grey.pt")
    assert main(["preview", "mine:batch", "g.png", "--state", "grey.pt"]) == 2
    assert "same networks" in capsys.readouterr().err
    assert not (tmp_path / "g.png").exists()


def test_a_bare_command_helps_and_the_version_is_known(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "check" in said
    assert "preview" in said
    with pytest.raises(SystemExit):
        main(["--version"])
    assert advaug.__version__ in capsys.readouterr().out

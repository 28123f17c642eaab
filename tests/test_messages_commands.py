"""What the commands' messages say can be done on the command line, and it works."""

import shlex
import sys

import numpy as np
import pytest
import torch
from measured import evaluate
from messages.scoring import onnx_file
from PIL import Image
from small_sets import COFW_COUNTS, add_picture, make_cofw, points

from advaug import SampleAdaptiveAdversary
from advaug.cli.main import main
from advaug.datasets import write_pts
from advaug.datasets.readers import cofw

CODE = """
import torch
from measured import hourglass
from toys import HeatmapToy, pictures
from advaug import PixelSpec

images, landmarks = batch = pictures(4)
detector = HeatmapToy()
bright = (255 * images, landmarks)
parts = (images, landmarks / 32)
imagenet = PixelSpec((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
normalised = (imagenet.from_unit(images), landmarks)
words = ("cat", "dog")
four = (images, landmarks, landmarks, landmarks)

class Number:
    pass

class Deaf(torch.nn.Module):
    def forward(self, images):
        return images.detach()

number, deaf = Number(), Deaf()

def picked():
    images, landmarks, *_ = four
    return images, landmarks

def five():
    return hourglass(5), "heatmaps"
"""
MEAN, STD = "--mean 0.485,0.456,0.406", "--std 0.229,0.224,0.225"
MEAN_255, STD_255 = "--mean 123.675,116.28,103.53", "--std 58.395,57.12,57.375"


@pytest.fixture(autouse=True)
def _in_a_folder_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(cofw, "COUNTS", COFW_COUNTS)
    yield
    sys.modules.pop("mine", None)


def faces(root, count=68, *, exif=None):
    """A folder of two faces."""
    for number, name in enumerate(("a.png", "b.png")):
        path = add_picture(root / name, number)
        write_pts(path.with_suffix(".pts"), points(count, number))
        if exif is not None:
            with Image.open(path) as image:
                tags = image.getexif()
                tags[0x0112] = exif
                image.save(path, exif=tags)


def own_faces(root):
    faces(root / "own")


def states(root):
    """A whole adversary, its state, and that of another one."""
    adversary = SampleAdaptiveAdversary()
    torch.save({"epoch": 3, "adversary": adversary}, root / "whole.pt")
    torch.save(adversary.state_dict(), root / "state.pt")
    torch.save(SampleAdaptiveAdversary(channels=1).state_dict(), root / "grey.pt")


def deep(root):
    """Pictures of 10 bits in 16, whose white no file says."""
    own_faces(root)
    for number, path in enumerate((root / "own").glob("*.png")):
        grey = np.random.default_rng(number).integers(0, 1024, (72, 96)).astype(np.uint16)
        Image.fromarray(grey).save(path)


def exported(root):
    """A detector of five landmarks, and faces that have as many."""
    onnx_file(root, [1, 3, 32, 32])
    faces(root / "own", 5)


EVALUATE = "evaluate --workers 0 --device cpu --image-size 32 --output out"
PTS = f"{EVALUATE} --detector measured:make_hourglass --data pts --root own"
ONNX = f"{EVALUATE} --onnx net.onnx --normalizer box --data pts --root own"

# What makes the fault, the words that meet it, what is said, and the words that follow it.
FOLLOWED = {
    "bright": (None, "check mine:detector mine:bright", "command line: --from-255", "--from-255"),
    "parts": (None, "check mine:detector mine:parts", "line: --normalized", "--normalized"),
    "normalised": (
        None,
        "check mine:detector mine:normalised",
        "command line: --mean and --std",
        f"{MEAN} {STD}",
    ),
    "PixelSpec": (
        None,
        f"check mine:detector mine:normalised {MEAN_255} {STD_255}",
        "command line: --from-255",
        "--from-255",
    ),
    "preview, parts": (None, "preview mine:parts g.png", "line: --normalized", "--normalized"),
    "preview, PixelSpec": (
        None,
        f"preview mine:normalised g.png {MEAN_255} {STD_255}",
        "command line: --from-255",
        "--from-255",
    ),
    "preview, white": (
        deep,
        "preview own g.png --image-size 32",
        "(`--white`) with the value of white",
        "--white 1023",
    ),
    "data preview, white": (
        deep,
        "data preview own --dataset pts",
        "(`--white`) with the value of white",
        "--white 1023",
    ),
    "data check, white": (
        deep,
        "data check own --dataset pts",
        "2 problems, listed above. Repair them",
        "--white 1023",
    ),
    "make-masked, white": (deep, "make-masked own copy", "(`--white`)", "--white 1023"),
    "corrupt, white": (
        deep,
        "corrupt own copy --kinds fog --severities 1",
        "(`--white`)",
        "--white 1023",
    ),
    "evaluate, white": (deep, PTS, "(`--white`) with the value of white", "--white 1023"),
}
# The same, where the words themselves change.
CHANGED = {
    "no loader": (
        None,
        "check mine:detector mine:number",
        "Write a function that returns a batch",
        "check mine:detector mine:picked",
    ),
    "detached": (
        None,
        "check mine:deaf mine:batch",
        "Do not detach its output",
        "check mine:detector mine:batch",
    ),
    "three numbers": (
        exported,
        f"{ONNX} --mean 0.5 --std 1,1,1",
        "Separate them by commas",
        f"{ONNX} --mean 0.5,0.5,0.5 --std 1,1,1",
    ),
    "no std": (
        exported,
        f"{ONNX} --mean 0.5,0.5,0.5",
        "Use 0 for no mean and 1 for no std",
        f"{ONNX} --mean 0.5,0.5,0.5 --std 1,1,1",
    ),
    "no mean": (
        exported,
        f"{ONNX} --std 0.5,0.5,0.5",
        "Use 0 for no mean and 1 for no std",
        f"{ONNX} --mean 0,0,0 --std 0.5,0.5,0.5",
    ),
    "no batch": (
        None,
        "check mine:detector mine:words",
        "Write a function that picks them out",
        "check mine:detector mine:batch",
    ),
    "four parts": (
        None,
        "check mine:detector mine:four",
        "Write a function that picks them out",
        "check mine:detector mine:picked",
    ),
    "no state": (
        states,
        "preview mine:batch g.png --state whole.pt",
        "Save only the adversary's state",
        "preview mine:batch g.png --state state.pt",
    ),
    "another's state": (
        states,
        "preview mine:batch g.png --state grey.pt",
        "Make one with `SampleAdaptiveAdversary(channels=3)`",
        "preview mine:batch g.png --state state.pt",
    ),
    "no state at all": (
        states,
        "preview mine:batch g.png --state grey.pt",
        "or leave `--state` out",
        "preview mine:batch g.png",
    ),
    "stored pictures": (
        lambda root: make_cofw(root / "own", COFW_COUNTS),
        "data check own --dataset cofw --orientation exif",
        "Leave it out (`--orientation`, `--white`)",
        "data check own --dataset cofw",
    ),
    "device": (
        own_faces,
        f"{PTS} --device abacus",
        "Leave it out, or choose cpu",
        f"{PTS} --device cpu",
    ),
    "no device": (
        own_faces,
        f"{PTS} --device abacus".replace("--device cpu ", ""),
        "Leave it out",
        PTS.replace("--device cpu ", ""),
    ),
    "mean of no ONNX": (
        own_faces,
        f"{PTS} --mean 0,0,0",
        "Leave them out: it already knows",
        PTS,
    ),
    **{
        f"normalizer, {name}": (
            lambda root: faces(root / "own", 5),
            PTS.replace("measured:make_hourglass", "mine:five"),
            "(`--normalizer 0,1`, `--normalizer box`)",
            PTS.replace("measured:make_hourglass", f"mine:five --normalizer {name}"),
        )
        for name in ("0,1", "box")
    },
    "flip": (
        lambda root: faces(root / "own", 5),
        PTS.replace("measured:make_hourglass", "mine:five --normalizer box --flip"),
        "scheme is unknown. Leave it out",
        PTS.replace("measured:make_hourglass", "mine:five --normalizer box"),
    ),
    "no root": (
        own_faces,
        PTS.replace("--root own", ""),
        "Pass the folder",
        PTS,
    ),
}


def refused(words, says, capsys):
    assert main(shlex.split(words)) == 2
    said = capsys.readouterr().err
    assert says in said, said


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FOLLOWED)
def test_a_command_names_the_option_that_mends_it(name, tmp_path, capsys):
    make, words, says, more = FOLLOWED[name]
    if make is not None:
        make(tmp_path)
    refused(words, says, capsys)
    assert main(shlex.split(f"{words} {more}")) == 0


@pytest.mark.parametrize("name", CHANGED)
def test_a_command_that_is_changed_as_it_says_works(name, tmp_path, capsys):
    make, words, says, changed = CHANGED[name]
    if make is not None:
        make(tmp_path)
    refused(words, says, capsys)
    assert main(shlex.split(changed)) == 0


@pytest.mark.parametrize("orientation", ["exif", "stored"])
@pytest.mark.parametrize(
    "words",
    [
        "preview own g.png --image-size 32",
        "data preview own --dataset pts",
        "data check own --dataset pts",
        "make-masked own copy",
        "corrupt own copy --kinds fog --severities 1",
        PTS,
    ],
    ids=lambda words: words[:12],
)
def test_every_command_has_the_choice_that_its_warning_names(words, orientation, tmp_path, capsys):
    faces(tmp_path / "own", exif=3)
    option = f"--orientation {orientation}"
    with pytest.warns(UserWarning, match="EXIF orientation") as warned:
        assert main(shlex.split(words)) == 0
    assert f"(`{option}`)" in str(warned[0].message)
    words = words.replace(" copy", " other").replace("--output out", "--output other")
    assert main(shlex.split(f"{words} {option}")) == 0  # a warning would be an error


def test_pictures_read_in_another_way_are_another_measurement(tmp_path, capsys):
    faces(tmp_path / "own", exif=3)
    assert main(shlex.split(f"{PTS} --orientation stored")) == 0
    with pytest.warns(UserWarning, match="EXIF orientation"):
        assert main(shlex.split(PTS)) == 0  # the same
    refused(
        f"{PTS} --orientation exif",
        "differs in orientation: None there, exif here. Choose another `--output`",
        capsys,
    )
    assert main(shlex.split(f"{PTS} --orientation exif --output other")) == 0


@pytest.mark.parametrize("words", [PTS, "data preview own --dataset pts"], ids=["evaluate", "data"])
def test_no_number_of_landmarks_is_offered_where_none_can_be_chosen(words, tmp_path, capsys):
    faces(tmp_path / "own", 5)
    refused(words, "must have 68 points, but got 5. Correct the file.", capsys)
    faces(tmp_path / "own", 68)
    assert main(shlex.split(words)) == 0


@pytest.mark.parametrize("package", ["jinja2", "tqdm"])
def test_what_an_evaluation_needs_is_said_before_anything_long(package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(torch.nn.Module, "forward", lambda *_: pytest.fail("the detector ran"))
    assert evaluate("out") == 2
    assert "Run `pip install 'advaug[evaluate]'`" in capsys.readouterr().err

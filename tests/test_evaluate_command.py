"""`advaug evaluate`: what it writes, that it goes on, and what it refuses before it begins."""

import csv
import json
import re

import pytest
import torch
from measured import COUNT, SIDE, evaluate, hourglass
from torch import nn

from advaug.augment.corruptions import UNLIKE
from advaug.cli.main import main
from advaug.datasets import SyntheticFaces, write_pts
from advaug.detectors import MDM
from advaug.evaluation import evaluate as measure_in_memory
from advaug.evaluation.loaded import decode_output
from advaug.evaluation.looking import collate


def results(folder):
    return json.loads((folder / "results.json").read_text())


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder with a whole evaluation."""
    folder = tmp_path_factory.mktemp("measured") / "results"
    words = ("--conditions", "clean", "masked", "landmark-c", "--severities", "1", "5")
    kinds = ("--kinds", "fog", "mask", "jpeg")
    assert evaluate(folder, *words, *kinds, "--worst", "3") == 0
    return folder


def test_it_writes_every_file_and_nothing_else(measured):
    assert sorted(path.name for path in measured.iterdir()) == [
        "landmarks.csv",
        "predictions.safetensors",
        "report.html",
        "results.csv",
        "results.json",
        "samples.csv",
        "settings.json",
    ]


def test_its_numbers_are_those_of_measuring_in_memory(measured):
    truth = collate([SyntheticFaces(COUNT, split="hard", image_size=SIDE)[i] for i in range(COUNT)])
    expected = measure_in_memory(
        hourglass(),
        decode_output("heatmaps"),
        truth.images,
        truth.landmarks,
        truth.visible,
        normalizer="inter_ocular",
    )["clean"].summary()
    found = results(measured)["subsets"]["hard"]["conditions"]["clean"]
    assert found["pictures"] == COUNT
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5)


def test_its_files_agree_with_each_other(measured):
    document = results(measured)
    table = rows(measured / "results.csv")
    conditions = [
        "clean",
        "masked",
        *(f"{kind}/{n}" for kind in ("fog", "mask", "jpeg") for n in (1, 5)),
    ]
    assert [row["condition"] for row in table] == 2 * conditions
    for row in table:
        held = document["subsets"][row["subset"]]["conditions"][row["condition"]]
        assert float(row["nme"]) == held["nme"]
        assert row["nme_occluded"] == "", "this set does not know"
    samples = rows(measured / "samples.csv")
    assert [row["picture"] for row in samples[:2]] == ["val/00000", "val/00001"]
    of_hard = [float(row["masked"]) for row in samples[COUNT:]]
    mean = document["subsets"]["hard"]["conditions"]["masked"]["nme"]
    assert sum(of_hard) / COUNT == pytest.approx(mean)
    landmarks = [row for row in rows(measured / "landmarks.csv") if row["subset"] == "val"]
    assert len(landmarks) == 68
    mouth = [float(row["clean"]) for row in landmarks if row["region"] == "mouth"]
    held = document["subsets"]["val"]["details"]["clean"]["regions"]["mouth"]
    assert sum(mouth) / len(mouth) == pytest.approx(held, abs=1e-3)


def test_landmark_c_is_summed_up_as_its_benchmark_says(measured):
    subset = results(measured)["subsets"]["val"]
    found = subset["landmark_c"]
    means = {
        kind: (subset["conditions"][f"{kind}/1"]["nme"] + subset["conditions"][f"{kind}/5"]["nme"])
        / 2
        for kind in ("fog", "mask", "jpeg")
    }
    assert found["corrupted"] == pytest.approx(sum(means.values()) / 3)
    assert found["ratio"] == pytest.approx(
        found["corrupted"] / subset["conditions"]["clean"]["nme"]
    )
    assert found["worst"] == pytest.approx(max(means.values()))
    assert list(found["kinds"]["fog"]) == ["1", "5"]


def test_the_kinds_unlike_the_training_are_measured_by_themselves(tmp_path):
    kind = next(iter(UNLIKE))
    words = ("--conditions", "landmark-c", "--group", "unlike", "--kinds", kind)
    assert evaluate(tmp_path, *words, "--severities", "3") == 0
    found = results(tmp_path)
    assert found["group"] == "unlike"
    assert list(found["subsets"]["val"]["landmark_c"]["kinds"]) == [kind]
    assert "of the kinds unlike what this library trains on" in (
        tmp_path / "report.html"
    ).read_text().replace("\n", " ")


def test_another_normalizer_and_subset_need_no_detector_again(tmp_path, monkeypatch, capsys):
    assert evaluate(tmp_path) == 0
    ocular = results(tmp_path)["subsets"]["val"]["conditions"]["clean"]["nme"]
    before = (tmp_path / "predictions.safetensors").stat().st_mtime_ns
    words = ("--normalizer", "36,45", "--subsets", "val", "--threshold", "0.08")
    assert evaluate(tmp_path, *words) == 0
    again = results(tmp_path)
    assert (tmp_path / "predictions.safetensors").stat().st_mtime_ns == before
    assert list(again["subsets"]) == ["val"]
    assert again["normalizer"] == "36,45"
    assert again["subsets"]["val"]["conditions"]["clean"]["nme"] == pytest.approx(ocular)
    assert evaluate(tmp_path, "--normalizer", "inter_pupil") == 0
    assert results(tmp_path)["subsets"]["val"]["conditions"]["clean"]["nme"] > 1.2 * ocular
    assert "NME %" in capsys.readouterr().out


def test_the_flip_test_is_an_option(tmp_path):
    assert evaluate(tmp_path / "plain") == 0
    assert evaluate(tmp_path / "flip", "--flip") == 0
    plain, flip = results(tmp_path / "plain"), results(tmp_path / "flip")
    assert (plain["flip"], flip["flip"]) == (False, True)
    means = [found["subsets"]["val"]["conditions"]["clean"]["nme"] for found in (plain, flip)]
    assert means[0] != means[1]


def test_a_folder_of_pts_files_has_its_folders_as_subsets(tmp_path):
    from torchvision.utils import save_image

    for index, sample in enumerate(
        SyntheticFaces(4, split="val", image_size=64)[i] for i in range(4)
    ):
        folder = tmp_path / "faces" / ("easy" if index < 3 else "hard")
        folder.mkdir(parents=True, exist_ok=True)
        save_image(sample.image, folder / f"{index}.png")
        write_pts(folder / f"{index}.pts", sample.landmarks.numpy())
    words = ["--data", "pts", "--root", str(tmp_path / "faces"), "--image-size", "32"]
    detector = ["--detector", "measured:make_hourglass", "--workers", "0", "--device", "cpu"]
    assert main(["evaluate", *detector, *words, "--output", str(tmp_path / "out")]) == 0
    found = results(tmp_path / "out")["subsets"]
    assert {name: subset["pictures"] for name, subset in found.items()} == {
        "all": 4,
        "easy": 3,
        "hard": 1,
    }


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_gives_the_numbers_of_the_detector_that_was_exported(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = MDM(torch.rand(68, 2), hidden=16, patch_size=12, reduce=4).eval()
    nn.init.normal_(network.offsets.weight, std=0.5)
    network.save(tmp_path / "detector.safetensors")
    images = (torch.rand(2, 3, SIDE, SIDE),)
    program = torch.onnx.export(
        network, images, dynamo=True, verbose=False, dynamic_shapes=({0: "batch"},)
    )
    assert program is not None
    program.save(tmp_path / "detector.onnx")
    words = ("--conditions", "clean", "masked", "--flip")
    for name, file in (("weights", "detector.safetensors"), ("onnx", "detector.onnx")):
        chosen = (f"--{name}", str(tmp_path / file))
        assert evaluate(tmp_path / name, *words, detector=chosen) == 0
    ours, theirs = (results(tmp_path / name)["subsets"] for name in ("weights", "onnx"))
    for subset in ("val", "hard"):
        for condition in ("clean", "masked"):
            for measure in ("nme", "failure_rate", "auc", "auc_simpson"):
                expected = ours[subset]["conditions"][condition][measure]
                found = theirs[subset]["conditions"][condition][measure]
                assert found == pytest.approx(expected, abs=1e-4)


def test_a_batch_that_does_not_fit_is_said_and_reported(tmp_path, monkeypatch, capsys):
    find = torch.nn.functional.conv2d

    def short_of_memory(images, *arguments, **keywords):
        if len(images) > 2:
            msg = "CUDA out of memory. Tried to allocate 2 GiB."
            raise torch.OutOfMemoryError(msg)
        return find(images, *arguments, **keywords)

    assert evaluate(tmp_path / "whole") == 0
    monkeypatch.setattr(torch.nn.functional, "conv2d", short_of_memory)
    assert evaluate(tmp_path / "halved", "--batch-size", "8") == 0
    said = "a batch of 8 does not fit in memory: going on with 4"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "halved" / "report.html").read_text()
    # Measured again from the kept predictions, in another run that halves nothing.
    assert evaluate(tmp_path / "halved", "--batch-size", "8", "--normalizer", "box") == 0
    assert said in (tmp_path / "halved" / "report.html").read_text()
    assert said in results(tmp_path / "halved")["notes"]
    assert evaluate(tmp_path / "halved", "--batch-size", "8") == 0
    whole, halved = (results(tmp_path / name) for name in ("whole", "halved"))
    assert halved["pace"]["batch_size"] == 2
    for name, subset in whole["subsets"].items():
        expected = subset["conditions"]["clean"]["nme"]
        assert halved["subsets"][name]["conditions"]["clean"]["nme"] == pytest.approx(expected)


REFUSED = [
    (("--data", "wider"), "`--data` must be one of synthetic, 300w, "),
    (("--data", "300w"), "`--root` must name the folder of 300w"),
    (("--subsets", "ibug"), "`--subsets` must be among val, hard"),
    (("--normalizer", "iod"), "`normalizer` must be one of inter_ocular"),
    (("--normalizer", "36,68"), "two indices from 0 to 67"),
    (("--conditions", "rain"), "`--conditions` must be among clean, masked, occluded, landmark-c"),
    (("--conditions", "landmark-c", "--kinds", "rain"), "`kind` must be one of gaussian_noise"),
    (("--conditions", "landmark-c", "--group", "other"), "`group` must be one of"),
    (("--conditions", "landmark-c", "--group", "unlike", "--kinds", "fog"), "`kind` must be one"),
    (("--conditions", "landmark-c", "--severities", "6"), "`severity` must be from 1 to 5"),
    (("--threshold", "0"), "`--threshold` must be positive"),
    (("--batch-size", "0"), "`batch_size` must be at least 1"),
    (("--workers", "-1"), "`workers` must not be negative"),
    (("--worst", "-1"), "`worst` must not be negative"),
    (("--count", "0"), "`count` must be at least 1"),
    (("--image-size", "36"), "divisible by 8"),
    (("--device", "abacus"), "`--device` must be one that PyTorch has here"),
    (("--mean", "0,0,0"), "`--mean` and `--std` must go with `--onnx`"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_cannot_be_done_is_refused_before_any_picture_is_read(
    words, message, tmp_path, monkeypatch, capsys
):
    def read(self, index):
        pytest.fail("a picture was read")

    monkeypatch.setattr(SyntheticFaces, "__getitem__", read)
    assert evaluate(tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_weights_of_another_number_of_landmarks_are_refused(tmp_path, capsys):
    hourglass(98).save(tmp_path / "detector.safetensors")
    chosen = ("--weights", str(tmp_path / "detector.safetensors"))
    assert evaluate(tmp_path / "out", detector=chosen) == 2
    assert re.search("must have the 98 landmarks of HourglassNet.*got 68", capsys.readouterr().err)
    words = ("--conditions", "masked")
    assert evaluate(tmp_path / "out", *words, detector=chosen) == 2
    assert "must have the 68 landmarks of a face, but got 98" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_of_another_architecture_are_refused(tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    hourglass().save(tmp_path / "whole.safetensors")
    tensors = load_file(tmp_path / "whole.safetensors")
    from safetensors import safe_open

    with safe_open(tmp_path / "whole.safetensors", framework="pt") as file:
        words = file.metadata()
    words["arguments"] = words["arguments"].replace('"width": 8', '"width": 16')
    save_file(tensors, tmp_path / "other.safetensors", metadata=words)
    chosen = ("--weights", str(tmp_path / "other.safetensors"))
    assert evaluate(tmp_path / "out", detector=chosen) == 2
    assert "weights that do not fit their architecture" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert evaluate(tmp_path / "file" / "out") == 2
    assert "`--output` must lead to a folder that can be written" in capsys.readouterr().err


def test_a_folder_of_another_measurement_is_refused_and_left_alone(tmp_path, capsys):
    assert evaluate(tmp_path) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert evaluate(tmp_path, "--flip") == 2
    assert "differs in flip: False there, True here" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_report_that_fails_leaves_the_older_one_whole(tmp_path, monkeypatch):
    assert evaluate(tmp_path) == 0
    before = (tmp_path / "report.html").read_bytes()

    def broken(*arguments, **keywords):
        raise OSError("disk full")

    monkeypatch.setattr("advaug.evaluation.html._data_address", broken)
    assert evaluate(tmp_path) == 2
    assert (tmp_path / "report.html").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]

"""Measuring a detector: loading it, halving batches, going on after a stop, summing up."""

from dataclasses import replace

import pytest
import torch
from measured import SIDE, HalfHidden, hourglass
from torch import nn

from advaug.datasets import SyntheticFaces
from advaug.detectors import MDM, HourglassNet
from advaug.evaluation import evaluate, nme
from advaug.evaluation.batches import Batches
from advaug.evaluation.evaluate import CONDITIONS
from advaug.evaluation.exported import load_onnx
from advaug.evaluation.loaded import (
    LoadedDetector,
    decode_output,
    load_function,
    load_weights,
)
from advaug.evaluation.looking import collate, collect, find_landmarks
from advaug.evaluation.report import format_table
from advaug.evaluation.sets import EvaluationSet, choose_subsets
from advaug.evaluation.summary import Protocol, measure_errors, summarize
from advaug.heatmaps import decode_heatmaps
from advaug.pixels import PixelSpec
from advaug.schemes import FACE_68

OCULAR = Protocol("inter_ocular")
CLEAN = {"clean": CONDITIONS["clean"]}


def faces(count=6):
    return SyntheticFaces(count, split="val", image_size=SIDE)


def stand_in(find, pixels=PixelSpec()):  # frozen
    """A detector that is nothing but a function."""

    class Module(nn.Module):
        def forward(self, images):
            return find(images)

    return LoadedDetector("a stand-in", Module().eval(), decode_output("coordinates"), pixels, "")


def gather(find, dataset, folder, conditions=CLEAN, batch_size=4):
    batches = Batches(batch_size, lambda line: None)
    return collect(find, dataset, conditions, folder, device="cpu", batches=batches, workers=0)


# Loading.


@pytest.mark.parametrize("network", [hourglass(), MDM(torch.rand(68, 2), hidden=8, patch_size=12)])
def test_weights_come_back_as_the_detector_that_was_saved(network, tmp_path):
    network.save(tmp_path / "detector.safetensors")
    loaded = load_weights(tmp_path / "detector.safetensors", "cpu")
    images = torch.rand(3, 3, SIDE, SIDE)
    with torch.no_grad():
        output = network.eval()(images)
        expected = (
            decode_heatmaps(output, image_size=(SIDE, SIDE))
            if isinstance(network, HourglassNet)
            else output[-1]
        )
        assert torch.equal(loaded.find(images), expected)
    assert loaded.rehearse(SIDE) == 68
    assert not loaded.module.training


def test_weights_of_another_kind_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("other", "text"):
        with pytest.raises(ValueError, match="`weights` must be a file that HourglassNet"):
            load_weights(tmp_path / f"{name}.safetensors", "cpu")
    with pytest.raises(FileNotFoundError, match="`weights` must be a file .* there is no .*none"):
        load_weights(tmp_path / "none.safetensors", "cpu")


MADE = """
import torch
from advaug.pixels import PixelSpec

class Centre(torch.nn.Module):
    def forward(self, images):
        return images.mean((1, 2, 3))[:, None, None].expand(-1, 5, 2)

def plain():
    return Centre(), "coordinates"

def own():
    return Centre(), lambda output, size: output + size[0]

def normalised():
    return Centre(), "coordinates", PixelSpec((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

def only_a_module():
    return Centre()

def unknown_reading():
    return Centre(), "boxes"
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_detector.py").write_text(MADE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_detector", raising=False)


@pytest.mark.parametrize(("name", "expected"), [("plain", 0.75), ("own", 8.75), ("normalised", 1)])
def test_anybodys_function_is_found_in_the_current_folder(own_module, name, expected):
    loaded = load_function(f"own_detector:{name}", "cpu")
    found = loaded.find(torch.full((2, 3, 8, 8), 0.75))
    assert found.shape == (2, 5, 2)
    assert found.unique().tolist() == [expected]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("own_detector", "`--detector` must be MODULE:NAME"),
        ("own_detector:nothing", "must be a name in own_detector, but there is no 'nothing'"),
        ("no_such_module:make", "must name a module that can be imported"),
        ("own_detector:only_a_module", r"must return \(module, decode\).*got a Centre"),
        ("own_detector:unknown_reading", "`decode` must be one of auto, heatmaps, coordinates"),
    ],
)
def test_functions_that_give_no_detector_are_refused(own_module, spec, message):
    path = list(__import__("sys").path)
    with pytest.raises(ValueError, match=message):
        load_function(spec, "cpu")
    assert __import__("sys").path == path


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(1, 68), r"must be read as landmarks \(1, N, 2\), but got a tensor \(1, 68\)"),
        (torch.full((1, 68, 2), torch.nan), "must be finite"),
    ],
)
def test_a_rehearsal_refuses_what_is_no_landmarks(output, message):
    with pytest.raises(ValueError, match=message):
        stand_in(lambda images: output).rehearse(SIDE)


def test_a_rehearsal_says_what_the_module_raised():
    loaded = replace(stand_in(lambda images: images), module=hourglass())
    with pytest.raises(ValueError, match="divisible by 8"):
        loaded.rehearse(36)
    with pytest.raises(ValueError, match="`image_size` must be 64"):
        replace(loaded, image_size=64).rehearse(SIDE)


@pytest.fixture(scope="module")
def onnx_files(tmp_path_factory):
    """The hourglass exported for any batch, and for three pictures at a time."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("onnx")
    images = torch.rand(3, 3, SIDE, SIDE)
    network = hourglass()
    fixed = torch.onnx.export(network, (images,), dynamo=True, verbose=False)
    free = torch.onnx.export(
        network, (images,), dynamo=True, verbose=False, dynamic_shapes=({0: "batch"},)
    )
    assert fixed is not None
    assert free is not None
    fixed.save(folder / "fixed.onnx")
    free.save(folder / "free.onnx")
    return {"fixed": folder / "fixed.onnx", "free": folder / "free.onnx"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["free", "fixed"])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_an_exported_detector_gives_the_same_output(onnx_files, name, count):
    loaded = load_onnx(onnx_files[name], "cpu")
    images = torch.rand(count, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = hourglass()(images)
    output = loaded.module(images)
    torch.testing.assert_close(output[-1], expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(loaded.find(images), decode_heatmaps(output[-1], image_size=(SIDE, SIDE)))
    assert loaded.image_size == SIDE


def test_a_broken_onnx_file_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "broken.onnx").write_text("no model")
    with pytest.raises(ValueError, match="`--onnx` must be an ONNX model that onnxruntime can run"):
        load_onnx(tmp_path / "broken.onnx", "cpu")
    with pytest.raises(FileNotFoundError):
        load_onnx(tmp_path / "none.onnx", "cpu")


# Looking.


def test_a_flip_test_averages_with_the_mirror_image():
    """A detector that finds the brightest pixel, and puts every landmark a pixel to its right."""

    def brightest(images):
        place = images.mean(1).flatten(1).argmax(dim=1)
        xy = torch.stack([place % SIDE + 1, place // SIDE], dim=-1).float()
        return xy[:, None].expand(-1, 68, 2)

    images = torch.zeros(1, 3, SIDE, SIDE)
    images[0, :, 20, 7] = 1
    plain = find_landmarks(stand_in(brightest), None)(images)
    assert plain[0, 0].tolist() == [8, 20]
    both = find_landmarks(stand_in(brightest), FACE_68.flip_permutation)(images)
    assert both[0].unique(dim=0).tolist() == [[7, 20]], "the two shifts cancel out"


def test_a_flip_test_puts_left_and_right_back_under_their_labels():
    ramp = torch.arange(68.0)[None, :, None].expand(1, 68, 2) / 4
    both = find_landmarks(stand_in(lambda images: ramp), FACE_68.flip_permutation)
    found = both(torch.zeros(1, 3, SIDE, SIDE))
    mirrored = ramp[:, list(FACE_68.flip_permutation)]
    torch.testing.assert_close(found[..., 1], (ramp + mirrored)[..., 1] / 2)
    torch.testing.assert_close(found[..., 0], (ramp + SIDE - 1 - mirrored)[..., 0] / 2)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_a_batch_that_does_not_fit_is_halved_and_said(error):
    said, sizes = [], []

    def work(part):
        sizes.append(part.stop - part.start)
        if sizes[-1] > 2:
            raise error
        return torch.arange(part.start, part.stop)

    batches = Batches(8, said.append)
    assert batches.map(work, 11).tolist() == list(range(11))
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert said == [
        "a batch of 8 does not fit in memory: going on with 4",
        "a batch of 4 does not fit in memory: going on with 2",
    ]
    assert batches.map(work, 3).tolist() == [0, 1, 2]
    assert sizes[-2:] == [2, 1], "the size stays where it fits"


def test_a_picture_that_does_not_fit_by_itself_is_an_error():
    def work(part):
        raise OUT_OF_MEMORY[0]

    with pytest.raises(MemoryError, match="a batch of one picture must fit"):
        Batches(2, lambda line: None).map(work, 3)


def test_any_other_error_is_left_as_it_is():
    def work(part):
        msg = "shapes do not match"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="shapes do not match"):
        Batches(2, lambda line: None).map(work, 3)


class Stopping:
    """Finds landmarks until it has been called so many times."""

    def __init__(self, calls):
        self.calls = calls
        self.seen = 0

    def __call__(self, images):
        if self.seen == self.calls:
            raise KeyboardInterrupt
        self.seen += 1
        means = images.mean((2, 3))
        return means[:, None, :2].expand(-1, 68, 2) * SIDE


@pytest.mark.parametrize("calls", [0, 3, 5])
def test_a_stopped_measurement_goes_on_with_the_same_result(calls, tmp_path, monkeypatch):
    monkeypatch.setattr("advaug.evaluation.looking.KEPT_TOGETHER", 2)
    whole = gather(Stopping(99), faces(), tmp_path, batch_size=2, conditions=CONDITIONS)
    (other := tmp_path / "other").mkdir()
    with pytest.raises(KeyboardInterrupt):
        gather(Stopping(calls), faces(), other, batch_size=2, conditions=CONDITIONS)
    assert not (other / "predictions.safetensors").exists()
    rest = Stopping(99)
    found = gather(rest, faces(), other, batch_size=2, conditions=CONDITIONS)
    assert rest.seen == 9 - 3 * (calls // 3), "no picture that was kept is looked at again"
    assert list(found.found) == list(CONDITIONS)
    for name in CONDITIONS:
        assert torch.equal(found.found[name], whole.found[name])
    assert torch.equal(found.landmarks, whole.landmarks)
    assert not (other / "parts").exists()
    again = gather(Stopping(0), faces(), other, batch_size=2, conditions=CONDITIONS)
    assert torch.equal(again.found["masked"], whole.found["masked"])


def test_the_size_of_the_batches_changes_nothing(tmp_path):
    detector = find_landmarks(
        stand_in(lambda images: images.mean((2, 3))[:, None, :2].expand(-1, 68, 2)), None
    )
    found = []
    for size in (1, 4, 64):
        (folder := tmp_path / str(size)).mkdir()
        found.append(gather(detector, faces(), folder, CONDITIONS, batch_size=size))
    for name in CONDITIONS:
        torch.testing.assert_close(found[0].found[name], found[1].found[name])
        torch.testing.assert_close(found[0].found[name], found[2].found[name])


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (lambda images: torch.zeros(len(images), 29, 2), "must give 68 landmarks, as the set has"),
        (lambda images: torch.full((len(images), 68, 2), torch.nan), "infinity for picture 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_the_first_batch(find, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        gather(find, faces(), tmp_path)
    assert list(tmp_path.rglob("*.safetensors")) == []


# Choosing.


def test_subsets_without_pictures_are_left_out_unless_they_are_asked_for():
    found = EvaluationSet("a set", faces(2), {"all": range(2), "blur": []}, ["a", "b"], FACE_68)
    assert choose_subsets(found, None) == {"all": [0, 1]}
    with pytest.raises(ValueError, match="must have pictures, but got none in blur of a set"):
        choose_subsets(found, ["blur"])
    with pytest.raises(ValueError, match="must be among all, blur for a set, but got 'noise'"):
        choose_subsets(found, ["all", "noise"])


# Summing up.


def test_occluded_landmarks_are_measured_apart(tmp_path):
    """Found 2 pixels off where nothing covers them, and 6 where something does."""
    dataset = HalfHidden(faces())
    truth = collate([dataset[index] for index in range(len(dataset))])
    assert truth.occluded is not None
    off = torch.where(truth.occluded, 6.0, 2.0)[..., None] * torch.tensor([1.0, 0.0])
    shown = iter((truth.landmarks + off).split(4))
    predictions = gather(lambda images: next(shown), dataset, tmp_path)
    assert torch.equal(predictions.occluded, truth.occluded)
    measured = measure_errors(predictions, OCULAR)
    found = summarize(measured, {"all": range(6)}, OCULAR, FACE_68)["all"].conditions["clean"]
    sizes = (truth.landmarks[:, 36] - truth.landmarks[:, 45]).norm(dim=1)
    assert found.nme_visible == pytest.approx((2 / sizes).mean().item(), rel=1e-5)
    assert found.nme_occluded == pytest.approx((6 / sizes).mean().item(), rel=1e-5)
    assert found.nme_visible < found.nme < found.nme_occluded


def test_measuring_in_memory_tells_them_apart_as_well(tmp_path):
    dataset = HalfHidden(faces())
    truth = collate([dataset[index] for index in range(len(dataset))])
    off = torch.where(truth.occluded, 6.0, 2.0)[..., None] * torch.tensor([1.0, 0.0])
    found = evaluate(
        stand_in(lambda images: truth.landmarks + off).module,
        decode_output("coordinates"),
        truth.images,
        truth.landmarks,
        truth.visible,
        normalizer="inter_ocular",
        occluded=truth.occluded,
        conditions=CLEAN,
    )["clean"].summary()
    sizes = (truth.landmarks[:, 36] - truth.landmarks[:, 45]).norm(dim=1)
    assert found["nme_visible"] == pytest.approx((2 / sizes).mean().item(), rel=1e-5)
    assert found["nme_occluded"] == pytest.approx((6 / sizes).mean().item(), rel=1e-5)
    table = format_table({"a run": {"clean": found}})
    assert "clean NME visible %" in table
    assert "clean NME occluded %" in table


def test_sets_that_do_not_know_what_is_occluded_say_nothing_of_it(tmp_path):
    found = gather(lambda images: torch.zeros(len(images), 68, 2), faces(), tmp_path)
    assert found.occluded is None
    summary = summarize(measure_errors(found, OCULAR), {"all": range(6)}, OCULAR, FACE_68)
    assert summary["all"].conditions["clean"].nme_occluded is None


def test_subsets_landmarks_and_regions_of_a_hand_worked_case(tmp_path):
    """The third picture is wrong by 3 pixels, and only at the mouth."""
    dataset = faces(3)
    truth = collate([dataset[index] for index in range(3)])
    wrong = truth.landmarks.clone()
    wrong[2, 48:, 1] += 3
    predictions = gather(lambda images: wrong, dataset, tmp_path)
    measured = measure_errors(predictions, OCULAR)
    subsets = {"right": [0, 1], "wrong": [2], "all": range(3)}
    found = summarize(measured, subsets, OCULAR, FACE_68)
    size = (truth.landmarks[2, 36] - truth.landmarks[2, 45]).norm().item()
    assert found["right"].conditions["clean"].nme == 0
    assert found["right"].conditions["clean"].auc == 1
    assert found["wrong"].conditions["clean"].nme == pytest.approx(20 / 68 * 3 / size, rel=1e-5)
    assert found["all"].conditions["clean"].nme == pytest.approx(20 / 68 * 1 / size, rel=1e-5)
    details = found["wrong"].details["clean"]
    assert details.regions["mouth"] == pytest.approx(3 / size, rel=1e-5)
    assert details.regions["jaw"] == 0
    assert details.landmarks[47] == 0
    assert details.landmarks[48] == pytest.approx(3 / size, rel=1e-5)
    expected = nme(wrong, truth.landmarks, normalizer="inter_ocular", visible=truth.visible)
    torch.testing.assert_close(measured.pictures("clean"), expected.double())

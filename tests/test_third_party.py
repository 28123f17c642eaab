"""The examples for detectors of others, and what is said of a detector that does not fit."""

from dataclasses import dataclass

import pytest
import torch
from real_detectors import DETECTORS, EXAMPLES, batch, example
from torch import nn
from toys import differences, snapshot, tiny_adversary

from advaug import CoordinateTask, HeatmapTask, ShapeError

NAMES = ["vitpose", "smp_unet", "simcc"]


def source(name):
    return (EXAMPLES / "third_party" / f"{name}.py").read_text()


# --- the examples ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_and_marks_the_three_lines_that_add_saat(name):
    head, *lines = source(name).splitlines()
    assert "three lines, marked `# new`" in head
    assert len(lines) + 1 < 80
    assert len([line for line in lines if line.endswith("# new")]) == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("with_saat", [True, False], ids=["as-it-is", "without-the-three-lines"])
def test_an_example_trains_and_measures(name, with_saat, monkeypatch, capsys):
    """On a few pictures; without the three lines it is a plain loop that runs as well."""
    example(name)  # or skip
    lines = source(name).splitlines()
    kept = [line for line in lines if with_saat or not line.endswith("# new")]
    names = {"__name__": "example"}
    exec(compile("\n".join(kept), name, "exec"), names)
    faces = names["SyntheticFaces"]
    names["SyntheticFaces"] = lambda count, **options: faces(min(count, 16), **options)
    names["main"](2)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == ["clean", "masked", "occluded"]
    assert all("NME" in line and "nan" not in line for line in printed)
    assert ("SampleAdaptiveAdversary" in names) == with_saat


# --- detectors that do not fit ---------------------------------------------------------------


class Wrapped(nn.Module):
    """Gives something else than its detector does."""

    def __init__(self, detector, change):
        super().__init__()
        self.detector = detector
        self.change = change

    def forward(self, images):
        return self.change(self.detector(images))


@dataclass
class Output:
    landmarks: torch.Tensor


@torch.no_grad()
def without_graph(output):
    return output.clone()


KINDS = {
    "heatmaps": ("timm-resnet", 4, r"\(B, N, h, w\)", r"HeatmapTask\(output=lambda o: \.\.\.\)"),
    "coordinates": (
        "timm-coordinates",
        None,
        r"\(B, N, 2\)",
        r"CoordinateTask\(output=lambda o: \.\.\.\)",
    ),
}
SHAPE = "must have the target's shape {axes} = .*, but got {got}.*{adapter}"
KIND = "must be a tensor {axes} or a list of them, but got {got}.*{adapter}"
MISFITS = {
    "rank": (lambda o: o.flatten(1), ShapeError, SHAPE, r"\(3, \d+\)"),
    "count": (lambda o: o[:, :2], ShapeError, SHAPE, r"\(3, 2, "),
    "dict": (lambda o: {"out": o}, TypeError, KIND, r"a dict with the keys \['out'\]"),
    "dataclass": (Output, TypeError, KIND, "a Output"),
    "none": (lambda o: None, TypeError, KIND, "a NoneType"),
    "list-of-dicts": (lambda o: [{"out": o}], TypeError, KIND, "a list of 1: a dict with the keys"),
    "no-graph": (without_graph, ValueError, "must carry a graph to its input.*no_grad", ""),
    "nan": (lambda o: o * torch.nan, ValueError, "the detector's output must be finite", ""),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("misfit", MISFITS)
def test_a_detector_that_does_not_fit_is_told_how(kind, misfit):
    name, stride, axes, adapter = KINDS[kind]
    change, error, message, got = MISFITS[misfit]
    detector, task, _ = DETECTORS[name]()
    images, target = batch(stride)
    adversary = tiny_adversary(task)
    wrapped = Wrapped(detector, change)
    before = snapshot([adversary.state_dict(), wrapped.state_dict(), torch.get_rng_state()])
    with pytest.raises(error, match=message.format(axes=axes, adapter=adapter, got=got)):
        adversary(wrapped, images, target)
    after = [adversary.state_dict(), wrapped.state_dict(), torch.get_rng_state()]
    assert differences(before, after) == []
    assert adversary.report is None


def test_the_adapter_that_the_message_asks_for_is_what_it_takes():
    detector, *_ = DETECTORS["timm-coordinates"]()
    adversary = tiny_adversary(CoordinateTask(output=lambda o: o.landmarks))
    loss = adversary(Wrapped(detector, Output), *batch())
    assert loss.isfinite()


def test_a_model_of_transformers_without_an_adapter_is_told_what_it_gives():
    """Its output is a dataclass and a dict at once."""
    detector, _, stride = DETECTORS["vitpose"]()
    with pytest.raises(TypeError, match=r"keys \['heatmaps'\].*HeatmapTask\(output=lambda o"):
        tiny_adversary(HeatmapTask())(detector, *batch(stride))


def test_a_pair_of_axes_is_told_from_coordinates():
    detector, *_ = DETECTORS["simcc"]()
    message = r"shape \(B, N, 2\) = \(3, 3, 2\), but got \(3, 3, 128\).*CoordinateTask\(output="
    with pytest.raises(ShapeError, match=message):
        tiny_adversary(CoordinateTask())(detector, *batch())


def test_heatmaps_of_another_stride_name_both_sizes():
    detector, task, _ = DETECTORS["timm-resnet"]()
    with pytest.raises(ShapeError, match=r"= \(3, 3, 32, 32\), but got \(3, 3, 16, 16\)"):
        tiny_adversary(task)(detector, *batch(2))

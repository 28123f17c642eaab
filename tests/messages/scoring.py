"""Messages about detectors that are loaded, and about results, followed in one folder each."""

import numpy as np
import pytest
import torch
from measured import hourglass
from messages.kit import HEATMAPS, IMAGES, NET, Case, InFolder
from messages.people import coco, person
from toys import Calls, tiny_adversary

from advaug import HeatmapTask, PixelSpec
from advaug.baselines import PGDAdversary
from advaug.datasets import SyntheticFaces
from advaug.detectors import MDM, HourglassNet
from advaug.evaluation import CONDITIONS, Plan, Protocol, load_onnx
from advaug.evaluation.batches import Batches
from advaug.evaluation.loaded import LoadedDetector, decode_output, load_function
from advaug.evaluation.looking import collect
from advaug.evaluation.planning import check_complete, check_plan, choose_conditions
from advaug.evaluation.pose import oks_average_precision
from advaug.evaluation.sets import EvaluationSet, require_landmarks
from advaug.integrations.shared import save_with

# --- results ------------------------------------------------------------------------------------


def precision(root, *, results=None, sigmas=(0.05,) * 3, other=False):
    """OKS-AP of predictions that are the annotations."""
    pytest.importorskip("pycocotools")
    people = coco(root, person())
    if results is None:
        results = people.results(people[0].landmarks[None])
    if other:
        results = [each | {"image_id": 77} for each in results]
    found = oks_average_precision(people.annotations, results, sigmas=sigmas)
    assert found["AP"] == pytest.approx(1.0)


# --- ONNX ---------------------------------------------------------------------------------------


def onnx_file(root, shape):
    """The smallest model: pictures to the landmarks of an empty one."""
    pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx").helper
    from onnx import TensorProto, numpy_helper

    value = numpy_helper.from_array(np.zeros((1, 5, 2), np.float32), "value")
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["landmarks"], value=value)],
        "points",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("landmarks", TensorProto.FLOAT, [1, 5, 2])],
    )
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    (root / "net.onnx").write_bytes(model.SerializeToString())
    return load_onnx(root / "net.onnx", "cpu")


def no_onnx(root):
    pytest.importorskip("onnxruntime")
    (root / "net.onnx").write_text("<html>")
    return load_onnx(root / "net.onnx", "cpu")


def exported(root):
    assert onnx_file(root, [1, 3, 32, 32]).image_size == 32


# --- files of weights ---------------------------------------------------------------------------


def loaded(root, *, network=None, text=None):
    path = root / "net.safetensors"
    if text is not None:
        path.write_text(text)
    if network is not None:
        network.save(path)
    return HourglassNet.load(path)


def others(root):
    """Tensors of another program."""
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, root / "net.safetensors")
    return loaded(root)


def tensors(root):
    from safetensors.torch import load_file

    assert load_file(root / "net.safetensors")


def pickled(root):
    """A whole backbone as PyTorch pickles it."""
    import timm

    torch.save(timm.create_model("test_resnet"), root / "net.pth")
    return timm_net(root / "net.pth")


def timm_net(pretrained):
    from advaug.detectors import TimmHeatmapNet

    return TimmHeatmapNet("test_resnet", 5, width=8, pretrained=pretrained)


def state_saved(root):
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("test_resnet").state_dict(), root / "net.safetensors")
    assert timm_net(root / "net.safetensors").out_stride == 4


def out_of_reach(_):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "nowhere")
        timm_net(True)


def vit(side, image_size=64):
    from advaug.detectors import TimmHeatmapNet

    net = TimmHeatmapNet("test_vit", 5, width=8, image_size=image_size)
    with torch.no_grad():
        assert net(torch.rand(1, 3, side, side)).shape == (1, 5, side // 4, side // 4)


# --- detectors of one's own ---------------------------------------------------------------------


def only_a_module():
    return NET()


def with_a_reading():
    return NET(), "heatmaps"


def stand_in(module, reading="heatmaps"):
    return LoadedDetector("a stand-in", module, decode_output(reading), PixelSpec(), "")


def rehearsed(side):
    assert stand_in(hourglass()).rehearse(side) == 68


def rehearsed_as(reading, output):
    net = Calls(lambda images: output).eval()
    assert stand_in(net, reading).rehearse(32) == output.shape[1]


def diverged(scale):
    """Weights that are no numbers any more, or are."""
    net = hourglass()
    with torch.no_grad():
        net.heads[0][-1].weight.mul_(scale)
    stand_in(net).rehearse(32)


def looked(root, find):
    batches = Batches(2, lambda line: None)
    clean = {"clean": CONDITIONS["clean"]}
    faces = SyntheticFaces(2, image_size=32)
    collect(find, faces, clean, root, device="cpu", batches=batches, workers=0)


def points(count, value=5.0):
    return lambda images: torch.full((len(images), count, 2), value)


def plan(threshold, root):
    check_plan(Plan(Protocol("box", threshold), image_size=32), stand_in(hourglass()), root / "out")


PROFILES = EvaluationSet("merl-rav", [], {}, [], None, complete=False)


def of_profiles(*conditions, **options):
    chosen = choose_conditions(Plan(Protocol("box"), conditions=conditions, **options), 68)
    check_complete(PROFILES, chosen)


def cut_off(output):
    """A detector whose output is detached, or is not."""
    net = NET()
    inside = net.head.forward
    net.head.forward = lambda images: output(inside(images))
    PGDAdversary(HeatmapTask())(net, IMAGES, HEATMAPS).backward()


def kept_with(optimizer):
    save_with(optimizer, tiny_adversary())
    assert "advaug" in optimizer.state_dict()


class Wrapper:
    """What some trainers put around an optimizer."""

    def __init__(self):
        self.optimizer = torch.optim.SGD(NET().parameters(), 0.1)


IN_FOLDERS = {
    "no results": InFolder(
        lambda root: precision(root, results=[]),
        "Pass those of `CocoKeypoints.results`",
        precision,
        ValueError,
    ),
    "sigmas": InFolder(
        lambda root: precision(root, sigmas=(0.05,)),
        "each of the 3 keypoints .* but got 1. Pass those of this scheme",
        precision,
        ValueError,
    ),
    "another file's results": InFolder(
        lambda root: precision(root, other=True),
        "Evaluate against the file that the data set was made from",
        precision,
        ValueError,
    ),
    "onnx, square": InFolder(
        lambda root: onnx_file(root, [1, 3, 32, 48]),
        "Export it with a square input",
        exported,
        ValueError,
    ),
    "onnx, pictures": InFolder(
        lambda root: onnx_file(root, [1, 99]), "Export a detector of pictures", exported, ValueError
    ),
    "onnx, none": InFolder(no_onnx, "Export it again", exported, ValueError),
    "weights, text": InFolder(
        lambda root: loaded(root, text="<html>"),
        r"no safetensors file in .*\. Save the network again\.$",
        lambda root: loaded(root, network=hourglass()),
        ValueError,
    ),
    "weights, another class": InFolder(
        lambda root: loaded(root, network=MDM(torch.rand(5, 2), hidden=8)),
        "Save the network again",
        lambda root: loaded(root, network=hourglass()),
        ValueError,
    ),
    "weights, tensors": InFolder(
        others, "or read it with `safetensors.torch.load_file`", tensors, ValueError
    ),
    "timm, pickled": InFolder(
        pickled, r"Save its `state_dict\(\)` with safetensors", state_saved, ValueError
    ),
    "timm, a file": InFolder(
        out_of_reach, "or give the path of a file of weights", state_saved, OSError
    ),
    "timm, random": InFolder(
        out_of_reach,
        "or start from random weights, `pretrained=False`",
        lambda root: timm_net(False),
        OSError,
    ),
    "another number": InFolder(
        lambda root: looked(root, points(29)),
        "Choose a set that is annotated as it was trained",
        lambda root: looked(root, points(68)),
        ValueError,
    ),
    "diverged": InFolder(
        lambda root: looked(root, points(68, torch.nan)),
        "Check that its training has not diverged",
        lambda root: looked(root, points(68)),
        ValueError,
    ),
    "threshold of a plan": InFolder(
        lambda root: plan(0.0, root), "Pass 0.1 for 10 %", lambda root: plan(0.1, root), ValueError
    ),
}

CASES = {
    "timm, resize": Case(lambda: vit(96), "Resize them", lambda: vit(64)),
    "timm, build": Case(
        lambda: vit(96), "or build it with `image_size=`", lambda: vit(96, image_size=96)
    ),
    "made parts": Case(
        lambda: load_function(f"{__name__}:only_a_module", "cpu"),
        'Return, for example, `module, "heatmaps"`',
        lambda: load_function(f"{__name__}:with_a_reading", "cpu"),
    ),
    "rehearsal, size": Case(
        lambda: rehearsed(36),
        "Check the image size that it was trained at",
        lambda: rehearsed(32),
    ),
    "rehearsal, reading": Case(
        lambda: rehearsed_as("heatmaps", torch.zeros(1, 5, 2)),
        "and how its output is read",
        lambda: rehearsed_as("coordinates", torch.zeros(1, 5, 2)),
    ),
    "rehearsal, NaN": Case(lambda: diverged(torch.nan), "Check its weights", lambda: diverged(1.0)),
    "another set": Case(
        lambda: require_landmarks("wflw", 98, 68, "a detector"),
        "Choose a set that is annotated as it was trained",
        lambda: require_landmarks("300w", 68, 68, "a detector"),
    ),
    "profiles, condition": Case(
        lambda: of_profiles("masked"),
        "masked must have all .*Leave it out",
        lambda: of_profiles("clean"),
    ),
    "profiles, kinds": Case(
        lambda: of_profiles("landmark-c"),
        "or name other `--kinds`",
        lambda: of_profiles("landmark-c", kinds=("fog", "hand")),
    ),
    "cut off": Case(
        lambda: cut_off(torch.Tensor.detach), "Do not detach", lambda: cut_off(torch.Tensor.relu)
    ),
    "optimizer": Case(
        lambda: kept_with(Wrapper()),
        "Pass the optimizer that the trainer's wrapper holds",
        lambda: kept_with(Wrapper().optimizer),
        TypeError,
    ),
}

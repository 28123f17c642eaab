"""Detectors on backbones of timm: shapes, gradients, pixels, weights, files, errors, learning."""

import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

from advaug import PixelSpec, ShapeError, encode_heatmaps
from advaug.detectors import TimmCoordinateNet, TimmHeatmapNet
from advaug.heatmaps import resize_landmarks

SIDE = 64
BACKBONES = {
    "resnet10t": {},
    "mobilenetv3_small_050": {},
    "convnext_atto": {},
    "hrnet_w18_small": {},
    "vit_tiny_patch16_224": {"image_size": SIDE},
    "test_mambaout": {},  # channels come last in its features
}
KINDS = [TimmHeatmapNet, TimmCoordinateNet]
TINY = "test_resnet"


def small(kind=TimmHeatmapNet, backbone=TINY, **options):
    torch.manual_seed(0)
    return kind(backbone, 4, **({"width": 16} | options))


def pictures(count=2, height=SIDE, width=SIDE):
    return torch.rand(count, 3, height, width)


# --- shapes, gradients, pixels ---------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("backbone", "options"), BACKBONES.items(), ids=BACKBONES)
def test_any_backbone_gives_landmarks_and_a_gradient_to_pictures_and_weights(
    kind, backbone, options
):
    network = small(kind, backbone, **options)
    images = pictures().requires_grad_()
    output = network(images)
    shape = (2, 4, 16, 16) if kind is TimmHeatmapNet else (2, 4, 2)
    assert output.shape == shape
    output.square().sum().backward()
    assert images.grad.abs().sum() > 0
    without = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert without == []
    assert all(weight.grad.isfinite().all() for weight in network.parameters())


@pytest.mark.parametrize("out_stride", [1, 2, 4, 8, 32])
def test_heatmaps_have_the_stride_that_was_asked_for(out_stride):
    heatmaps = small(out_stride=out_stride)(pictures(1, SIDE, 2 * SIDE))
    assert heatmaps.shape == (1, 4, SIDE // out_stride, 2 * SIDE // out_stride)


def test_features_finer_than_the_heatmaps_are_left_out():
    assert len(small(out_stride=1).head.projections) == 5
    assert len(small(out_stride=4).head.projections) == 4
    assert len(small(out_stride=32).head.projections) == 1


@pytest.mark.parametrize("backbone", ["resnet10t", "vit_tiny_patch16_224"])
def test_mean_and_std_of_the_backbone_are_the_detectors_pixel_spec(backbone):
    config = timm.get_pretrained_cfg(backbone)
    assert small(backbone=backbone).pixels == PixelSpec(tuple(config.mean), tuple(config.std))


def test_heatmaps_start_almost_blank():
    assert small()(pictures()).abs().max() < 0.1


class Fixed(nn.Module):
    """Maps that are given, in place of a head."""

    def __init__(self, maps):
        super().__init__()
        self.maps = maps

    def forward(self, features, size):
        return self.maps


@pytest.mark.parametrize("out_stride", [1, 4])
def test_coordinates_are_those_of_the_peak_in_pixels_of_the_picture(out_stride):
    height, width = 64, 96
    landmarks = torch.tensor([[[20.0, 30.0], [70.5, 12.25], [40.0, 40.0], [48.0, 50.0]]])
    size = (height // out_stride, width // out_stride)
    peaks = encode_heatmaps(landmarks, size, image_size=(height, width), sigma=1.0)
    network = small(TimmCoordinateNet, out_stride=out_stride)
    network.head = Fixed(peaks.clamp(min=1e-12).log())  # of which the softmax is the Gaussian
    found = network(pictures(1, height, width))
    torch.testing.assert_close(found, landmarks, atol=0.02, rtol=0)


def test_maps_without_a_peak_give_the_middle_of_the_picture():
    network = small(TimmCoordinateNet)
    network.head = Fixed(torch.zeros(1, 4, 16, 24))
    middle = resize_landmarks(torch.zeros(1, 4, 2), (1, 1), (64, 96))
    torch.testing.assert_close(network(pictures(1, 64, 96)), middle)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_coordinates_keep_float32_under_autocast(dtype):
    with torch.autocast("cpu", dtype):
        found = small(TimmCoordinateNet)(pictures())
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_compiles_to_the_same_result():
    network, images = small(TimmCoordinateNet, "test_convnext"), pictures()
    torch._dynamo.reset()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), network(images))


@pytest.mark.parametrize("backbone", ["test_convnext", "test_vit"])
def test_a_backbone_that_mixes_no_samples_makes_a_detector_that_mixes_none(backbone):
    network, images = small(backbone=backbone, **fitting(backbone)), pictures(3)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), atol=1e-6, rtol=1e-4)


def fitting(backbone):
    return {"image_size": SIDE} if "vit" in backbone else {}


@pytest.mark.parametrize("kind", KINDS)
def test_learns_where_a_blob_is(kind):
    landmarks = 12 + 40 * torch.rand(4, 4, 2)
    images = encode_heatmaps(landmarks, (SIDE, SIDE), sigma=4.0)[:, :3]
    network = small(kind, "test_convnext")
    target = landmarks / SIDE
    if kind is TimmHeatmapNet:
        target = encode_heatmaps(landmarks, (16, 16), image_size=(SIDE, SIDE))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(30):
        output = network(images)
        output = output if kind is TimmHeatmapNet else output / SIDE
        loss = (output - target)[:, :3].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0], losses[::5]


# --- weights and files -----------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch):
    """No network, whether there is one or not, and nothing in the cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "nowhere")


@pytest.mark.usefixtures("offline")
def test_pretrained_weights_out_of_reach_are_an_error_with_the_ways_out():
    with pytest.raises(OSError, match="`pretrained` must find the weights of resnet10t") as caught:
        small(backbone="resnet10t", pretrained=True)
    for way in ("Connect", "HF_HOME", "pretrained=path", "pretrained=False"):
        assert way in str(caught.value)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_pretrained_weights_come_from_a_file_of_timms(backbone, tmp_path):
    source = timm.create_model(backbone)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    network = small(backbone=backbone, pretrained=tmp_path / "weights.pth", **fitting(backbone))
    found = {name.removeprefix("model."): w for name, w in network.backbone.state_dict().items()}
    same = [name for name, w in source.state_dict().items() if torch.equal(w, found.get(name, -w))]
    moved = [name for name in found if name not in same]
    assert [name for name in moved if "pos_embed" not in name] == []  # resampled to this size
    assert len(same) > 10


def test_a_file_of_weights_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"`pretrained` must be .* but got 'nowhere.pth'"):
        small(pretrained="nowhere.pth")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_mambaout"])
def test_a_file_brings_back_every_bit(kind, backbone, tmp_path):
    network = small(kind, backbone, out_stride=8, **fitting(backbone))
    network(pictures())  # moves the running statistics
    network.save(tmp_path / "net.safetensors")
    before = torch.get_rng_state()
    loaded = kind.load(tmp_path / "net.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    assert (loaded.arguments, loaded.pixels) == (network.arguments, network.pixels)
    images = pictures()
    assert torch.equal(loaded.eval()(images), network.eval()(images))


def test_loading_computes_the_buffers_that_no_file_holds(tmp_path):
    network = small(backbone="swin_tiny_patch4_window7_224", image_size=56)
    assert {name for name, _ in network.named_buffers()} - set(network.state_dict())
    network.save(tmp_path / "net.safetensors")
    loaded = TimmHeatmapNet.load(tmp_path / "net.safetensors")
    images = pictures(1, 56, 56)
    assert torch.equal(loaded.eval()(images), network.eval()(images))


# --- imports ---------------------------------------------------------------------------------


def test_the_other_detectors_need_no_timm():
    probe = "import sys, advaug.detectors as d; d.HourglassNet; assert 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", probe], check=True)


def test_a_name_that_is_not_there_is_an_attribute_error():
    import advaug.detectors

    with pytest.raises(AttributeError, match="no attribute 'TimmNet'"):
        _ = advaug.detectors.TimmNet


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnt18"}, r"`backbone` must be a name of timm .*'resnt18'.*resnet18"),
        ({"backbone": "resnet18.a1_in2k"}, r"'resnet18.a1_in2k'\. Did you mean resnet18.a1_in1k"),
        ({"backbone": "?"}, r"but got '\?'. See `timm.list_models\(\)`"),
        ({"num_landmarks": 0}, "`num_landmarks` must be at least 1"),
        ({"width": 12}, r"`width` must be divisible by 8, but got 12. Choose 16\."),
        ({"out_stride": 0}, "`out_stride` must be at least 1"),
        ({"out_stride": 64}, "`out_stride` must be at most 32, the coarsest stride of test_resnet"),
        ({"image_size": 64}, "`image_size` must be left out for test_resnet, .* any size"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TimmHeatmapNet(**({"backbone": TINY, "num_landmarks": 4} | options))


def test_pictures_of_a_wrong_shape_are_named():
    with pytest.raises(ShapeError, match=r"divisible by 32, but got \(60, 64\).*\(64, 64\)"):
        small()(pictures(1, 60, 64))
    with pytest.raises(ShapeError, match=r"must have shape \(B, 3, H, W\)"):
        small()(torch.rand(3, 64, 64))
    vit = small(backbone="test_vit", image_size=64)
    with pytest.raises(ShapeError, match=r"64 pixels high and wide.*\(96, 96\).*image_size="):
        vit(pictures(1, 96, 96))

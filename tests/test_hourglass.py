"""The hourglass detectors: counts, shapes, gradients, files, errors, and that they learn."""

import json

import pytest
import torch
from safetensors.torch import save_file

from advaug.detectors import HourglassNet
from advaug.errors import ShapeError
from advaug.heatmaps import encode_heatmaps

COUNTS = {
    (68, 1): 3_784_252,
    (98, 1): 3_996_982,
    (29, 1): 3_556_141,
    (17, 1): 3_496_969,
    (16, 1): 3_492_272,
    (68, 2): 7_299_384,
    (98, 2): 7_732_524,
    (29, 2): 6_833_178,
    (17, 2): 6_711_762,
    (16, 2): 6_702_112,
}


def small(num_landmarks=4, stacks=1, **options):
    torch.manual_seed(0)
    return HourglassNet(num_landmarks, stacks, **({"width": 16, "depth": 2} | options))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("num_landmarks", "stacks"), COUNTS)
def test_number_of_parameters_is_that_of_the_paper(num_landmarks, stacks):
    with torch.device("meta"):
        network = HourglassNet(num_landmarks, stacks)
    assert count(network) == COUNTS[num_landmarks, stacks]


def test_post_block_costs_what_newell_put_behind_each_hourglass():
    with torch.device("meta"):
        assert count(HourglassNet(68)) - count(HourglassNet(68, post=False)) == 280_576


@pytest.mark.parametrize("out_stride", [1, 2, 4])
@pytest.mark.parametrize("stacks", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("post", [True, False])
def test_shapes(out_stride, stacks, depth, post):
    network = small(stacks=stacks, depth=depth, out_stride=out_stride, post=post)
    output = network(torch.rand(2, 3, 32, 64))
    stages = output if stacks > 1 else [output]
    assert len(stages) == stacks
    for stage in stages:
        assert stage.shape == (2, 4, 32 // out_stride, 64 // out_stride)


def test_output_at_stride_4_has_no_transposed_convolutions():
    kinds = [type(module) for module in small(out_stride=4).modules()]
    assert torch.nn.ConvTranspose2d not in kinds


@pytest.mark.parametrize("stacks", [1, 2])
@pytest.mark.parametrize("out_stride", [1, 4])
def test_gradient_reaches_the_images_and_every_parameter(stacks, out_stride):
    network = small(stacks=stacks, out_stride=out_stride)
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    output = network(images)
    sum(stage.square().sum() for stage in (output if stacks > 1 else [output])).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("training", [True, False])
def test_compiles_to_the_same_result(training):
    network = small(stacks=2, out_stride=4).train(training)
    images = torch.rand(2, 3, 32, 32)
    expected = network(images)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)(images)
    torch.testing.assert_close(compiled, expected)


@pytest.mark.parametrize("training", [True, False])
def test_channels_last_gives_the_same_result(training):
    network, images = small().train(training), torch.rand(2, 3, 32, 32)
    expected = network(images)
    network.to(memory_format=torch.channels_last)
    found = network(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_runs_in_bfloat16_autocast(training):
    network = small(stacks=2).train(training)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        stages = network(torch.rand(2, 3, 32, 32))
    sum(stage.float().square().sum() for stage in stages).backward()
    assert all(stage.isfinite().all() for stage in stages)


def test_starts_from_almost_blank_maps():
    assert small().train()(torch.rand(2, 3, 32, 32)).abs().max() < 0.05


def test_learns_four_blobs():
    torch.manual_seed(0)
    landmarks = 8 + 48 * torch.rand(4, 1, 2)
    target = encode_heatmaps(landmarks, (64, 64), sigma=3.0)
    images = target.expand(-1, 3, -1, -1) * torch.rand(4, 3, 1, 1)
    network = HourglassNet(1, width=32, depth=3)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = (network(images) - target).square().sum((2, 3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_file_brings_back_every_bit(tmp_path, memory_format):
    network = small(stacks=2, out_stride=2, post=False).to(memory_format=memory_format)
    images = torch.rand(2, 3, 32, 32)
    network(images)  # moves the running statistics
    network.save(tmp_path / "hg.safetensors")
    loaded = HourglassNet.load(tmp_path / "hg.safetensors")
    assert loaded.arguments == network.arguments
    assert loaded.training
    expected, found = network.state_dict(), loaded.state_dict()
    assert list(expected) == list(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    network.eval().to(memory_format=torch.contiguous_format)
    for one, other in zip(network(images), loaded.eval()(images), strict=True):
        assert torch.equal(one, other)
    assert [path.name for path in tmp_path.iterdir()] == ["hg.safetensors"]


def test_loading_leaves_the_global_random_state_alone(tmp_path):
    small().save(tmp_path / "hg.safetensors")
    before = torch.get_rng_state()
    HourglassNet.load(tmp_path / "hg.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_failed_save_keeps_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "hg.safetensors"
    small().save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError

    monkeypatch.setattr("advaug.detectors._weights.os.replace", fail)
    with pytest.raises(OSError):  # noqa: PT011 # the one that `fail` raises
        small(num_landmarks=5).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_load_refuses_files_of_others(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError):
        HourglassNet.load(path)
    path.write_bytes(b"no such thing")
    with pytest.raises(ValueError, match="must be a file written by `HourglassNet"):
        HourglassNet.load(path)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="format None"):
        HourglassNet.load(path)
    for arguments in ({"num_landmarks": 4}, {"num_landmarks": 0}, {"unknown": 1}):
        metadata = {"format": "advaug.HourglassNet/1", "arguments": json.dumps(arguments)}
        save_file({"weight": torch.zeros(1)}, path, metadata)
        with pytest.raises(ValueError, match="do not fit their architecture"):
            HourglassNet.load(path)


def test_refuses_pictures_of_a_wrong_shape():
    network = HourglassNet(1, width=8)
    with pytest.raises(ShapeError) as caught:
        network(torch.rand(1, 3, 250, 256))
    assert str(caught.value) == (
        "`images` must have a height and width divisible by 64, but got (250, 256). "
        "Pad or resize to (256, 256)."
    )
    for shape in ((3, 64, 64), (1, 1, 64, 64)):
        with pytest.raises(ShapeError, match=r"must have shape \(B, 3, H, W\)"):
            network(torch.rand(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_landmarks": 0}, "`num_landmarks` must be at least 1, but got 0"),
        ({"stacks": 0}, "`stacks` must be at least 1"),
        ({"depth": 0}, "`depth` must be at least 1"),
        ({"width": 30}, r"`width` must be divisible by 8, but got 30. Choose 32\."),
        ({"out_stride": 3}, "`out_stride` must be 1, 2 or 4, but got 3"),
    ],
)
def test_refuses_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)

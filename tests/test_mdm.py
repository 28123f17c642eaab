"""The Mnemonic Descent Method: counts, patches, placing, gradients, files, errors, learning."""

import itertools

import pytest
import torch
from toys import MARKS, SIDE, differences, pictures, snapshot, tiny_adversary

from advaug import CoordinateTask
from advaug.detectors import MDM, HourglassNet
from advaug.detectors._patches import sample_patches
from advaug.errors import ShapeError

COUNTS = {
    (68, 30): 80_558_632,
    (98, 30): 115_978_852,
    (29, 30): 34_512_346,
    (68, 26): 56_048_168,
}
SHAPE = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 3.0]])  # its box has a diagonal of 5


def small(**options):
    torch.manual_seed(0)
    return MDM(SHAPE, **({"hidden": 8, "patch_size": 12, "reduce": 4, "jitter": False} | options))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("num_landmarks", "patch_size"), COUNTS)
def test_number_of_parameters_is_that_of_the_original(num_landmarks, patch_size):
    shape = torch.rand(num_landmarks, 2)
    with torch.device("meta"):
        network = MDM(shape, patch_size=patch_size)
    assert count(network) == COUNTS[num_landmarks, patch_size]


def slow_patches(images, landmarks, patch_size):
    """One bilinear sample after the other, in float64."""
    height, width = images.shape[-2:]
    patches = torch.zeros(*landmarks.shape[:2], 3, patch_size, patch_size, dtype=torch.float64)
    for b, n, i, j in itertools.product(
        range(landmarks.shape[0]), range(landmarks.shape[1]), *[range(patch_size)] * 2
    ):
        x = float(landmarks[b, n, 0]) + j - (patch_size - 1) / 2
        y = float(landmarks[b, n, 1]) + i - (patch_size - 1) / 2
        x, y = min(max(x, 0.0), width - 1), min(max(y, 0.0), height - 1)
        left, top = min(int(x), width - 2), min(int(y), height - 2)
        right, down = x - left, y - top
        corner = images[b, :, top : top + 2, left : left + 2].double()
        patches[b, n][:, i, j] = (
            corner[:, 0, 0] * (1 - right) * (1 - down)
            + corner[:, 0, 1] * right * (1 - down)
            + corner[:, 1, 0] * (1 - right) * down
            + corner[:, 1, 1] * right * down
        )
    return patches.flatten(0, 1)


@pytest.mark.parametrize("patch_size", [4, 5])
def test_patches_are_those_of_a_slow_loop(patch_size):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 9, 13, generator=generator)
    landmarks = torch.rand(2, 6, 2, generator=generator) * 20 - 4  # some outside the picture
    found = sample_patches(images, landmarks, patch_size)
    torch.testing.assert_close(
        found.double(), slow_patches(images, landmarks, patch_size), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(("patch_size", "shift"), [(5, 0.0), (4, 0.5)])
def test_patches_on_the_grid_hold_the_pixels_themselves(patch_size, shift):
    images = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    landmarks = torch.tensor([[[10.0, 7.0], [2.0, 2.0]]]) + shift
    found = sample_patches(images, landmarks, patch_size)
    first, second = images[0, :, 5:10, 8:13], images[0, :, 0:5, 0:5]
    if patch_size == 4:
        first, second = first[:, 1:, 1:], second[:, 1:, 1:]
    torch.testing.assert_close(found, torch.stack([first, second]), atol=1e-5, rtol=0)


def test_gradient_of_patches_is_exact_for_picture_and_places():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 2, 6, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    landmarks = torch.tensor([[[2.3, 2.6], [4.2, 3.4]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: sample_patches(*a, 3), (images, landmarks))


def toy_sized(landmarks, **options):
    torch.manual_seed(0)
    whole = (-0.5, -0.5, SIDE - 0.5, SIDE - 0.5)
    options = {"hidden": 8, "patch_size": 10, "reduce": 16} | options
    return MDM(landmarks.mean(dim=0), mean_box=whole, **options)


def still(**options):
    """A network whose steps lead nowhere, so that its output is where it starts."""
    network = small(**options)
    torch.nn.init.zeros_(network.offsets.weight)
    return network


def test_starts_from_the_mean_shape_with_the_centre_and_the_diagonal_of_the_box():
    boxes = torch.tensor([[10.0, 20.0, 16.0, 28.0], [0.0, 0.0, 3.0, 4.0]])
    steps = still(steps=3)(torch.rand(2, 3, 32, 32), boxes)
    assert len(steps) == 3
    expected = torch.stack(
        [SHAPE * 2 + torch.tensor([9.0, 21.0]), SHAPE + torch.tensor([-0.5, 0.5])]
    )
    for step in steps:
        torch.testing.assert_close(step, expected)


def test_without_boxes_the_whole_picture_is_the_face():
    (step,) = still(steps=1)(torch.rand(1, 3, 32, 48))
    scale = (32**2 + 48**2) ** 0.5 / 5
    torch.testing.assert_close(
        step[0], (SHAPE - torch.tensor([2.0, 1.5])) * scale + torch.tensor([23.5, 15.5])
    )


@pytest.mark.parametrize("side", [32, 64])
def test_a_mean_shape_of_pictures_starts_where_it_is_in_them(side):
    shape = torch.tensor([[3.0, 20.0], [8.0, 9.0], [30.0, 1.0]])
    (step,) = still_at(shape, steps=1)(torch.rand(1, 3, side, side))
    torch.testing.assert_close(step[0], (shape + 0.5) * side / 32 - 0.5)


def still_at(shape, **options):
    network = MDM(
        shape, mean_box=(-0.5, -0.5, 31.5, 31.5), hidden=4, patch_size=10, jitter=False, **options
    )
    torch.nn.init.zeros_(network.offsets.weight)
    return network


def lively(**options):
    """A network whose steps are several pixels long, and differ from picture to picture."""
    network = small(**options)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def test_a_moved_picture_and_box_move_the_prediction_as_far():
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[30.0, 30.0, 60.0, 60.0], [35.0, 32.0, 55.0, 70.0]])
    network = lively()
    here = network(images, boxes)
    there = network(images.roll((4, 7), dims=(2, 3)), boxes + torch.tensor([7.0, 4.0, 7.0, 4.0]))
    start = still()(images, boxes)[0]
    assert (here[-1] - start).norm(dim=-1).max() > 2
    assert here[-1].min() > 16
    assert here[-1].max() < 80  # no patch meets an edge
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(other, one + torch.tensor([7.0, 4.0]), atol=1e-3, rtol=0)


def test_training_moves_the_boxes_as_a_face_detector_would():
    boxes = torch.tensor([[30.0, 30.0, 60.0, 70.0]]).expand(1500, 4)
    images = torch.zeros(1, 3, 12, 12).expand(1500, 3, 12, 12)
    torch.manual_seed(0)
    found = still(steps=1, jitter=True)(images, boxes)[0]
    box = torch.cat([found.amin(dim=1), found.amax(dim=1)], dim=1)
    centres, sizes = (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]).norm(dim=1)
    side = 50 / 2**0.5
    torch.testing.assert_close(centres.mean(dim=0), torch.tensor([45.0, 50.0]), atol=0.1, rtol=0)
    torch.testing.assert_close(
        centres.std(dim=0) / side, torch.tensor([0.03, 0.03]), atol=0, rtol=0.08
    )
    torch.testing.assert_close((sizes / 50).log().std(), torch.tensor(0.06), atol=0, rtol=0.08)


def test_boxes_stay_for_all_steps_of_a_call_and_follow_the_global_generator():
    images, network = torch.rand(2, 3, 32, 32), still(jitter=True)
    torch.manual_seed(1)
    first = network(images)
    assert all(torch.equal(step, first[0]) for step in first)
    assert not torch.equal(network(images)[0], first[0])
    torch.manual_seed(1)
    assert torch.equal(network(images)[0], first[0])
    unmoved = still(jitter=False)
    before = torch.get_rng_state()
    for quiet in (network.eval(), unmoved):
        quiet(images)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("coordinate_gradient", [False, True])
def test_gradient_reaches_the_picture_and_every_parameter(coordinate_gradient):
    network = lively(coordinate_gradient=coordinate_gradient)
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    sum(step.square().sum() for step in network(images)).backward()
    for name, tensor in [("images", images), *network.named_parameters()]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().sum() > 0, name


def test_gradient_is_that_of_the_whole_descent_only_where_it_is_asked_for():
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    images.requires_grad_(True)
    whole = lively(coordinate_gradient=True, steps=2).double()
    assert torch.autograd.gradcheck(lambda x: whole(x)[-1].sum(), images, fast_mode=True)
    cut = lively(steps=2).double()
    ours, theirs = (
        [torch.autograd.grad(step.sum(), images, retain_graph=True)[0] for step in network(images)]
        for network in (whole, cut)
    )
    torch.testing.assert_close(ours[0], theirs[0])  # where the first step looks has no gradient
    assert not torch.allclose(ours[1], theirs[1], rtol=1e-2)


def test_compiles_to_the_same_result():
    network, images = lively(jitter=True, steps=2), torch.rand(2, 3, 32, 32)
    torch.manual_seed(2)
    expected = network(images)
    torch.manual_seed(2)
    found = torch.compile(network, backend="aot_eager", fullgraph=True)(images)
    torch.testing.assert_close(found, expected)


def test_channels_last_gives_the_same_result():
    network, images = lively(), torch.rand(2, 3, 32, 32)
    expected = network(images)
    network.to(memory_format=torch.channels_last)
    found = network(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_coordinates_are_exact_in_half_precision():
    images, boxes = torch.rand(2, 3, 32, 32), torch.tensor([[200.3, 100.7, 210.1, 111.9]] * 2)
    network = still()
    expected = network(images, boxes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        steps = network(images, boxes)
    torch.testing.assert_close(steps, expected)
    sum(step.sum() for step in steps).backward()
    halved = network.bfloat16()(images.bfloat16(), boxes)
    assert all(step.dtype == torch.float32 for step in halved)
    torch.testing.assert_close(halved, expected, atol=0.1, rtol=0)  # the mean shape is rounded once


def test_learns_three_blobs():
    images, landmarks = pictures(count=16)
    network = toy_sized(landmarks, hidden=64, patch_size=16, reduce=None)
    task, optimizer = CoordinateTask(), torch.optim.Adam(network.parameters(), lr=3e-3)
    errors = []
    for _ in range(60):
        error = task.error(network(images)[-1], landmarks).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert sum(errors[-5:]) < 0.5 * sum(errors[:5])


def test_file_brings_back_every_bit(tmp_path):
    network, images = lively(coordinate_gradient=True, steps=2), torch.rand(2, 3, 32, 32)
    network.save(tmp_path / "mdm.safetensors")
    before = torch.get_rng_state()
    loaded = MDM.load(tmp_path / "mdm.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.arguments == network.arguments
    assert differences(snapshot(network.state_dict()), loaded.state_dict()) == []
    # The weights' place in memory decides how a product is rounded: here bits may differ.
    for one, other in zip(network(images), loaded(images), strict=True):
        torch.testing.assert_close(one, other)


def test_load_refuses_the_file_of_another_detector(tmp_path):
    HourglassNet(1, width=8, depth=1).save(tmp_path / "hg.safetensors")
    with pytest.raises(
        ValueError, match=r"written by `MDM\.save`, but got the format 'advaug\.Hour"
    ):
        MDM.load(tmp_path / "hg.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "`hidden` must be at least 1, but got 0"),
        ({"steps": 0}, "`steps` must be at least 1"),
        ({"reduce": 0}, "`reduce` must be at least 1"),
        ({"patch_size": 9}, "`patch_size` must be at least 10, but got 9"),
        ({"mean_box": (0, 0, 1)}, r"`mean_box` must be four numbers"),
        (
            {"mean_box": (5, 0, 1, 3)},
            r"`mean_box` must be x_min, .* got \[5\.0, 0\.0, 1\.0, 3\.0\]",
        ),
    ],
)
def test_refuses_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (torch.rand(68), r"`mean_shape` must have shape \(N, 2\), but got \(68,\)"),
        (torch.rand(1, 68, 2), r"but got \(1, 68, 2\)"),
        (torch.zeros(0, 2), r"but got \(0, 2\)"),
        ([[0.0, float("nan")], [1.0, 1.0]], "`mean_shape` must be finite"),
        ([[1.0, 2.0]], "`mean_box` of a shape that is a point"),
    ],
    ids=["flat", "batch", "empty", "nan", "point"],
)
def test_refuses_shapes_that_are_none(shape, message):
    with pytest.raises(ValueError, match=message):
        MDM(shape, hidden=4)


def test_one_landmark_will_do_where_its_box_is_given():
    (step,) = MDM([[1.0, 2.0]], mean_box=(0, 0, 4, 4), hidden=4, steps=1).eval()(
        torch.rand(1, 3, 16, 16)
    )
    assert step.shape == (1, 1, 2)


def test_refuses_pictures_and_boxes_that_do_not_fit():
    network, images = small(), torch.rand(2, 3, 32, 32)
    for shape in ((3, 64, 64), (1, 1, 64, 64)):
        with pytest.raises(ShapeError, match=r"must have shape \(B, 3, H, W\)"):
            network(torch.rand(shape))
    for shape in ((4,), (1, 4), (2, 2, 2)):
        with pytest.raises(
            ShapeError, match=r"`boxes` must have shape \(B, 4\) = \(2, 4\), but got"
        ):
            network(images, torch.rand(shape))
    for bad in ([3.0, 3.0, 3.0, 3.0], [5.0, 0.0, 1.0, 9.0], [0.0, 0.0, float("nan"), 9.0]):
        with pytest.raises(ValueError, match="`boxes` must be x_min, y_min, x_max, y_max"):
            network(images, torch.tensor([[0.0, 0.0, 9.0, 9.0], bad]))


@pytest.mark.parametrize("normalizer", ["box", (0, 1)])
def test_trains_with_the_adversary_where_landmarks_are_missing(normalizer):
    images, landmarks = pictures(count=4)
    network = toy_sized(landmarks)
    visible = torch.ones(4, MARKS, dtype=torch.bool)
    visible[0] = False  # a picture without any
    visible[1, 2] = False
    landmarks = torch.where(visible[..., None], landmarks, torch.nan)
    task = CoordinateTask(normalizer=normalizer)
    adversary = tiny_adversary(task)
    attacker = snapshot(adversary.attacker.state_dict())
    before = snapshot(network.state_dict())
    rng = torch.get_rng_state()
    loss = adversary(network, images, (landmarks, visible))
    assert torch.equal(torch.get_rng_state(), rng)  # also the boxes of the attack are private
    assert differences(before, network.state_dict()) == []
    loss.backward()  # in which the attacker learns, as this detector has no BatchNorm
    assert differences(attacker, adversary.attacker.state_dict())
    assert loss.isfinite()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name

"""PRIME, AugMax and the hardest geometry: what each changes, and that labels stay true."""

import math

import pytest
import torch
from test_baselines_behaviour import trained
from toys import COLOURS, MARKS, SIDE, pictures, task_and_batch

from advaug import CoordinateTask, HeatmapTask, encode_heatmaps
from advaug.baselines import PRIME, AugMax, HardestGeometry, SecondCopy
from advaug.baselines.augmax import mix_chains
from advaug.baselines.prime import random_colours, random_filter, random_warp

both_kinds = pytest.mark.parametrize("kind", ["heatmap", "coordinate"])


def centres(images):
    """Where the coloured blobs are, `(B, N, 2)`: the centre of mass of each colour's likeness."""
    found = []
    for colour in COLOURS:
        away = (images - colour.view(1, 3, 1, 1)).square().sum(dim=1)
        weight = torch.exp(-away / 0.02)
        weight = weight / weight.sum(dim=(1, 2), keepdim=True)
        steps = torch.arange(images.shape[-1], dtype=images.dtype)
        found.append(torch.stack([(weight * steps).sum((1, 2)), (weight.sum(2) * steps).sum(1)], 1))
    return torch.stack(found, dim=1)


def blobs(landmarks, side):
    """Coloured blobs on black."""
    maps = encode_heatmaps(landmarks, (side, side), sigma=side / 20)
    return torch.einsum("bnhw,nc->bchw", maps, COLOURS).clamp(0, 1)


# --- PRIME ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (48, 37), (3, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_prime_gives_pictures_of_the_same_shape_and_range(size, dtype):
    torch.manual_seed(0)
    images = torch.rand(12, 3, *size).to(dtype)
    before = images.clone()
    changed = PRIME()(images)
    assert changed.shape == images.shape
    assert changed.dtype == (torch.float32 if dtype == torch.bfloat16 else dtype)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(images, before)
    differs = (changed - images).abs().mean(dim=(1, 2, 3)) > 1e-3
    assert differs.float().mean() >= 0.75


def test_prime_changes_each_picture_by_numbers_of_its_own():
    torch.manual_seed(0)
    images = pictures(1)[0].expand(12, -1, -1, -1)
    assert len({round(picture.sum().item(), 2) for picture in PRIME()(images)}) >= 11


def test_a_random_filter_is_one_linear_map_for_all_colours_with_the_identity_in_its_middle():
    torch.manual_seed(0)
    images = torch.rand(400, 3, 9, 9)
    state = torch.get_rng_state()
    whole = random_filter(images)
    torch.set_rng_state(state)
    torch.testing.assert_close(random_filter(2 * images), 2 * whole)
    point = torch.zeros(400, 3, 9, 9)
    point[..., 4, 4] = 1
    torch.set_rng_state(state)
    response = random_filter(point)[:, :, 3:6, 3:6]
    assert torch.equal(response[:, 0], response[:, 1])
    mean, deviation = response[:, 0].mean(dim=0), response[:, 0].std(dim=0)
    expected = torch.zeros(3, 3)
    expected[1, 1] = 1
    assert (mean - expected).abs().max() < 5 * (4 / math.sqrt(3)) / math.sqrt(400)
    # A strength that is uniform up to 4 has the root mean square 4 / sqrt(3).
    assert (deviation - 4 / math.sqrt(3)).abs().max() < 0.4


def test_random_colours_are_a_map_of_the_value_that_keeps_black_and_white():
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 64, dtype=torch.float64).view(1, 1, 8, 8).expand(6, 3, 8, 8)
    torch.manual_seed(1)
    changed = random_colours(ramp)
    assert (changed[..., 0, 0]).abs().max() < 1e-9
    assert (changed[..., -1, -1] - 1).abs().max() < 1e-9
    assert not torch.allclose(changed[:, 0], changed[:, 1])  # each channel has a map of its own
    torch.manual_seed(1)
    turned = random_colours(ramp.flip(-1))
    torch.testing.assert_close(turned.flip(-1), changed)  # by the value, not by the place


def test_random_colours_are_the_published_sum_of_sines():
    torch.manual_seed(0)
    images = torch.rand(3, 3, 4, 4, dtype=torch.float64)
    torch.manual_seed(2)
    found = random_colours(images)
    torch.manual_seed(2)
    lowest = torch.randint(1, 501, (3, 1, 1, 1))
    variance = 0.05 * torch.rand(3, 1, 1, 1, dtype=torch.float64)
    expected = images.clone()
    for step in range(20):
        weight = torch.randn(3, 3, 1, 1) * variance.sqrt()
        wave = (math.pi * (lowest + step).double() * images).sin()
        expected += torch.where(lowest + step <= 500, weight * wave, 0.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("most", [1 / 128, 1 / 32])
def test_a_warp_moves_no_landmark_beyond_its_limit(most):
    torch.manual_seed(0)
    _, landmarks = pictures(200, 64)
    warped = random_warp(blobs(landmarks, 64), most)
    distance = (centres(warped) - centres(blobs(landmarks, 64))).norm(dim=2)
    root = distance.square().mean().sqrt() / 64
    assert 0.1 * most < root < most
    assert distance.max() / 64 < 3.5 * most


def test_a_warp_of_zero_changes_nothing_and_none_moves_the_border():
    torch.manual_seed(0)
    images = torch.rand(4, 3, 32, 48)
    torch.testing.assert_close(random_warp(images, 0.0), images, rtol=0, atol=1e-5)
    ramp = torch.arange(64.0).expand(8, 1, 64, 64) / 64
    moved = (random_warp(ramp, 1 / 16) - ramp).abs() * 64
    assert moved[..., 32, 16:48].max() > 0.5
    assert moved[..., 0].max() < 0.6
    assert moved[..., -1].max() < 0.6


def test_prime_is_a_second_copy_and_a_change_of_ones_own_pictures():
    task, images, target = task_and_batch("heatmap")
    shown = SecondCopy.prime(task).pictures(trained("heatmap"), images, target)
    torch.manual_seed(0)
    own = PRIME()(images)
    assert not torch.equal(shown, images)
    assert own.shape == shown.shape
    with pytest.raises(ValueError, match="`warp` must be from 0 to 1"):
        PRIME(warp=-0.1)


# --- AugMax --------------------------------------------------------------------------------------


@both_kinds
def test_a_step_of_augmax_raises_the_error_over_random_weights_and_more_steps_raise_it_more(kind):
    task, images, target = task_and_batch(kind, 32)
    net = trained(kind)

    def error(**options):
        with torch.no_grad():
            shown = AugMax(task, **options).pictures(net, images, target)
            return task.error(net(shown), target).mean()

    random = error(step_size=0.0)
    one, five = error(), error(steps=5, step_size=0.5)
    assert one > 1.05 * random
    assert five > one


def test_augmax_is_a_convex_mix_of_the_picture_and_its_chains():
    torch.manual_seed(0)
    images, chains = torch.rand(4, 3, 8, 8), torch.rand(3, 4, 3, 8, 8)
    scores, share = torch.randn(4, 3), torch.rand(4, 1)
    mixed = mix_chains(images, chains, share, scores)
    weights = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
    for row in range(4):
        mix = sum(weights[row, k] * chains[k, row] for k in range(3))
        expected = (1 - share[row]) * images[row] + share[row] * mix
        torch.testing.assert_close(mixed[row], expected)
    assert torch.equal(mix_chains(images, chains, torch.zeros(4, 1), scores), images)


@pytest.mark.parametrize("option", [{"steps": 0}, {"step_size": -0.1}])
def test_augmax_refuses_options_out_of_range(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}` must be from"):
        AugMax(HeatmapTask(), **option)


# --- the hardest geometry ------------------------------------------------------------------------


def example(defence, net, images, target):
    """What the detector is trained on: pictures, the target's values and `visible`."""
    made, measure = [], defence._error

    def spy(output, example):
        made.append(example)
        return measure(output, example)

    defence._error = spy
    defence(net, images, target)
    (one,) = made
    return one.images, *one.target


def test_landmarks_move_exactly_with_the_pixels():
    task, net = CoordinateTask(), trained("coordinate")
    _, landmarks = pictures(16, 64)
    images = blobs(landmarks, 64)
    defence = HardestGeometry(task, hidden=None)
    shown, moved, visible = example(defence, net, images, landmarks)
    offset = (moved - landmarks).norm(dim=2)
    assert offset.mean() > 3  # pixels
    near = visible & (moved > 6).all(dim=2) & (moved < 57).all(dim=2)  # a whole blob
    assert near.float().mean() > 0.7
    assert (centres(shown) - moved).norm(dim=2)[near].max() < 0.15
    # A similarity: all distances of a picture change by one factor, within the range.
    apart = (moved[:, :1] - moved[:, 1:]).norm(dim=2) / (landmarks[:, :1] - landmarks[:, 1:]).norm(
        dim=2
    )
    torch.testing.assert_close(apart[:, 0], apart[:, 1], rtol=1e-4, atol=0)
    assert apart.min() > 0.88
    assert apart.max() < 1.29


@pytest.mark.parametrize("stride", [1, 2])
def test_heatmaps_move_with_the_pixels(stride):
    _, landmarks = pictures(16, 64)
    images, grid = blobs(landmarks, 64), 64 // stride
    small = (landmarks + 0.5) / stride - 0.5
    heatmaps = encode_heatmaps(small, (grid, grid), sigma=grid / 20)
    net = torch.nn.Conv2d(3, MARKS, stride, stride)
    defence = HardestGeometry(HeatmapTask(), hidden=None)
    shown, moved, visible = example(defence, net, images, heatmaps)
    assert moved.shape == heatmaps.shape
    weight, steps = moved / moved.sum(dim=(2, 3), keepdim=True), torch.arange(grid)
    found = [(weight * line).sum(dim=(2, 3)) for line in (steps, steps[:, None])]
    found = (torch.stack(found, dim=2) + 0.5) * stride - 0.5
    near = visible & (found > 10).all(dim=2) & (found < 53).all(dim=2)  # not cut by the border
    assert near.float().mean() > 0.5
    assert (centres(shown) - found).norm(dim=2)[near].max() < 0.2


@both_kinds
@pytest.mark.parametrize("given", [False, True])
def test_a_landmark_that_leaves_the_picture_is_not_visible(kind, given):
    task, net = task_and_batch(kind)[0], trained(kind)
    landmarks = torch.tensor([[[15.5, 15.5], [1.0, 1.0], [30.0, 16.0]]]).expand(8, -1, -1)
    images = blobs(landmarks, SIDE)
    values = landmarks if kind == "coordinate" else encode_heatmaps(landmarks, (SIDE, SIDE))
    shown = torch.tensor([True, True, False]).expand(8, -1)
    target = (values, shown) if given else values
    defence = HardestGeometry(task, scale=(1.25, 1.285), rotation=5.0)
    _, _, visible = example(defence, net, images, target)
    assert visible.dtype == torch.bool
    assert visible[:, 0].all()
    assert not visible[:, 1].any()
    assert not visible[:, 2].any()
    kept = HardestGeometry(task, scale=(1.0, 1.0), rotation=0.0, hidden=None)
    same, moved, visible = example(kept, net, images, target)
    assert torch.equal(same, images)
    assert torch.equal(moved, values)
    assert torch.equal(visible, shown if given else torch.ones(8, 3, dtype=torch.bool))


@both_kinds
def test_more_draws_are_harder_and_the_choice_is_each_pictures_own(kind):
    task, images, target = task_and_batch(kind, 32)
    net = trained(kind)

    def errors(draws):
        defence = HardestGeometry(task, draws=draws)
        shown, values, visible = example(defence, net, images, target)
        with torch.no_grad():
            return task.error(net(shown), (values, visible))

    one, two, eight = (errors(draws) for draws in (1, 2, 8))
    # The first draw is the same, so no picture gets easier by a second one.
    assert (two >= one - 1e-5).all()
    assert (two > one + 1e-5).float().mean() == pytest.approx(0.5, abs=0.35)
    assert eight.mean() > two.mean() > one.mean()


def test_a_part_of_the_area_is_hidden_and_labels_stay():
    images, landmarks = torch.full((16, 3, SIDE, SIDE), 0.5003), pictures(16)[1]
    task, net = CoordinateTask(), trained("coordinate")
    options = {"rotation": 0.0, "scale": (1.0, 1.0)}
    defence = HardestGeometry(task, hidden=(0.1, 0.1), **options)
    shown, moved, visible = example(defence, net, images, landmarks)
    part = (shown != images).any(dim=1).float().mean(dim=(1, 2))
    assert (part - 0.1).abs().max() < 0.03
    assert torch.equal(moved, landmarks)
    assert visible.all()


class OwnTask:
    def error(self, output, target):
        return (output - target).square().sum(dim=1)

    def landmark_heatmaps(self, target, size):
        return torch.ones(len(target), 1, *size)


def test_unfit_options_of_the_geometry_are_refused():
    with pytest.raises(TypeError, match="`task` must be a HeatmapTask.* but got a OwnTask.*Second"):
        HardestGeometry(OwnTask())
    with pytest.raises(ValueError, match="`draws` must be at least 1, but got 0"):
        HardestGeometry(HeatmapTask(), draws=0)
    with pytest.raises(ValueError, match="`rotation` must be from 0 to 180"):
        HardestGeometry(HeatmapTask(), rotation=200.0)
    with pytest.raises(ValueError, match="`scale` must be a pair of factors above 0"):
        HardestGeometry(HeatmapTask(), scale=(0.0, 1.0))
    for hidden in ((0.0, 0.1), (0.2, 0.1), (0.5, 1.5)):
        with pytest.raises(ValueError, match="`hidden` must be a pair from above 0 to 1.*None"):
            HardestGeometry(HeatmapTask(), hidden=hidden)

"""Where the attacker may draw."""

import pytest
import torch
from toys import HeatmapToy, heatmap_batch, tiny_adversary

from advaug import RandomRegions, ShapeError


def test_regions_are_rectangles_of_the_given_number_and_size():
    images = torch.rand(200, 3, 40, 80)
    regions = RandomRegions(1, (0.2, 0.5))(images)
    assert regions.shape == (200, 1, 40, 80)
    for region in regions[:, 0]:
        rows, columns = region.amax(dim=1), region.amax(dim=0)
        assert torch.equal(region, rows[:, None] * columns)  # one rectangle
        assert rows.sum() <= 0.5 * 40 + 1
        assert columns.sum() <= 0.5 * 80 + 1
    inner = (regions[:, 0, :, 40].sum(dim=1) > 0) & (regions[:, 0, 20].sum(dim=1) > 0)
    assert inner.any()


def test_every_place_is_drawn_on_and_most_of_a_picture_is_not():
    regions = RandomRegions()(torch.rand(2000, 3, 32, 32))
    often = regions.mean(dim=0)[0]
    assert often.min() > 0.04  # in the corners
    assert 0.1 < often[16, 16] < 0.3
    assert 0.1 < regions.mean() < 0.2
    assert (regions.mean(dim=(1, 2, 3)) < 0.5).all()


def test_each_sample_and_each_step_has_its_own():
    draw = RandomRegions()
    first, second = draw(torch.rand(2, 3, 32, 32)), draw(torch.rand(2, 3, 32, 32))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "`count` must be at least 1"),
        ({"size": (0.0, 0.5)}, r"`size` must be \(smallest, largest\)"),
        ({"size": (0.6, 0.5)}, r"`size` must be \(smallest, largest\)"),
        ({"size": (0.2, 1.5)}, r"`size` must be \(smallest, largest\)"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RandomRegions(**options)


def test_an_attack_stays_within_its_regions():
    left = torch.zeros(4, 1, 32, 32)
    left[..., :16] = 1
    adversary = tiny_adversary(regions=lambda images: left)
    for _ in range(3):
        attack = adversary.attack(HeatmapToy(), *heatmap_batch())
    assert attack.perturbation[..., 16:].abs().max() == 0
    assert attack.perturbation[..., :16].abs().max() > 0


def test_random_regions_are_the_default_and_come_from_the_adversarys_own_seed():
    images, heatmaps = heatmap_batch()
    detector, drawn = HeatmapToy(), []
    for seed in (0, 0, 1):
        torch.manual_seed(len(drawn))
        adversary = tiny_adversary(regions="random", seed=seed)
        adversary.attacker.last.weight.data.fill_(1.0)
        before = torch.get_rng_state()
        attack = adversary.attack(detector, images, heatmaps, update=False)
        assert torch.equal(torch.get_rng_state(), before)
        drawn.append(attack.perturbation.abs().amax(dim=1) > 0)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert 0.05 < drawn[0].float().mean() < 0.5


def test_regions_of_another_shape_are_refused_before_anything_moves():
    adversary = tiny_adversary(regions=lambda images: torch.ones(4, 32, 32))
    before = {key: value.clone() for key, value in adversary.attacker.state_dict().items()}
    with pytest.raises(ShapeError, match=r"`regions` must give a map \(4, 1, 32, 32\)"):
        adversary(HeatmapToy(), *heatmap_batch())
    assert all(torch.equal(before[k], v) for k, v in adversary.attacker.state_dict().items())
    with pytest.raises(ValueError, match=r"`regions` must be one of random, a callable or None"):
        tiny_adversary(regions="everywhere")

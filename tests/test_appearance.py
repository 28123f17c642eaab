"""What happens to a picture between the attacker and the detector."""

import pytest
import torch
from toys import HeatmapToy, heatmap_batch, tiny_adversary

from advaug import RandomAppearance, ShapeError

NOTHING = {
    "cover": None,
    "exposure": (1, 1),
    "contrast": (1, 1),
    "shade": 0.0,
    "blur": 0.0,
    "noise": 0.0,
}


def only(**change):
    """An appearance with one change, in every sample."""
    return RandomAppearance(clamp=False, **{"probability": 1.0, **NOTHING, **change})


def test_nothing_happens_where_nothing_may():
    images = torch.rand(8, 3, 20, 30)
    torch.testing.assert_close(only()(images), images)
    torch.testing.assert_close(
        RandomAppearance(clamp=False, cover=None, probability=0.0)(images), images
    )


def test_a_cover_hides_a_rectangle_and_nothing_else():
    images = torch.full((400, 3, 48, 64), -1.0)  # a value that no cover has
    seen = only(cover=(0.25, 0.5))(images)
    hidden = (seen >= 0).all(dim=1)
    whole = (seen == -1).all(dim=1)
    edge = ~hidden & ~whole
    assert edge.float().mean() < 0.08
    assert seen.max() <= 1
    rows, columns = hidden.any(dim=2), hidden.any(dim=1)
    borders = (rows[:, 0], rows[:, -1], columns[:, 0], columns[:, -1])
    inside = ~torch.stack(borders).any(dim=0)
    area = hidden[inside].flatten(1).sum(dim=1)
    assert 14 * 14 < area.min() < 18 * 18  # sides of 16 to 32 pixels, less half a pixel all around
    assert 24 * 24 < area.max() <= 32 * 32
    box = rows[inside].sum(dim=1) * columns[inside].sum(dim=1)
    assert 0.1 < (area / box > 0.9).float().mean() < 0.4  # the rest are tilted


def test_covers_are_smooth_or_rough_and_of_all_colours():
    seen = only(cover=(1.0, 1.0))(torch.full((400, 3, 32, 32), -1.0))
    middle = seen[:, :, 14:18, 14:18]
    kept = middle[(middle >= 0).flatten(1).all(dim=1)]
    spread = kept.std(dim=(2, 3)).amax(dim=1)
    assert 0.25 < (spread < 0.08).float().mean() < 0.75
    assert kept.mean(dim=(2, 3)).std(dim=0).min() > 0.2


def test_exposure_multiplies_every_value_by_one_factor_a_sample():
    images = torch.rand(500, 3, 8, 8) + 0.1
    factors = only(exposure=(0.25, 4.0))(images) / images
    torch.testing.assert_close(factors, factors[:, :1, :1, :1].expand_as(factors))
    factors = factors[:, 0, 0, 0]
    assert 0.25 <= factors.min() < 0.3
    assert 3.5 < factors.max() <= 4.0
    assert 0.4 < (factors < 1).float().mean() < 0.6  # even on a log scale


def test_contrast_leaves_the_mean_and_scales_the_rest():
    images = torch.rand(500, 3, 8, 8)
    seen = only(contrast=(0.5, 2.0))(images)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(seen.mean(dim=(1, 2, 3), keepdim=True), mean)
    factors = seen.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    assert 0.5 <= factors.min() < 0.55
    assert 1.9 < factors.max() <= 2.0 + 1e-5


def test_shade_falls_off_across_the_picture_in_any_direction():
    light = only(shade=0.9)(torch.ones(500, 3, 32, 32))
    assert light.min() > 0.1
    assert light.max() <= 1
    steps = light.diff(dim=-1)[:, 0]
    rising = (steps >= 0).all(dim=-1).all(dim=-1)
    falling = (steps <= 0).all(dim=-1).all(dim=-1)
    assert (rising | falling).all()
    assert 0.4 < rising.float().mean() < 0.6
    assert light[:, 0, 0, 0].std() > 0.1  # the corner has light and shade


def test_blur_spreads_a_point_and_keeps_its_light():
    images = torch.zeros(300, 3, 41, 41)
    images[..., 20, 20] = 1
    seen = only(blur=0.05)(images)
    torch.testing.assert_close(seen.sum(dim=(2, 3)), torch.ones(300, 3), rtol=1e-4, atol=0)
    place = torch.arange(41.0) - 20
    spread = (seen.sum(dim=2) * place**2).sum(dim=-1)[:, 0].sqrt()
    assert spread.max() < 0.05 * 41
    assert spread.max() > 0.04 * 41
    assert spread.min() < 0.3


def test_noise_has_at_most_the_given_deviation():
    deviation = only(noise=0.2)(torch.zeros(300, 3, 32, 32)).std(dim=(1, 2, 3))
    assert 0.19 < deviation.max() < 0.21
    assert deviation.min() < 0.02


def test_noise_is_darkened_with_the_picture():
    dark = RandomAppearance(
        clamp=False, **{**NOTHING, "probability": 1.0, "noise": 0.2, "exposure": (0.1, 0.1)}
    )
    deviation = dark(torch.zeros(300, 3, 32, 32)).std(dim=(1, 2, 3))
    assert 0.019 < deviation.max() < 0.021


def test_samples_differ_and_some_stay_as_they_are():
    images = torch.rand(1, 3, 16, 16).expand(400, 3, 16, 16)
    seen = RandomAppearance(clamp=False, cover=None, probability=0.3, noise=0.0)(images)
    still = (seen - images).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert 0.1 < still.float().mean() < 0.4  # 0.7 ** 4 = 0.24
    assert len(seen[~still].mean(dim=(1, 2, 3)).unique()) > 100


def test_gradients_flow_and_nothing_is_clamped():
    images = (4 * torch.rand(64, 3, 16, 16) - 1.5).requires_grad_()
    seen = RandomAppearance(clamp=False, cover=None)(images)
    (gradient,) = torch.autograd.grad(seen.sum(), images)
    assert (gradient.flatten(1).abs().amin(dim=1) > 0).all()
    assert seen.min() < 0
    assert seen.max() > 1


def test_no_gradient_comes_through_a_cover():
    images = torch.rand(64, 3, 16, 16).requires_grad_()
    seen = only(cover=(0.5, 0.8))(images)
    (gradient,) = torch.autograd.grad(seen.sum(), images)
    assert ((gradient == 0) | (seen == images)).float().mean() > 0.9


def test_half_precision_is_widened_and_float64_stays():
    assert RandomAppearance(clamp=False)(torch.rand(2, 3, 16, 16).bfloat16()).dtype == torch.float32
    assert RandomAppearance(clamp=False)(torch.rand(2, 3, 16, 16).double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cover": (0.0, 0.5)}, r"`cover` must be \(smallest, largest\)"),
        ({"cover": (0.6, 0.5)}, r"`cover` must be \(smallest, largest\)"),
        ({"cover": (0.6, 1.5)}, r"`cover` must be \(smallest, largest\)"),
        ({"probability": 1.5}, r"`probability` must be within \[0, 1\]"),
        ({"shade": -0.1}, r"`shade` must be within \[0, 1\]"),
        ({"exposure": (0.0, 1.0)}, r"`exposure` must be \(smallest, largest\)"),
        ({"contrast": (2.0, 1.0)}, r"`contrast` must be \(smallest, largest\)"),
        ({"blur": -1.0}, "`blur` must be at least 0"),
        ({"noise": float("nan")}, "`noise` must be at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RandomAppearance(clamp=False, **options)


class Witness(HeatmapToy):
    """A detector that remembers what it saw."""

    def forward(self, images):
        self.seen = [*getattr(self, "seen", []), images.detach()]
        return super().forward(images)


@pytest.mark.parametrize("mode", ["alternating", "shared"])
def test_attack_and_defence_see_the_same_appearance_and_the_critics_none(mode):
    images, heatmaps = heatmap_batch()
    judged, detector = [], Witness()
    adversary = tiny_adversary(mode=mode, appearance="random")
    adversary.discriminator.register_forward_hook(lambda _, inputs, __: judged.append(inputs[0]))
    adversary(detector, images, heatmaps)
    assert len(detector.seen) == (2 if mode == "alternating" else 1)
    assert all(torch.equal(detector.seen[0], seen) for seen in detector.seen)
    assert not torch.allclose(detector.seen[0], images, atol=0.1)
    # The attacker of a first step draws next to nothing: what is judged is I itself.
    assert all(torch.allclose(pictures, images, atol=0.1) for pictures in judged)
    assert adversary.report.read()["ssim"] > 0.9


def test_an_attack_gives_what_the_detector_saw_and_what_was_added():
    images, heatmaps = heatmap_batch()
    detector = Witness()
    adversary = tiny_adversary(appearance=lambda pictures: 0.5 * pictures)
    attack = adversary.attack(detector, images, heatmaps)
    assert torch.equal(attack.images, detector.seen[0])
    torch.testing.assert_close(attack.images, 0.5 * (images + attack.perturbation))


def test_the_attackers_gradient_goes_through_the_appearance():
    images, heatmaps = heatmap_batch()
    adversary = tiny_adversary(
        appearance=lambda pictures: torch.where(torch.arange(32) < 16, pictures, 0.5),
        discriminator=None,
        reconstruction_weight=0.0,
        optimizer=lambda p: torch.optim.SGD(p, lr=1.0),
    )
    pushes = []
    look = adversary._push

    def watch(scene, error, **options):
        pushes.append(look(scene, error, **options))
        return pushes[-1]

    adversary._push = watch
    adversary(HeatmapToy(), images, heatmaps)
    assert pushes[0][..., :16].abs().max() > 0
    assert pushes[0][..., 16:].abs().max() == 0


def test_the_random_appearance_is_the_default_and_comes_from_the_adversarys_own_seed():
    images, heatmaps = heatmap_batch()
    detector, seen = HeatmapToy(), []
    for seed in (0, 0, 1):
        torch.manual_seed(len(seen))
        adversary = tiny_adversary(appearance="random", seed=seed)
        torch.nn.init.zeros_(adversary.attacker.last.weight)
        before = torch.get_rng_state()
        seen.append(adversary.attack(detector, images, heatmaps, update=False).images)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_an_appearance_of_another_shape_is_refused_before_anything_moves():
    adversary = tiny_adversary(appearance=lambda pictures: pictures[:, :1])
    before = {key: value.clone() for key, value in adversary.attacker.state_dict().items()}
    with pytest.raises(ShapeError, match=r"`appearance` must give pictures \(4, 3, 32, 32\)"):
        adversary(HeatmapToy(), *heatmap_batch())
    assert all(torch.equal(before[k], v) for k, v in adversary.attacker.state_dict().items())
    with pytest.raises(ValueError, match=r"`appearance` must be one of random, a callable"):
        tiny_adversary(appearance="odd")


def test_an_attacked_picture_may_leave_the_range_before_it_is_clamped():
    images = torch.linspace(-1, 2, 3 * 16 * 16).view(1, 3, 16, 16)
    seen = RandomAppearance()(images)
    assert seen.min() >= 0
    assert seen.max() <= 1

"""Attacker and discriminator: published sizes, bounds, sizes they take, what one logit sees."""

import pytest
import torch
from torch import nn

from advaug import PatchDiscriminator, ShapeError, UNetAttacker

PUBLISHED = {
    "attacker-256": (lambda: UNetAttacker.paper(256), 54_416_003),
    "patch-discriminator": (PatchDiscriminator.paper, 2_766_657),
    "released-discriminator-256": (lambda: PatchDiscriminator.released(256), 4_834_241),
}


def inputs(batch, height, width=None, channels=1, seed=0):
    draw = torch.Generator().manual_seed(seed)
    width = height if width is None else width
    images = torch.rand(batch, 3, height, width, generator=draw)
    structure = torch.rand(batch, channels, height, width, generator=draw)
    noise = torch.randn(batch, 1, height, width, generator=draw)
    return images, structure, noise


@pytest.mark.parametrize(("make", "count"), PUBLISHED.values(), ids=PUBLISHED)
def test_paper_sized_networks_have_the_published_number_of_parameters(make, count):
    with torch.device("meta"):
        network = make()
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_the_defaults_are_a_quarter_or_less_of_the_paper():
    for light, paper in [
        (UNetAttacker(256), UNetAttacker.paper(256)),
        (PatchDiscriminator(), PatchDiscriminator.paper()),
    ]:
        sizes = [sum(p.numel() for p in network.parameters()) for network in (light, paper)]
        assert sizes[0] < 0.27 * sizes[1]


@pytest.mark.parametrize(
    "make", [UNetAttacker, lambda: UNetAttacker.paper(64)], ids=["light", "paper"]
)
def test_an_untrained_attacker_barely_perturbs(make):
    with torch.no_grad():
        perturbation = make()(*inputs(2, 64))
    assert perturbation.shape == (2, 3, 64, 64)
    assert 0 < perturbation.square().mean().sqrt() < 0.04  # an attack's RMS is .04 to .07
    assert perturbation.abs().max() < 0.2


@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_strength_bounds_the_perturbation(strength):
    attacker = UNetAttacker(16, base_width=8, strength=strength)
    with torch.no_grad():
        attacker.last.weight.fill_(100.0)
        extreme = attacker(*inputs(2, 16)).abs()
    assert extreme.max() <= strength
    assert extreme.max() > 0.99 * strength


@pytest.mark.parametrize(
    ("image_size", "depth"),
    [(None, 5), (256, 8), (512, 8), (128, 7), (64, 6), (96, 5), (8, 3), ((64, 96), 5)],
    ids=str,
)
def test_depth_follows_the_image_size(image_size, depth):
    with torch.device("meta"):
        attacker = UNetAttacker(image_size, base_width=8)
        fine = UNetAttacker(image_size, base_width=8, coarse=0)
    assert attacker.depth == fine.depth == depth
    assert len(attacker.down) + 1 == len(fine.down) == depth


def test_a_coarse_attacker_draws_nothing_finer_than_its_own_pixels():
    coarse, fine = (UNetAttacker(64, base_width=8, coarse=halvings) for halvings in (2, 0))
    given = inputs(2, 64)
    with torch.no_grad():
        drawn = [attacker(*given) for attacker in (coarse, fine)]
    # What is left of the smallest details when neighbours are averaged and enlarged again.
    kept = [
        1 - (maps - nn.functional.interpolate(
            nn.functional.avg_pool2d(maps, 4), (64, 64), mode="bilinear"
        )).var() / maps.var()
        for maps in drawn
    ]  # fmt: skip
    assert kept[0] > 0.6
    assert kept[1] < 0.3


def test_a_coarse_attacker_sees_noise_of_unit_variance():
    seen = []
    attacker = UNetAttacker(64, base_width=8)
    attacker.down[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        attacker(*inputs(8, 64))
    assert seen[0].shape == (8, 5, 32, 32)
    assert abs(seen[0][:, 4].std().item() - 1) < 0.05


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 32)], ids=str)
def test_the_light_attacker_takes_any_size_divisible_by_32(size):
    with torch.no_grad():
        assert UNetAttacker(base_width=8)(*inputs(1, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("size", [(48, 32), (250, 256), (31, 33), (11, 40)], ids=str)
@pytest.mark.parametrize("coarse", [0, 1])
def test_a_picture_that_cannot_be_halved_is_padded_inside(size, coarse):
    attacker = UNetAttacker(base_width=8, coarse=coarse)
    images, structure, noise = inputs(1, *size)
    below, right = (-side % 32 for side in size)
    padded = [
        nn.functional.pad(part, (0, right, 0, below), mode="replicate")
        for part in (images, structure, noise)
    ]
    perturbation = attacker(images, structure, noise)
    assert perturbation.shape == images.shape
    whole = attacker(*padded)
    torch.testing.assert_close(perturbation, whole[..., : size[0], : size[1]])


@pytest.mark.parametrize(("coarse", "least"), [(0, 4), (1, 8)])
@pytest.mark.parametrize("image_size", [250, 33, 2, (64, 65)], ids=str)
def test_an_image_size_that_cannot_be_halved_twice_is_refused(image_size, coarse, least):
    with pytest.raises(ShapeError, match=f"`image_size` must be divisible by {least} at least"):
        UNetAttacker(image_size, coarse=coarse)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_an_innermost_layer_of_one_pixel_works_with_a_batch_of_one(norm):
    attacker = UNetAttacker(16, base_width=8, norm=norm)
    assert attacker.depth == 4
    assert attacker(*inputs(1, 16)).isfinite().all()


def test_no_normalisation_on_the_innermost_layer():
    attacker = UNetAttacker(32, base_width=8, norm="batch", coarse=0)
    normed = [
        any(isinstance(m, nn.BatchNorm2d) for m in layer.modules()) for layer in attacker.down
    ]
    assert normed == [False, True, True, True, False]


@pytest.mark.parametrize("network", ["attacker", "discriminator"])
def test_samples_are_independent_under_group_norm(network):
    images, structure, noise = inputs(3, 32)
    if network == "attacker":
        made, given = UNetAttacker(base_width=8), (images, structure, noise)
    else:
        made, given = PatchDiscriminator(base_width=8), (images, structure)
    with torch.no_grad():
        together = made(*given)
        alone = torch.cat([made(*(value[i : i + 1] for value in given)) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_samples_do_mix_under_batch_norm():
    """The paper's own normalisation, and proof that the test above can fail."""
    attacker = UNetAttacker(16, base_width=8, norm="batch")
    given = inputs(3, 16)
    with torch.no_grad():
        together = attacker(*given)
        alone = torch.cat([attacker(*(value[i : i + 1] for value in given)) for i in range(3)])
    assert not torch.allclose(together, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("argument", [0, 1, 2], ids=["images", "structure", "noise"])
def test_the_attacker_uses_picture_structure_and_noise(argument):
    attacker = UNetAttacker(16, base_width=8)
    given = list(inputs(1, 16))
    given[argument].requires_grad_()
    attacker(*given).square().sum().backward()
    assert given[argument].grad.abs().sum() > 0


def test_without_structure_neither_network_has_a_channel_for_it():
    images, structure, noise = inputs(1, 32)
    attacker = UNetAttacker(16, base_width=8, structure=False)
    assert next(attacker.parameters()).shape[1] == 3 + 1
    assert torch.equal(attacker(images, None, noise), attacker(images, structure, noise))
    discriminator = PatchDiscriminator(base_width=8, structure=False)
    assert next(discriminator.parameters()).shape[1] == 3
    assert torch.equal(discriminator(images, None), discriminator(images, structure))


def test_dropout_is_a_noise_source_in_evaluation_too():
    given = inputs(1, 16)
    noisy = UNetAttacker(16, base_width=8, dropout=0.5).eval()
    steady = UNetAttacker(16, base_width=8).eval()
    with torch.no_grad():
        assert not torch.equal(noisy(*given), noisy(*given))
        assert torch.equal(steady(*given), steady(*given))


def test_a_patch_logit_sees_70_by_70_pixels():
    discriminator = PatchDiscriminator(base_width=1, norm="batch").double()
    # Convolutions alone, with weights that cannot cancel, so that the gradient is the field.
    layers = [m for m in [*discriminator.body, discriminator.score] if isinstance(m, nn.Conv2d)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    image = torch.zeros(1, 4, 256, 256, dtype=torch.float64, requires_grad=True)
    logits = nn.Sequential(*layers)(image)
    assert logits.shape == (1, 1, 30, 30)
    logits[0, 0, 15, 15].backward()
    rows, columns = image.grad[0, 0].nonzero().unbind(1)
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (70, 70)


def test_patch_logits_at_256_px_are_30_by_30():
    with torch.device("meta"):
        discriminator = PatchDiscriminator.paper()
        images, structure = torch.empty(2, 3, 256, 256), torch.empty(2, 1, 256, 256)
        assert discriminator(images, structure).shape == (2, 1, 30, 30)


def test_the_global_head_gives_one_logit_a_picture_and_takes_its_own_size_alone():
    discriminator = PatchDiscriminator(head="global", image_size=32, base_width=8)
    images, structure, _ = inputs(2, 32)
    assert discriminator(images, structure).shape == (2, 1)
    images, structure, _ = inputs(2, 64)
    with pytest.raises(ShapeError, match=r"`images` must be 32 x 32.* but got \(64, 64\)"):
        discriminator(images, structure)


ERRORS = {
    "attacker-norm": (lambda: UNetAttacker(16, norm="layer"), "`norm` must be 'batch' or 'group'"),
    "discriminator-norm": (lambda: PatchDiscriminator(norm="layer"), "`norm` must be 'batch' or"),
    "head": (lambda: PatchDiscriminator(head="pixel"), "`head` must be 'patch' or 'global', but"),
    "global-without-size": (
        lambda: PatchDiscriminator(head="global"),
        "`image_size` must be divisible by 8 .* but got None",
    ),
    "global-odd-size": (lambda: PatchDiscriminator(head="global", image_size=60), "but got 60"),
}


@pytest.mark.parametrize(("make", "message"), ERRORS.values(), ids=ERRORS)
def test_unknown_options_are_refused_with_the_choices(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [UNetAttacker, PatchDiscriminator], ids=lambda m: m.__name__)
def test_state_dicts_round_trip(make):
    one, other = make(base_width=8), make(base_width=8)
    other.load_state_dict(one.state_dict())
    given = inputs(1, 32)[: 3 if make is UNetAttacker else 2]
    with torch.no_grad():
        assert torch.equal(one(*given), other(*given))

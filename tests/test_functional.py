"""Eq. 1 to 9: value, properties, shape and dtype, gradient, errors."""

import math

import kornia.metrics
import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advaug import ShapeError
from advaug import functional as saat

LN_1_5 = math.log(1.5)


def rand(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def peaked_heatmaps(dtype=torch.float32):
    return (rand(2, 3, 16, 14, seed=1) ** 3).to(dtype)


def mask_of(shape=(2, 1, 16, 14)):
    return saat.semantic_mask((rand(*shape, seed=5) > 0.6).float())


def close(ours, oracle, rtol=1e-5):
    np.testing.assert_allclose(ours.double().numpy(), oracle, rtol=rtol, atol=0)


# --- value -----------------------------------------------------------------------------------


def pairs_of_pictures():
    """Pictures and their attacked twins as training meets them: noise, faint noise, flat areas."""
    noisy = rand(2, 3, 16, 14)
    smooth = torch.linspace(0.3, 0.9, 14).expand(2, 3, 16, 14)
    flat = torch.full((2, 3, 16, 14), 0.9)
    return {
        "noise": (noisy, noisy + 0.3 * randn(2, 3, 16, 14, seed=2)),
        "ramp-perturbed": (smooth, smooth + 0.05 * randn(2, 3, 16, 14, seed=3)),
        "bright-flat-perturbed": (flat, flat + 0.002 * randn(2, 3, 16, 14, seed=4)),
        "dark-flat-perturbed": (0.1 * flat, 0.1 * flat + 0.05 * randn(2, 3, 16, 14, seed=4)),
        "beyond-the-range": (noisy, noisy * 1.6 - 0.3),
    }


PICTURES = pairs_of_pictures()
PICTURE_TABLE = [pytest.param(*pair, id=name) for name, pair in PICTURES.items()]


def test_eq_1_heatmap_error_agrees_with_the_oracle():
    heatmaps, target = randn(3, 4, 9, 7), rand(3, 4, 9, 7, seed=1)
    close(
        saat.heatmap_error(heatmaps, target),
        oracles.heatmap_error(heatmaps.numpy(), target.numpy()),
    )


def test_eq_1_counts_visible_landmarks_alone():
    heatmaps, target = randn(3, 4, 9, 7), rand(3, 4, 9, 7, seed=1)
    visible = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0]]).bool()
    expected = oracles.heatmap_error(heatmaps.numpy(), target.numpy(), visible.numpy())
    close(saat.heatmap_error(heatmaps, target, visible), expected)


def test_eq_2_structure_map_agrees_with_the_oracle():
    heatmaps = rand(2, 5, 8, 6)
    close(saat.structure_map(heatmaps), oracles.structure_map(heatmaps.numpy()), rtol=0)


@pytest.mark.parametrize("relaxation", [0.1, 0.2, 1.0])
def test_eq_3_feedback_loss_agrees_with_the_oracle(relaxation):
    error = torch.tensor([0.0, 0.01, 1.0, 78.5])
    expected = oracles.feedback_loss(error.numpy(), relaxation)
    close(saat.feedback_loss(error, relaxation=relaxation), expected)


@pytest.mark.parametrize("form", ["non_saturating", "minimax"])
def test_eq_4_attacker_adversarial_loss_agrees_with_the_oracle(form):
    logits = 3 * randn(3, 1, 4, 5)
    expected = oracles.attacker_adversarial_loss(logits.numpy(), form)
    close(saat.attacker_adversarial_loss(logits, form=form), expected)


def test_eq_5_discriminator_loss_agrees_with_the_oracle():
    real, fake = 3 * randn(3, 1, 4, 5), 3 * randn(3, 1, 4, 5, seed=1)
    close(
        saat.discriminator_loss(real, fake),
        oracles.discriminator_loss(real.numpy(), fake.numpy()),
    )


def test_semantic_mask_agrees_with_the_oracle():
    structure = rand(2, 1, 9, 7)
    structure[0, 0, 0, 0] = 0.25  # the threshold itself is semantic
    close(saat.semantic_mask(structure), oracles.semantic_mask(structure.numpy()))
    close(
        saat.semantic_mask(structure, threshold=0.5, background=0.3),
        oracles.semantic_mask(structure.numpy(), 0.5, 0.3),
    )


@pytest.mark.parametrize(("images", "adversarial"), PICTURES.values(), ids=PICTURES)
def test_eq_6_reconstruction_loss_agrees_with_the_oracle(images, adversarial):
    mask = mask_of()
    expected = oracles.semantic_reconstruction_loss(
        images.numpy(), adversarial.numpy(), mask.numpy()
    )
    close(saat.semantic_reconstruction_loss(images, adversarial, mask), expected)


@pytest.mark.parametrize(("images", "adversarial"), PICTURE_TABLE)
def test_eq_9_ssim_agrees_with_the_oracle(images, adversarial):
    close(saat.ssim(images, adversarial), oracles.ssim(images.numpy(), adversarial.numpy()))


@pytest.mark.parametrize(("images", "adversarial"), PICTURE_TABLE)
def test_eq_9_beta_agrees_with_the_oracle(images, adversarial):
    mask = torch.ones(2, 1, 16, 14)
    mask[..., :3] = 0.1
    expected = oracles.adaptive_beta(images.numpy(), adversarial.numpy(), mask.numpy())
    close(saat.adaptive_beta(images, adversarial, mask), expected)


@pytest.mark.parametrize(
    "name", ["noise", "ramp-perturbed", "dark-flat-perturbed", "beyond-the-range"]
)
def test_semantic_ssim_agrees_with_the_oracle(name):
    images, adversarial = PICTURES[name]
    mask = mask_of()
    mask[1, :, 5:-5, 5:-5] = 0.1  # windows of the second sample are all centred outside
    expected = oracles.semantic_ssim(images.numpy(), adversarial.numpy(), mask.numpy())
    assert expected[1] == 1.0
    close(saat.semantic_ssim(images, adversarial, mask), expected)


# --- value, worked by hand --------------------------------------------------------------------


def test_eq_1_by_hand():
    heatmaps = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]], [[0.0, 3.0], [0.0, 0.0]]]])
    target = torch.zeros(1, 2, 2, 2)
    assert saat.heatmap_error(heatmaps, target).tolist() == [(1 + 4 + 9) / 2]


def test_eq_3_by_hand():
    loss = saat.feedback_loss(torch.tensor([0.0, 0.9, 9.9]))
    torch.testing.assert_close(loss, torch.tensor([10.0, 1.0, 0.1]))


def test_eq_3_without_relaxation_stays_finite():
    loss = saat.feedback_loss(torch.tensor([0.0, 2.0]), relaxation=0.0)
    assert loss.isfinite().all()
    assert loss[1] == 0.5


def test_eq_4_and_5_at_a_discriminator_that_cannot_tell():
    undecided = torch.zeros(1, 1, 3, 3)
    ln2 = math.log(2)
    assert saat.attacker_adversarial_loss(undecided).item() == pytest.approx(ln2)
    assert saat.attacker_adversarial_loss(undecided, form="minimax").item() == pytest.approx(-ln2)
    assert saat.discriminator_loss(undecided, undecided).item() == pytest.approx(2 * ln2)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_eq_4_and_5_stay_finite_at_a_discriminator_that_is_certain(logit):
    logits = torch.full((1, 1, 2, 2), logit, requires_grad=True)
    total = saat.attacker_adversarial_loss(logits) + saat.discriminator_loss(-logits, logits)
    total = total + saat.attacker_adversarial_loss(logits, form="minimax")
    assert total.isfinite().all()
    (gradient,) = torch.autograd.grad(total.sum(), logits)
    assert gradient.isfinite().all()


def test_eq_6_weighs_semantic_pixels_ten_times():
    images = torch.zeros(2, 3, 4, 4)
    adversarial = images.clone()
    adversarial[0, :, 1, 1] = 0.5  # inside
    adversarial[1, :, 3, 3] = 0.5  # outside
    structure = torch.zeros(2, 1, 4, 4)
    structure[:, :, 1, 1] = 1.0
    loss = saat.semantic_reconstruction_loss(images, adversarial, saat.semantic_mask(structure))
    torch.testing.assert_close(loss, torch.tensor([0.5 / 16, 0.05 / 16]))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [(0.5, 0.6, 0.983609), (0.2, 0.4, 0.800100), (0.0, 1.0, 9.999e-5), (0.7, 0.7, 1.0)],
)
def test_ssim_anchors_of_constant_pictures(a, b, expected):
    similarity = saat.ssim(torch.full((1, 3, 16, 16), a), torch.full((1, 3, 16, 16), b))
    assert similarity.item() == pytest.approx(expected, abs=1e-4 * max(expected, 0.01) + 2e-5)


@pytest.mark.parametrize(
    ("similarity", "beta"),
    [
        *((1.0, 0.4055), (0.95, 0.3716), (0.9, 0.3365), (0.8, 0.2624), (0.7, 0.1823)),
        *((0.6, 0.0953), (0.525, 0.0247), (0.5, 0.0), (0.2, 0.0), (0.0, 0.0)),
    ],
)
def test_beta_anchors(similarity, beta):
    assert saat.beta_from_ssim(torch.tensor([similarity])).item() == pytest.approx(beta, abs=6e-5)


@pytest.mark.parametrize("similarity", [-0.4999, -0.5, -0.50001, -0.9, -1.0, -1.0001])
def test_beta_is_zero_and_never_nan_where_the_logarithm_has_no_value(similarity):
    value = torch.tensor([similarity], requires_grad=True)
    beta = saat.beta_from_ssim(value)
    beta.sum().backward()
    assert beta.tolist() == [0.0]
    assert value.grad.isfinite().all()


def test_beta_of_inverted_pictures_is_zero():
    stripes = (torch.arange(24) // 2 % 2).float().expand(1, 3, 24, 24)
    assert saat.ssim(stripes, 1 - stripes).item() < -0.5
    beta = saat.adaptive_beta(stripes, 1 - stripes, torch.ones(1, 1, 24, 24))
    assert beta.tolist() == [0.0]


@pytest.mark.parametrize("name", ["noise", "ramp-perturbed", "beyond-the-range"])
def test_ssim_agrees_with_kornia_on_valid_windows(name):
    images, adversarial = (picture.double() for picture in PICTURES[name])
    theirs = kornia.metrics.ssim(images, adversarial, 11, 1.0, padding="valid")
    ours = saat.ssim(images, adversarial)
    # kornia adds 1e-12 to the denominator, and nothing else may differ.
    torch.testing.assert_close(ours, theirs.mean(dim=(1, 2, 3)), rtol=1e-6, atol=1e-7)


# --- properties ------------------------------------------------------------------------------

seeds = st.integers(0, 10_000)


@given(seeds)
def test_ssim_is_symmetric_bounded_and_one_for_equal_pictures(seed):
    x, y = rand(2, 3, 13, 12, seed=seed), rand(2, 3, 13, 12, seed=seed + 1)
    torch.testing.assert_close(saat.ssim(x, y), saat.ssim(y, x), rtol=1e-5, atol=1e-6)
    assert (saat.ssim(x, y).abs() <= 1 + 1e-6).all()
    torch.testing.assert_close(saat.ssim(x, x), torch.ones(2), rtol=0, atol=1e-6)


@given(seeds, st.floats(0, 3))
def test_beta_lies_between_zero_and_the_logarithm_of_one_and_a_half(seed, strength):
    x = rand(2, 3, 13, 12, seed=seed)
    y = x + strength * randn(2, 3, 13, 12, seed=seed + 1)
    beta = saat.adaptive_beta(x, y, saat.semantic_mask(rand(2, 1, 13, 12, seed=seed)))
    assert ((beta >= 0) & (beta <= LN_1_5 + 1e-6)).all()


def test_ssim_and_beta_fall_as_the_perturbation_grows():
    x, noise = rand(1, 3, 16, 16), randn(1, 3, 16, 16, seed=1)
    attacked = [x + strength * noise for strength in (0.0, 0.05, 0.1, 0.2, 0.4)]
    similarity = torch.cat([saat.ssim(x, y) for y in attacked])
    beta = torch.cat([saat.adaptive_beta(x, y, torch.ones(1, 1, 16, 16)) for y in attacked])
    assert (similarity.diff() < 0).all()
    assert (beta.diff() <= 0).all()
    assert beta[0].item() == pytest.approx(LN_1_5, abs=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_beta_is_monotone_in_the_similarity(values):
    similarity = torch.tensor(sorted(values))
    assert (saat.beta_from_ssim(similarity).diff() >= 0).all()


@given(st.lists(st.floats(0, 1e4), min_size=2, max_size=8), st.floats(1e-3, 2))
def test_feedback_falls_with_the_error_and_is_bounded_by_the_relaxation(errors, relaxation):
    loss = saat.feedback_loss(torch.tensor(sorted(errors)), relaxation=relaxation)
    assert (loss.diff() <= 0).all()
    assert ((loss > 0) & (loss <= (1 + 1e-5) / relaxation)).all()


def test_both_forms_of_eq_4_fall_as_the_discriminator_is_fooled():
    logits = torch.linspace(-4, 4, 9).view(-1, 1, 1, 1)
    for form in ("non_saturating", "minimax"):
        assert (saat.attacker_adversarial_loss(logits, form=form).diff() < 0).all()


def test_errors_and_losses_are_zero_for_equal_inputs():
    heatmaps, images = randn(2, 3, 8, 8), rand(2, 3, 12, 12)
    assert saat.heatmap_error(heatmaps, heatmaps).tolist() == [0, 0]
    loss = saat.semantic_reconstruction_loss(images, images, torch.ones(2, 1, 12, 12))
    assert loss.tolist() == [0, 0]


def test_samples_do_not_mix():
    x, y = PICTURES["noise"]
    mask = mask_of()
    for name, function, inputs in [
        ("heatmap_error", saat.heatmap_error, (x, y)),
        ("structure_map", saat.structure_map, (x,)),
        ("reconstruction", saat.semantic_reconstruction_loss, (x, y, mask)),
        ("ssim", saat.ssim, (x, y)),
        ("semantic_ssim", saat.semantic_ssim, (x, y, mask)),
        ("beta", saat.adaptive_beta, (x, y, mask)),
        ("adversarial", saat.attacker_adversarial_loss, (x,)),
        ("discriminator", saat.discriminator_loss, (x, y)),
    ]:
        together = function(*inputs)
        alone = torch.cat([function(*(value[i : i + 1] for value in inputs)) for i in range(2)])
        torch.testing.assert_close(together, alone, msg=lambda text, name=name: f"{name}: {text}")


# --- visibility ------------------------------------------------------------------------------


def test_invisible_landmarks_do_not_count_even_if_their_targets_are_nan():
    heatmaps, target = randn(2, 3, 4, 4), rand(2, 3, 4, 4)
    visible = torch.tensor([[True, False, True], [True, True, True]])
    expected = saat.heatmap_error(heatmaps, target, visible)
    target[0, 1] = torch.nan
    torch.testing.assert_close(saat.heatmap_error(heatmaps, target, visible), expected)


def test_nan_in_the_target_of_an_invisible_landmark_does_not_reach_the_gradient():
    heatmaps = randn(1, 2, 4, 4).requires_grad_()
    target = rand(1, 2, 4, 4)
    target[0, 1] = torch.nan
    error = saat.heatmap_error(heatmaps, target, torch.tensor([[True, False]]))
    (gradient,) = torch.autograd.grad(error.sum(), heatmaps)
    assert gradient[0, 0].abs().sum() > 0
    assert gradient[0, 1].tolist() == torch.zeros(4, 4).tolist()


def test_a_sample_without_visible_landmarks_has_no_error_and_no_gradient():
    heatmaps = randn(2, 2, 4, 4).requires_grad_()
    visible = torch.tensor([[False, False], [True, False]])
    error = saat.heatmap_error(heatmaps, rand(2, 2, 4, 4), visible)
    (gradient,) = torch.autograd.grad(error.sum(), heatmaps)
    assert error[0] == 0
    assert not gradient[0].any()
    assert gradient[1, 0].any()


# --- shape and dtype -------------------------------------------------------------------------


def calls(dtype=torch.float32):
    """Every function with inputs of one dtype, by name."""
    x, y = rand(2, 3, 16, 14).to(dtype), rand(2, 3, 16, 14, seed=1).to(dtype)
    logits, fake = randn(2, 1, 3, 3).to(dtype), randn(2, 1, 3, 3, seed=1).to(dtype)
    mask = mask_of().to(dtype)
    return {
        "heatmap_error": (saat.heatmap_error, (x, y)),
        "structure_map": (saat.structure_map, (x,)),
        "feedback_loss": (saat.feedback_loss, (x[:, 0, 0, 0],)),
        "attacker_adversarial_loss": (saat.attacker_adversarial_loss, (logits,)),
        "discriminator_loss": (saat.discriminator_loss, (logits, fake)),
        "semantic_mask": (saat.semantic_mask, (x[:, :1],)),
        "semantic_reconstruction_loss": (saat.semantic_reconstruction_loss, (x, y, mask)),
        "ssim": (saat.ssim, (x, y)),
        "semantic_ssim": (saat.semantic_ssim, (x, y, mask)),
        "beta_from_ssim": (saat.beta_from_ssim, (x[:, 0, 0, 0],)),
        "adaptive_beta": (saat.adaptive_beta, (x, x + 0.1 * y, mask)),
    }


NAMES = list(calls())
MAPS = {"structure_map": (2, 1, 16, 14), "semantic_mask": (2, 1, 16, 14)}


def test_the_table_of_functions_is_complete():
    assert sorted(NAMES) == sorted(saat.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_one_value_or_map_a_sample(name):
    function, inputs = calls()[name]
    assert tuple(function(*inputs).shape) == MAPS.get(name, (2,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_inputs_are_computed_in_float32(name, dtype):
    function, inputs = calls(dtype)[name]
    result = function(*inputs)
    assert result.dtype == torch.float32
    assert torch.equal(result, function(*(value.float() for value in inputs)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_wide_inputs_keep_their_dtype(name, dtype):
    function, inputs = calls(dtype)[name]
    assert function(*inputs).dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name):
    function, inputs = calls()[name]
    with torch.autocast("cpu", torch.bfloat16):
        inside = function(*inputs)
    assert torch.equal(inside, function(*inputs))
    assert inside.dtype == torch.float32


@pytest.mark.parametrize("name", ["ssim", "adaptive_beta", "heatmap_error", "structure_map"])
def test_memory_layout_changes_nothing(name):
    function, inputs = calls()[name]
    channels_last = [value.to(memory_format=torch.channels_last) for value in inputs]
    torch.testing.assert_close(function(*channels_last), function(*inputs))


# --- gradient --------------------------------------------------------------------------------


def gradient_cases():
    x, y = rand(2, 2, 12, 11, dtype=torch.float64), rand(2, 2, 12, 11, seed=1, dtype=torch.float64)
    logits = randn(2, 1, 3, 3, dtype=torch.float64)
    fake = randn(2, 1, 3, 3, seed=1, dtype=torch.float64)
    mask = saat.semantic_mask(rand(2, 1, 12, 11, dtype=torch.float64))
    visible = torch.tensor([[True, False], [True, True]])
    return {
        "heatmap_error": (lambda a, b: saat.heatmap_error(a, b, visible), (x, y)),
        "structure_map": (saat.structure_map, (x,)),
        "feedback_loss": (saat.feedback_loss, (x[:, 0, 0, 0],)),
        "non_saturating": (saat.attacker_adversarial_loss, (logits,)),
        "minimax": (lambda a: saat.attacker_adversarial_loss(a, form="minimax"), (logits,)),
        "discriminator_loss": (saat.discriminator_loss, (logits, fake)),
        "reconstruction": (lambda a, b: saat.semantic_reconstruction_loss(a, b, mask), (x, y)),
        "ssim": (saat.ssim, (x, y)),
        "semantic_ssim": (lambda a, b: saat.semantic_ssim(a, b, mask), (x, y)),
        "beta_from_ssim": (saat.beta_from_ssim, (x[:, 0, 0, 0] + 0.6,)),
        "adaptive_beta": (lambda a, b: saat.adaptive_beta(a, b, mask), (x, x + 0.1 * y)),
    }


@pytest.mark.parametrize("name", gradient_cases())
def test_gradients_are_right_in_float64(name):
    function, inputs = gradient_cases()[name]
    inputs = [value.detach().clone().requires_grad_() for value in inputs]
    assert function(*inputs).requires_grad
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)


def test_eq_3_gradient_by_hand():
    error = torch.tensor([0.9], requires_grad=True)
    (gradient,) = torch.autograd.grad(saat.feedback_loss(error).sum(), error)
    assert gradient.item() == pytest.approx(-1.0)  # -1 / (e + λ)^2


def test_ssim_of_equal_pictures_has_a_finite_gradient():
    x = torch.full((1, 3, 12, 12), 0.9)
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(saat.ssim(x, y).sum(), y)
    assert gradient.isfinite().all()


# --- errors ----------------------------------------------------------------------------------

ZEROS = torch.zeros(2, 3, 12, 12)
ERRORS = {
    "heatmaps-3d": (lambda: saat.heatmap_error(ZEROS[0], ZEROS[0]), "`heatmaps` must be"),
    "target-shape": (
        lambda: saat.heatmap_error(ZEROS, ZEROS[:1]),
        r"`target` must have the shape of heatmaps, \(2, 3, 12, 12\), but got \(1, 3, 12, 12\)",
    ),
    "visible-shape": (
        lambda: saat.heatmap_error(ZEROS, ZEROS, torch.ones(2, 4).bool()),
        r"`visible` must have the shape of .*\(2, 3\), but got \(2, 4\)",
    ),
    "structure-3d": (lambda: saat.structure_map(ZEROS[0]), "`heatmaps` must be"),
    "logits": (
        lambda: saat.discriminator_loss(ZEROS, ZEROS[:1]),
        "`fake_logits` must have the shape of real_logits",
    ),
    "mask-channels": (
        lambda: saat.semantic_reconstruction_loss(ZEROS, ZEROS, ZEROS),
        r"`mask` must be \(2, 1, 12, 12\), but got \(2, 3, 12, 12\)",
    ),
    "pictures-differ": (
        lambda: saat.semantic_reconstruction_loss(ZEROS, ZEROS[..., :11], ZEROS[:, :1]),
        "`adversarial` must have the shape of images",
    ),
    "ssim-shapes": (lambda: saat.ssim(ZEROS, ZEROS[:1]), "`adversarial` must have the shape"),
    "ssim-small": (
        lambda: saat.ssim(ZEROS[..., :10], ZEROS[..., :10]),
        r"`images` must have sides of at least 11 pixels.* but got \(12, 10\)",
    ),
    "beta-mask": (lambda: saat.adaptive_beta(ZEROS, ZEROS, ZEROS), "`mask` must be"),
    "semantic-mask": (lambda: saat.semantic_ssim(ZEROS, ZEROS, ZEROS), "`mask` must be"),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=ERRORS)
def test_wrong_shapes_are_named(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


def test_a_negative_relaxation_is_refused():
    with pytest.raises(ValueError, match="`relaxation` must not be negative, but got -0.1"):
        saat.feedback_loss(torch.ones(2), relaxation=-0.1)


def test_an_unknown_form_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="'non_saturating' or 'minimax', but got 'hinge'"):
        saat.attacker_adversarial_loss(torch.ones(2, 1), form="hinge")

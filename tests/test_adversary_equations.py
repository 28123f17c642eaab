"""One step of the paper's call: the loss that comes back, whom it reaches, what is learned."""

import copy
import gc
import weakref

import oracles
import pytest
import torch
from probes import IMAGENET, Noise, Recorder, deterministic_detector, remember_attack, sgd
from torch import nn
from toys import (
    SIDE,
    HeatmapToy,
    differences,
    heatmap_batch,
    snapshot,
    task_and_batch,
    tiny_adversary,
    tiny_attacker,
    tiny_discriminator,
)

from advaug import (
    PixelSpec,
)
from advaug import functional as saat

# --- Eq. 8: the loss that comes back -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["heatmap", "coordinate"])
@pytest.mark.parametrize("beta", ["adaptive", "semantic", 0.5, 0.0], ids=str)
def test_the_loss_is_the_mean_of_beta_times_the_error_on_the_attacks_pictures(
    kind, beta, monkeypatch
):
    detector = deterministic_detector()
    if kind == "coordinate":
        net = detector
        detector = nn.Sequential(net, nn.AvgPool2d(SIDE // 2), nn.Flatten(2))
        detector.append(nn.Linear(4, 2))
    task, images, target = task_and_batch(kind)
    adversary = tiny_adversary(
        task, mode="alternating", beta=beta, attacker=Noise(0.1), optimizer=sgd, loss_weight=0.25
    )
    batches = remember_attack(adversary, monkeypatch)
    twin = copy.deepcopy(detector)

    loss = adversary(detector, images, target)
    loss.backward()

    (batch,) = batches
    error = task.error(twin(batch.images), target)
    expected = sum(b * e for b, e in zip(batch.beta.tolist(), error, strict=True)) / len(images)
    (0.25 * expected).backward()
    assert loss.shape == ()
    torch.testing.assert_close(loss.detach(), 0.25 * torch.as_tensor(expected).detach())
    for ours, theirs in zip(detector.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_beta_is_eq_9_per_sample():
    images, heatmaps = heatmap_batch()
    adversary = tiny_adversary(attacker=Noise(0.15))
    batch = adversary.attack(HeatmapToy(), images, heatmaps, update=False)
    adversarial = images + batch.perturbation
    expected = oracles.adaptive_beta(images.numpy(), adversarial.numpy(), batch.mask.numpy())
    assert batch.beta.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert len(set(batch.beta.tolist())) == len(images)


def test_semantic_beta_comes_from_the_semantic_regions_alone():
    images, heatmaps = heatmap_batch()
    adversary = tiny_adversary(attacker=Noise(0.15), beta="semantic")
    batch = adversary.attack(HeatmapToy(), images, heatmaps, update=False)
    similarity = saat.semantic_ssim(images, images + batch.perturbation, batch.mask)
    torch.testing.assert_close(batch.beta, saat.beta_from_ssim(similarity))
    assert (batch.beta < saat.beta_from_ssim(batch.ssim)).all()


@pytest.mark.parametrize(("constant", "zero"), [(0.5, False), (1, False), (0.0, True)])
def test_a_constant_beta_is_that_constant(constant, zero):
    adversary = tiny_adversary(beta=constant)
    images, heatmaps = heatmap_batch()
    loss = adversary(HeatmapToy(), images, heatmaps)
    assert adversary.report.read()["beta"] == pytest.approx(constant)
    assert (loss.item() == 0) == zero


# --- who is reached -----------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", [PixelSpec(), IMAGENET], ids=["identity", "imagenet"])
def test_the_graph_reaches_the_detectors_parameters_and_nothing_else(pixels):
    detector, adversary = HeatmapToy(), tiny_adversary(pixels=pixels)
    images, heatmaps = heatmap_batch()
    images = pixels.from_unit(images).requires_grad_()
    loss = adversary(detector, images, heatmaps)
    others = [images, *adversary.parameters()]
    reached = torch.autograd.grad(loss, others, retain_graph=True, allow_unused=True)
    assert [gradient for gradient in reached if gradient is not None] == []
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in [*detector.head.parameters()])
    assert all(p.grad is None for p in adversary.parameters())
    assert images.grad is None


def test_an_attack_gives_everything_detached():
    adversary = tiny_adversary()
    images, heatmaps = heatmap_batch()
    batch = adversary.attack(HeatmapToy(), images, heatmaps)
    parts = [batch.images, batch.perturbation, batch.structure, batch.mask, batch.ssim, batch.beta]
    assert not any(part.requires_grad for part in [*parts, *batch.losses])
    assert [tuple(part.shape) for part in parts] == [
        *((4, 3, SIDE, SIDE), (4, 3, SIDE, SIDE), (4, 1, SIDE, SIDE), (4, 1, SIDE, SIDE)),
        *((4,), (4,)),
    ]
    assert all(loss.shape == (4,) for loss in batch.losses)


def test_no_graph_is_kept_after_the_step():
    """Every tensor that autograd saved anywhere in the step is gone with the loss."""
    saved = []

    class Packed:
        def __init__(self, tensor):
            self.tensor = tensor.detach()

    def pack(tensor):
        packed = Packed(tensor)
        saved.append(weakref.ref(packed))
        return packed

    detector, adversary = HeatmapToy(), tiny_adversary()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed.tensor):
        batch = adversary.attack(detector, *heatmap_batch())
        assert len(saved) > 20
        gc.collect()
        assert not any(reference() for reference in saved)
        loss = adversary(detector, *heatmap_batch())
        assert any(reference() for reference in saved)
        loss.backward()
    del loss
    gc.collect()
    assert not any(reference() for reference in saved)
    assert batch.images.grad_fn is None


# --- Eq. 3 to 7: what attacker and discriminator learn -------------------------------------------


def learned(network, before):
    """The gradients that a step of plain gradient descent at rate 1 has followed."""
    return [old - new.detach() for old, new in zip(before, network.parameters(), strict=True)]


@pytest.mark.parametrize(
    ("kind", "form", "weights"),
    [
        ("heatmap", "non_saturating", (1.0, 1.0)),
        ("heatmap", "minimax", (0.3, 20.0)),
        ("coordinate", "non_saturating", (2.0, 0.0)),
    ],
)
def test_the_step_follows_eq_7_and_eq_5(kind, form, weights):
    adversarial_weight, reconstruction_weight = weights
    task, images, target = task_and_batch(kind)
    detector = deterministic_detector().eval()
    if kind == "coordinate":
        detector = nn.Sequential(detector, nn.AvgPool2d(SIDE // 2), nn.Flatten(2), nn.Linear(4, 2))
    attacker = tiny_attacker()
    nn.init.normal_(attacker.last.weight, std=0.05)
    discriminator = tiny_discriminator()
    critic = copy.deepcopy(discriminator)
    adversary = tiny_adversary(
        task,
        attacker=Recorder(attacker),
        discriminator=discriminator,
        optimizer=sgd,
        relaxation=0.2,
        adversarial_form=form,
        adversarial_weight=adversarial_weight,
        adversarial_limit=None,
        reconstruction_weight=reconstruction_weight,
    )
    twin = copy.deepcopy(attacker)
    before = [p.detach().clone() for p in attacker.parameters()]
    before_critic = [p.detach().clone() for p in discriminator.parameters()]

    adversary.attack(detector, images, target)

    ((_, structure, noise), _) = adversary.attacker.calls[0]
    assert noise.shape == (4, 1, SIDE, SIDE)
    mask = saat.semantic_mask(structure)
    adversarial = images + twin(images, structure, noise)
    total = (1 / (task.error(detector(adversarial), target) + 0.2)).mean()
    total = total + reconstruction_weight * (mask * (images - adversarial)).abs().mean()
    fooled = torch.sigmoid(critic(adversarial, structure))
    imitation = -fooled.log() if form == "non_saturating" else (1 - fooled).log()
    total = total + adversarial_weight * imitation.mean()
    expected = torch.autograd.grad(total, list(twin.parameters()))
    for ours, theirs in zip(learned(attacker, before), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6 + 1e-4 * theirs.abs().max())

    real = torch.sigmoid(critic(images, structure))
    fake = torch.sigmoid(critic(adversarial.detach(), structure))
    gain = real.log().mean() + (1 - fake).log().mean()  # Eq. 5, to be maximised
    expected = torch.autograd.grad(-gain, list(critic.parameters()))
    for ours, theirs in zip(learned(discriminator, before_critic), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6 + 1e-4 * theirs.abs().max())


@pytest.mark.parametrize(
    ("limit", "binds"), [(0.5, True), (0.1, True), (1e9, False), (None, False)]
)
def test_the_discriminator_pulls_no_harder_than_its_limit_times_the_feedback(limit, binds):
    adversary = tiny_adversary(
        adversarial_limit=limit, optimizer=sgd, attacker=Noise(0.1), adversarial_weight=100.0
    )
    adversary.attack(HeatmapToy(), *heatmap_batch())
    report = adversary.report.read()
    ratio = report["share_adversarial"] / report["share_feedback"]
    if binds:
        assert ratio == pytest.approx(limit, rel=1e-4)
    else:
        assert ratio > 1


def test_the_discriminators_pass_over_the_adversarial_pictures_runs_once():
    discriminator = Recorder(tiny_discriminator())
    adversary = tiny_adversary(discriminator=discriminator)
    adversary(HeatmapToy(), *heatmap_batch())
    assert len(discriminator.calls) == 2  # one over the given pictures, one over their twins


def test_the_pictures_that_teach_the_attacker_train_the_detector():
    detector = Recorder(HeatmapToy())
    adversary = tiny_adversary(attacker=Recorder(tiny_attacker()), mode="alternating")
    adversary(detector, *heatmap_batch())
    taught, trained = (args[0] for args, _ in detector.calls)
    assert torch.equal(taught, trained)
    assert len(adversary.attacker.calls) == 1


def test_noise_is_fresh_in_every_step():
    attacker = Recorder(tiny_attacker())
    adversary = tiny_adversary(attacker=attacker)
    for _ in range(2):
        adversary.attack(HeatmapToy(), *heatmap_batch())
    first, second = (args[2] for args, _ in attacker.calls)
    assert not torch.equal(first, second)
    assert first.mean().abs() < 0.1
    assert first.std().item() == pytest.approx(1, abs=0.1)


def test_the_seed_decides_what_is_random():
    detector = deterministic_detector()
    attacker, discriminator = tiny_attacker(), tiny_discriminator()
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(results))  # the global state must not matter
        adversary = tiny_adversary(
            attacker=copy.deepcopy(attacker),
            discriminator=copy.deepcopy(discriminator),
            seed=seed,
        )
        results.append(adversary.attack(detector, *heatmap_batch()).images)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_without_update_nothing_moves():
    detector, adversary = HeatmapToy(), tiny_adversary()
    adversary(detector, *heatmap_batch())
    before, report = snapshot(adversary.state_dict()), adversary.report
    adversary.attack(detector, *heatmap_batch(), update=False)
    assert differences(before, adversary.state_dict()) == []
    assert adversary.report is report


def test_an_attack_without_update_works_where_gradients_are_off():
    detector, adversary = HeatmapToy(), tiny_adversary()
    with torch.no_grad():
        batch = adversary.attack(detector, *heatmap_batch(), update=False)
    assert batch.images.isfinite().all()

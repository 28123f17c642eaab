"""One training step: what it returns, what it learns, what it reports, what it refuses."""

import contextlib
import copy
import functools
import gc
import weakref

import oracles
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from toys import (
    SIDE,
    HeatmapToy,
    differences,
    grouped,
    heatmap_batch,
    pictures,
    snapshot,
    task_and_batch,
    tiny_adversary,
    tiny_attacker,
    tiny_discriminator,
)

from advaug import (
    CoordinateTask,
    HeatmapTask,
    PixelSpec,
    ReconstructionController,
    SampleAdaptiveAdversary,
)
from advaug import functional as saat
from advaug.step import paper_call
from advaug.step.modes import APART

IMAGENET = PixelSpec((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def sgd(parameters, lr=1.0):
    return torch.optim.SGD(parameters, lr=lr)


def deterministic_detector():
    return HeatmapToy(dropout=0.0)


def remember_attack(adversary, monkeypatch):
    """The batches that `attack` gives to the call."""
    batches, attack = [], adversary.attack

    def spy(*args, **kwargs):
        batches.append(attack(*args, **kwargs))
        return batches[-1]

    monkeypatch.setattr(adversary, "attack", spy)
    return batches


class Recorder(nn.Module):
    """A network that remembers what it was given and gave."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.calls = []

    def forward(self, *args):
        result = self.network(*args)
        self.calls.append((args, result))
        return result


class Noise(nn.Module):
    """An attacker of known strength that never learns (its optimizer's rate is zero)."""

    def __init__(self, strength):
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(float(strength)))

    def forward(self, images, structure, noise):
        return self.strength * noise.expand_as(images)


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


# --- the ablation switches -----------------------------------------------------------------------

SWITCHES = {
    "default": {},
    "beta-constant": {"beta": 0.5},
    "beta-zero": {"beta": 0.0},
    "beta-semantic": {"beta": "semantic"},
    "relaxation-zero": {"relaxation": 0.0},
    "relaxation-one": {"relaxation": 1.0},
    "without-structure": {"structure": False},
    "blind-attacker": {"structure": "discriminator"},
    "without-reconstruction": {"reconstruction_weight": 0},
    "constant-reconstruction": {"reconstruction_weight": 100.0},
    "controller": {"reconstruction_weight": ReconstructionController(target=0.8)},
    "without-discriminator": {"discriminator": None},
    "without-both": {"discriminator": None, "reconstruction_weight": 0},
    "minimax": {"adversarial_form": "minimax"},
    "no-weight-on-the-discriminator": {"adversarial_weight": 0.0},
    "running": {"batch_norm": "running"},
    "shared": {"batch_norm": "shared"},
    "split": {"batch_norm": "split"},
}


@pytest.mark.parametrize("options", SWITCHES.values(), ids=SWITCHES)
@pytest.mark.parametrize("kind", ["heatmap", "coordinate"])
def test_every_switch_trains_every_network_that_is_left(options, kind):
    task, images, target = task_and_batch(kind)
    detector = HeatmapToy()
    if kind == "coordinate":
        detector = nn.Sequential(detector, nn.AvgPool2d(SIDE // 2), nn.Flatten(2), nn.Linear(4, 2))
    adversary = tiny_adversary(task, **options)
    networks = {"attacker": adversary.attacker, "discriminator": adversary.discriminator}
    networks = {name: network for name, network in networks.items() if network is not None}
    before = {name: snapshot(network.state_dict()) for name, network in networks.items()}
    for _ in range(2):
        loss = adversary(detector, images, target)
        loss.backward()
    assert loss.isfinite()
    for name, network in networks.items():
        assert differences(before[name], network.state_dict()), f"{name} has not learned"
        assert all(p.isfinite().all() for p in network.parameters())


def test_without_structure_neither_network_sees_it_but_the_mask_remains():
    attacker, discriminator = Recorder(tiny_attacker(False)), Recorder(tiny_discriminator(False))
    adversary = tiny_adversary(attacker=attacker, discriminator=discriminator, structure=False)
    batch = adversary.attack(HeatmapToy(), *heatmap_batch())
    assert [args[1] for args, _ in attacker.calls + discriminator.calls] == [None, None, None]
    assert sorted(batch.mask.unique().tolist()) == pytest.approx([0.1, 1.0])


def test_a_blind_attacker_is_not_told_where_the_landmarks_are_but_the_discriminator_is():
    attacker, discriminator = Recorder(tiny_attacker(False)), Recorder(tiny_discriminator())
    adversary = tiny_adversary(
        attacker=attacker, discriminator=discriminator, structure="discriminator"
    )
    batch = adversary.attack(HeatmapToy(), *heatmap_batch())
    assert attacker.calls[0][0][1] is None
    for args, _ in discriminator.calls:
        assert torch.equal(args[1], batch.structure)


@pytest.mark.parametrize(
    ("options", "channels"),
    [
        ({}, (4, 4)),
        ({"structure": True}, (5, 4)),
        ({"structure": False}, (4, 3)),
    ],
    ids=["default", "both", "neither"],
)
def test_default_networks_have_a_channel_for_the_structure_map_where_they_get_it(options, channels):
    adversary = SampleAdaptiveAdversary(HeatmapTask(), **options)
    networks = (adversary.attacker, adversary.discriminator)
    assert tuple(next(net.parameters()).shape[1] for net in networks) == channels


def test_the_paper_sized_pair_is_one_word_away():
    with torch.device("meta"):
        adversary = SampleAdaptiveAdversary.paper(HeatmapTask())
    sizes = [
        sum(p.numel() for p in network.parameters())
        for network in (adversary.attacker, adversary.discriminator)
    ]
    assert sizes == [54_416_003, 2_766_657]


def test_without_a_discriminator_its_losses_and_its_share_are_zero():
    adversary = tiny_adversary(discriminator=None)
    batch = adversary.attack(HeatmapToy(), *heatmap_batch())
    assert not batch.losses.adversarial.any()
    assert not batch.losses.discriminator.any()
    report = adversary.report.read()
    assert report["share_adversarial"] == 0
    assert report["share_feedback"] > 0


def test_without_reconstruction_its_share_is_zero():
    adversary = tiny_adversary(reconstruction_weight=0)
    adversary.attack(HeatmapToy(), *heatmap_batch())
    assert adversary.report.read()["share_reconstruction"] == 0


def test_the_detector_is_no_part_of_the_adversary():
    detector, adversary = HeatmapToy(), tiny_adversary()
    adversary(detector, *heatmap_batch()).backward()
    theirs = {id(p) for p in detector.parameters()}
    assert not theirs & {id(p) for p in adversary.parameters()}
    assert detector not in list(adversary.modules())


# --- optimizers ----------------------------------------------------------------------------------


def test_the_optimizer_callable_is_used_once_for_each_network():
    given = []

    def make(parameters):
        given.append(list(parameters))
        return sgd(given[-1])

    adversary = tiny_adversary(optimizer=make)
    adversary(HeatmapToy(), *heatmap_batch())
    expected = [list(adversary.attacker.parameters()), list(adversary.discriminator.parameters())]
    assert [[id(p) for p in group] for group in given] == [[id(p) for p in g] for g in expected]


def test_the_default_optimizers_are_the_papers():
    adversary = tiny_adversary()
    for optimizer in (adversary.attacker_optimizer, adversary.discriminator_optimizer):
        assert type(optimizer) is torch.optim.Adam
        assert optimizer.defaults["lr"] == 1e-4
        assert optimizer.defaults["betas"] == (0.5, 0.999)


def twins():
    """Two detectors and adversaries that are the same."""
    detector = deterministic_detector()
    attacker, discriminator = tiny_attacker(), tiny_discriminator()
    made = [
        (
            copy.deepcopy(detector),
            tiny_adversary(
                attacker=copy.deepcopy(attacker), discriminator=copy.deepcopy(discriminator)
            ),
        )
        for _ in range(2)
    ]
    return made[0], made[1]


def test_accumulated_gradients_of_the_caller_are_added_to():
    (detector, adversary), (other, other_adversary) = twins()
    for parameter in detector.parameters():
        parameter.grad = torch.full_like(parameter, 8.0)
    kept = [parameter.grad for parameter in detector.parameters()]
    loss = adversary(detector, *heatmap_batch())
    assert all(
        parameter.grad is grad for parameter, grad in zip(detector.parameters(), kept, strict=True)
    )
    assert all((grad == 8).all() for grad in kept)
    loss.backward()
    other_adversary(other, *heatmap_batch()).backward()
    for ours, theirs in zip(detector.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad + 8, rtol=1e-4, atol=1e-4)


def test_clipping_the_detectors_gradients_does_not_reach_the_adversary():
    (detector, adversary), (other, other_adversary) = twins()
    for step in range(2):
        images, heatmaps = heatmap_batch(seed=step)
        adversary(detector, images, heatmaps).backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 1e-3)
        other_adversary(other, images, heatmaps).backward()
    assert differences(adversary.state_dict(), other_adversary.state_dict()) == []


def test_a_frozen_discriminator_judges_but_does_not_learn():
    adversary = tiny_adversary()
    adversary.discriminator.requires_grad_(False)
    before = snapshot(adversary.discriminator.state_dict())
    adversary(HeatmapToy(), *heatmap_batch()).backward()
    assert differences(before, adversary.discriminator.state_dict()) == []
    assert adversary.report.read()["share_adversarial"] > 0


# --- pixels and transform -------------------------------------------------------------------------


def test_a_detector_with_its_own_normalisation_is_attacked_alike():
    (net, plain), (_, normalised) = twins()
    for adversary in (plain, normalised):
        adversary.attacker_optimizer = sgd(adversary.attacker.parameters(), lr=0.1)
        adversary.discriminator_optimizer = sgd(adversary.discriminator.parameters(), lr=0.1)
    normalised.pixels = IMAGENET
    for step in range(3):
        images, heatmaps = heatmap_batch(seed=step)
        loss = plain(net, images, heatmaps)
        other = normalised(
            net,
            IMAGENET.from_unit(images),
            heatmaps,
            forward=lambda net, given: net(IMAGENET.to_unit(given)),
        )
        torch.testing.assert_close(loss, other, rtol=1e-4, atol=0)
    for ours, theirs in zip(plain.parameters(), normalised.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_an_attack_gives_pictures_as_the_detector_takes_them_and_the_rest_in_image_units():
    images, heatmaps = heatmap_batch()
    adversary = tiny_adversary(pixels=IMAGENET, attacker=Noise(0.05))
    batch = adversary.attack(HeatmapToy(), IMAGENET.from_unit(images), heatmaps, update=False)
    expected = IMAGENET.from_unit(images + batch.perturbation)
    torch.testing.assert_close(batch.images, expected, rtol=1e-4, atol=1e-5)
    assert batch.perturbation.std().item() == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("pixels", [PixelSpec(), IMAGENET], ids=["identity", "imagenet"])
def test_the_transform_comes_after_beta_and_before_the_detector(pixels, monkeypatch):
    seen = []

    def transform(images, target):
        seen.append(images.clone())
        return images.flip(-1) * 0.5, target.flip(-1)

    detector = Recorder(deterministic_detector())
    task = Recorder(nn.Identity())  # any module holds the log
    targets, error = [], HeatmapTask.error

    class Task(HeatmapTask):
        def error(self, output, target):
            targets.append(target)
            return error(self, output, target)

    del task
    images, heatmaps = heatmap_batch()
    adversary = tiny_adversary(Task(), transform=transform, pixels=pixels, attacker=Noise(0.1))
    batches = remember_attack(adversary, monkeypatch)
    adversary(detector, pixels.from_unit(images), heatmaps)
    (batch,) = batches
    adversarial = images + batch.perturbation
    torch.testing.assert_close(seen[0], adversarial, rtol=1e-4, atol=1e-5)  # in [0, 1] units
    torch.testing.assert_close(batch.beta, saat.adaptive_beta(images, adversarial, batch.mask))
    (first,), _ = detector.calls[0]
    (second,), _ = detector.calls[1]
    torch.testing.assert_close(pixels.to_unit(first), adversarial, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        pixels.to_unit(second), adversarial.flip(-1) * 0.5, rtol=1e-4, atol=1e-5
    )
    assert torch.equal(targets[0], heatmaps)
    assert torch.equal(targets[1], heatmaps.flip(-1))


# --- the report ----------------------------------------------------------------------


def test_the_report_says_what_the_step_did():
    images, heatmaps = heatmap_batch()
    adversary = tiny_adversary(attacker=Noise(0.4), optimizer=sgd, reconstruction_weight=7.0)
    discriminator = copy.deepcopy(adversary.discriminator)
    detector = Recorder(deterministic_detector().eval())
    batch = adversary.attack(detector, images, heatmaps)
    report = adversary.report.read()
    adversarial = images + batch.perturbation
    error = HeatmapTask().error(detector.calls[0][1], heatmaps)
    real = discriminator(images, batch.structure)
    fake = discriminator(adversarial, batch.structure)
    right = torch.cat([real.flatten() > 0, fake.flatten() < 0]).float()
    inside = (batch.mask == 1).expand_as(images)
    expected = {
        "error": error,
        "feedback": saat.feedback_loss(error),
        "adversarial": saat.attacker_adversarial_loss(fake),
        "reconstruction": saat.semantic_reconstruction_loss(images, adversarial, batch.mask),
        "discriminator": saat.discriminator_loss(real, fake),
        "discriminator_accuracy": right,
        "ssim": saat.ssim(batch.mask * images, batch.mask * adversarial),
        "semantic_ssim": saat.semantic_ssim(images, adversarial, batch.mask),
        "beta": batch.beta,
        "zero_beta": (batch.beta == 0).float(),
        "rms_inside": batch.perturbation[inside].square().mean().sqrt(),
        "rms_outside": batch.perturbation[~inside].square().mean().sqrt(),
        "reconstruction_weight": torch.tensor(7.0),
    }
    assert set(report) - set(expected) == {
        "share_feedback",
        "share_adversarial",
        "share_reconstruction",
        "alignment",
        "rise",
        "rise_over_appearance",
    }
    for name, value in expected.items():
        assert report[name] == pytest.approx(value.mean().item(), rel=1e-4, abs=1e-6), name
    for name in ("feedback", "adversarial", "reconstruction", "discriminator"):
        torch.testing.assert_close(
            getattr(batch.losses, name), expected[name].detach(), rtol=1e-4, atol=1e-6
        )


def test_the_shares_are_those_of_the_gradient_norms_at_the_adversarial_picture():
    images, heatmaps = heatmap_batch()
    adversary = tiny_adversary(
        attacker=Noise(0.1),
        optimizer=sgd,
        reconstruction_weight=7.0,
        adversarial_weight=0.5,
        adversarial_limit=None,
    )
    discriminator = copy.deepcopy(adversary.discriminator)
    detector = deterministic_detector().eval()
    batch = adversary.attack(detector, images, heatmaps)
    report = adversary.report.read()
    adversarial = (images + batch.perturbation).requires_grad_()
    error = HeatmapTask().error(detector(adversarial), heatmaps)
    fake = discriminator(adversarial, batch.structure)
    terms = {
        "share_feedback": saat.feedback_loss(error),
        "share_reconstruction": 7
        * saat.semantic_reconstruction_loss(images, adversarial, batch.mask),
        "share_adversarial": 0.5 * saat.attacker_adversarial_loss(fake),
    }
    norms = {
        name: torch.autograd.grad(term.mean(), adversarial, retain_graph=True)[0].norm().item()
        for name, term in terms.items()
    }
    for name, norm in norms.items():
        assert report[name] == pytest.approx(norm / sum(norms.values()), rel=1e-3), name
    assert sum(report[name] for name in norms) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("mode", ["alternating", "shared", "fused"])
@pytest.mark.parametrize("batch_norm", ["isolated", "running", "shared", "split"])
def test_a_step_reads_nothing_back_from_the_device(batch_norm, mode, monkeypatch):
    """Fake tensors have no values: `item`, `tolist`, `bool` and `nonzero` raise."""
    # Our own generator is on the CPU in any case; Adam's counters are there on an accelerator.
    monkeypatch.setattr(paper_call, "private_randomness", lambda *_: contextlib.nullcontext())
    optimizer = functools.partial(torch.optim.SGD, lr=0.1, fused=True)
    adversary = tiny_adversary(
        batch_norm=batch_norm,
        optimizer=optimizer,
        mode=mode,
        regions="random",
        appearance="random",
    )
    # As in most calls after the first: whether samples mix is tried in the 2nd, 4th, 8th ...
    monkeypatch.setattr(adversary, "reads", lambda _: False)
    monkeypatch.setattr(adversary._neighbours, "found", lambda *_: APART)
    detector, (images, heatmaps) = HeatmapToy(), heatmap_batch()
    if mode == "fused":
        detector.body[1] = nn.GroupNorm(2, 8)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        images, heatmaps = mode.from_tensor(images), mode.from_tensor(heatmaps)
        for _ in range(2):
            adversary(detector, images, heatmaps).backward()
        with pytest.raises(DataDependentOutputException):
            adversary.report.read()  # so that the test could have failed


def test_after_the_first_call_an_accelerators_values_are_not_read():
    adversary = tiny_adversary()
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert adversary.reads(gpu)
    adversary(HeatmapToy(), *heatmap_batch())
    assert not adversary.reads(gpu)
    assert adversary.reads(cpu)


# --- health ----------------------------------------------------------------------


def run_of(strength, steps=100, **options):
    """A run whose attacker has a known, fixed strength."""
    adversary = tiny_adversary(
        attacker=Noise(strength), optimizer=lambda p: sgd(p, lr=0.0), discriminator=None, **options
    )
    detector = nn.Conv2d(3, 3, 1)
    images, heatmaps = heatmap_batch(2)
    for _ in range(steps):
        adversary.attack(detector, images, heatmaps)
    return adversary.health()


def test_a_healthy_run_is_silent():
    health = run_of(0.08)
    assert 0.7 < health.means["semantic_ssim"] < 0.97
    assert health.messages == ()
    assert health.ok
    assert health.steps == 100
    assert "healthy" in str(health)


def test_a_run_of_false_samples_says_so():
    health = run_of(2.0)
    assert health.means["zero_beta"] == 1
    assert not health.ok
    assert "β is 0 for 100% of the samples" in str(health)
    assert "Raise the weight of L_R" in str(health)


def test_a_dead_attack_says_so():
    health = run_of(0.0)
    assert "the attacker does nothing" in str(health)
    assert "Lower the weight of L_R" in str(health)


def test_a_decoy_says_so():
    """Features painted over although the similarity of the whole picture is high."""

    class Decoy(Noise):
        def forward(self, images, structure, noise):
            return (structure >= 0.25) * (1 - 2 * images) * self.strength

    adversary = tiny_adversary(
        attacker=Decoy(1.0), optimizer=lambda p: sgd(p, lr=0.0), discriminator=None
    )
    for _ in range(100):
        adversary.attack(nn.Conv2d(3, 3, 1), *heatmap_batch(2))
    health = adversary.health()
    assert health.means["semantic_ssim"] < 0.7
    assert "painted over" in str(health) or "β is 0" in str(health)


def test_health_does_not_judge_before_it_has_seen_enough():
    assert run_of(0.0, steps=10).ok


def test_health_can_be_asked_before_the_first_step():
    health = tiny_adversary().health()
    assert health.ok
    assert health.steps == 0


def test_the_running_means_are_means_of_the_reports():
    adversary = tiny_adversary()
    read = []
    for step in range(5):
        adversary.attack(HeatmapToy(), *heatmap_batch(seed=step))
        read.append(adversary.report.read())
    means = adversary.health().means
    for name, mean in means.items():
        expected = sum(r[name] for r in read) / 5
        assert mean == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok="rise" in name), name


# --- visibility -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["heatmap", "coordinate"])
def test_a_sample_without_visible_landmarks_does_not_stop_the_batch(kind):
    task, images, target = task_and_batch(kind)
    visible = torch.ones(4, 3, dtype=torch.bool)
    visible[1] = False
    detector = nn.Sequential(HeatmapToy())
    if kind == "coordinate":
        detector.extend([nn.AvgPool2d(SIDE // 2), nn.Flatten(2), nn.Linear(4, 2)])
    adversary = tiny_adversary(task)
    for _ in range(3):
        loss = adversary(detector, images, (target, visible))
        loss.backward()
    assert loss.isfinite()
    assert all(p.isfinite().all() for p in adversary.parameters())
    assert all(p.grad.isfinite().all() for p in detector.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "kind",
    [
        "heatmap",
        "coordinate",
    ],
)
def test_nan_in_the_target_of_an_invisible_landmark_poisons_nobody(kind):
    task, images, target = task_and_batch(kind)
    visible = torch.ones(4, 3, dtype=torch.bool)
    visible[1, 2] = False
    target[1, 2] = torch.nan
    detector = nn.Sequential(HeatmapToy())
    if kind == "coordinate":
        detector.extend([nn.AvgPool2d(SIDE // 2), nn.Flatten(2), nn.Linear(4, 2)])
    adversary = tiny_adversary(task)
    adversary(detector, images, (target, visible)).backward()
    assert all(p.isfinite().all() for p in adversary.parameters())
    assert all(p.grad.isfinite().all() for p in detector.parameters())


# --- precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_it_works_inside_the_callers_autocast(dtype):
    detector, adversary = HeatmapToy(), tiny_adversary()
    before = snapshot(adversary.attacker.state_dict())
    caller = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(3):
        with torch.autocast("cpu", dtype):
            loss = adversary(detector, *heatmap_batch())
        assert loss.dtype == torch.float32
        caller.scale(loss / 65536).backward()
    assert caller.get_scale() == 1024.0
    assert loss.isfinite()
    assert differences(before, adversary.attacker.state_dict())
    assert all(p.isfinite().all() for p in adversary.parameters())
    assert all(p.grad.isfinite().all() for p in detector.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_pictures_and_detectors_work(dtype):
    detector = HeatmapToy().to(dtype)
    images, heatmaps = (value.to(dtype) for value in heatmap_batch())
    adversary = tiny_adversary()
    batch = adversary.attack(detector, images, heatmaps)
    assert batch.images.dtype == dtype
    assert batch.perturbation.dtype == torch.float32
    assert adversary(detector, images, heatmaps).isfinite()


def test_it_works_in_float64():
    detector, adversary = HeatmapToy().double(), tiny_adversary().double()
    images, heatmaps = (value.double() for value in heatmap_batch())
    for _ in range(2):
        loss = adversary(detector, images, heatmaps)
        loss.backward()
    assert loss.dtype == torch.float64


class NearlyRight(nn.Module):
    """A detector that is nearly right, whose feedback gradient is the largest there is."""

    def __init__(self, heatmaps):
        super().__init__()
        self.heatmaps = heatmaps
        self.net = nn.Conv2d(3, heatmaps.shape[1], 3, padding=1, bias=False)
        nn.init.normal_(self.net.weight, std=1e-3)

    def forward(self, images):
        return self.heatmaps + self.net(images)


def test_a_step_that_float16_overflows_is_skipped_and_does_not_spoil_the_health():
    images, heatmaps = heatmap_batch()
    adversary = tiny_adversary(discriminator=None)
    detector = NearlyRight(heatmaps)
    for _ in range(12):
        with torch.autocast("cpu", torch.float16):
            adversary.attack(detector, images, heatmaps)
    scale = adversary.state_dict()["_extra_state"]["loss_scale"]["scale"]
    assert scale < 65536, "nothing has overflown, so this shows nothing"
    assert all(p.isfinite().all() for p in adversary.parameters())
    means = adversary.health().means
    assert {name for name, value in means.items() if value != value} == {
        "rise",
        "rise_over_appearance",
    }


# --- bad input -----------------------------------------------------------------------


def bad(images=None, target=None, detector=None):
    """A change to a good call: functions of the pictures, of the heatmaps, of the detector."""
    return images, target, detector


def put(value, *place):
    def change(tensor):
        tensor = tensor.clone()
        tensor[place] = value
        return tensor

    return change


class Detached(nn.Module):
    """Cuts the graph between the pictures and what it gives."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images.detach())


class Called(nn.Module):
    """A network that is called in a way of its own."""

    def __init__(self, net, call):
        super().__init__()
        self.net, self.call = net, call

    def forward(self, images):
        return self.call(self.net, images)


def no_grad_detector(net):
    return Called(net, lambda net, images: torch.no_grad()(net)(images))


BAD_INPUT = {
    "images-list": (
        bad(list),
        TypeError,
        r"`images` must be a tensor \(B, 3, H, W\), but got a list",
    ),
    "images-3d": (bad(lambda x: x[0]), ValueError, r"`images` must be .* but got \(3, 32, 32\)"),
    "images-grey": (bad(lambda x: x[:, :1]), ValueError, r"`images` must be .*\(4, 1, 32, 32\)"),
    "images-nhwc": (bad(lambda x: x.movedim(1, -1)), ValueError, r"but got \(4, 32, 32, 3\)"),
    "images-empty": (bad(lambda x: x[:0], lambda t: t[:0]), ValueError, r"B >= 1, but got \(0, "),
    "images-uint8": (
        bad(lambda x: (255 * x).byte()),
        TypeError,
        "`images` must be floating point, but got torch.uint8.*/ 255",
    ),
    "images-float64": (
        bad(lambda x: x.double()),
        TypeError,
        r"`images` must fit the adversary's torch.float32, but got torch.float64.*images.float\(\)",
    ),
    "images-0-to-255": (
        bad(lambda x: 255 * x),
        ValueError,
        r"`images` must be in \[0, 1\], but got values from .* to .*Divide 0..255 pictures by 255",
    ),
    "images-normalised": (
        bad(IMAGENET.from_unit),
        ValueError,
        r"`images` must be in \[0, 1\], but got values from -.*PixelSpec\(mean, std\)",
    ),
    "images-nan": (bad(put(torch.nan, 2, 0, 5, 5)), ValueError, "`images` must be .* nan to nan"),
    "images-inf": (bad(put(torch.inf, 2, 0, 5, 5)), ValueError, "`images` must be .* to inf"),
    "images-smaller-than-ssims-window": (
        bad(lambda x: x[..., :8, :8], lambda t: torch.ones_like(t[..., :8, :8])),
        ValueError,
        "`images` must have sides of at least 11",
    ),
    "images-device": (
        bad(lambda x: x.to("meta")),
        ValueError,
        r"`images` must be on the adversary's device, cpu, but got meta",
    ),
    "target-device": (
        bad(target=lambda t: t.to("meta")),
        ValueError,
        "`target` must be on the device of `images`, cpu, but got meta",
    ),
    "target-batch": (
        bad(target=lambda t: t[:3]),
        ValueError,
        r"`target` must have the batch size of `images`, 4, but got \(3, 3, 32, 32\)",
    ),
    "target-float64": (
        bad(target=lambda t: t.double()),
        TypeError,
        "`target` must not be wider than the torch.float32 of `images`, but got torch.float64",
    ),
    "target-kind": (
        bad(target=lambda t: {"heatmaps": t}),
        TypeError,
        "`target` must be a tensor or",
    ),
    "target-2d": (bad(target=lambda t: t[:, 0, 0]), ValueError, "`target` must be heatmaps"),
    "target-nan": (
        bad(target=put(torch.nan, 1, 2, 3, 3)),
        ValueError,
        "`target` must be finite where a landmark is visible, but got NaN",
    ),
    "target-peak-255": (
        bad(target=lambda t: 255 * t),
        ValueError,
        r"`target` must give heatmaps in \[0, 1\] .* but got values from 0 to .*Divide by the peak",
    ),
    "target-empty-maps": (
        bad(target=torch.zeros_like),
        ValueError,
        "`target` must show at least one visible landmark",
    ),
    "target-all-invisible": (
        bad(target=lambda t: (t, torch.zeros(4, 3, dtype=torch.bool))),
        ValueError,
        "`target` must show at least one visible landmark",
    ),
    "target-visible-shape": (
        bad(target=lambda t: (t, torch.ones(4, 5, dtype=torch.bool))),
        ValueError,
        r"`visible` must be \(4, 3\), but got \(4, 5\)",
    ),
    "detector-landmarks": (
        bad(detector=lambda net: Called(net, lambda net, x: net(x)[:, :2])),
        ValueError,
        r"detector's output must have the target's shape .* but got \(4, 2, 32, 32\)",
    ),
    "detector-stride": (
        bad(detector=lambda net: Called(net, lambda net, x: net(x)[..., ::2, ::2])),
        ValueError,
        r"detector's output must .* but got \(4, 3, 16, 16\)",
    ),
    "detector-dict": (
        bad(detector=lambda net: Called(net, lambda net, x: {"heatmaps": net(x)})),
        TypeError,
        r"detector's output must be a tensor .* dict with the keys \['heatmaps'\].*output=lambda",
    ),
    "detector-nan": (
        bad(detector=lambda net: Called(net, lambda net, x: net(x) * torch.nan)),
        ValueError,
        "the detector's output must be finite",
    ),
    "detector-no-grad": (
        bad(detector=no_grad_detector),
        ValueError,
        "the detector's output must carry a graph to its input",
    ),
    "detector-detaches-its-input": (
        bad(detector=Detached),
        ValueError,
        "the detector's output must carry a graph to its input",
    ),
}


def assert_refused_and_unchanged(adversary, detector, call, kind, message):
    """The call raises as said, and neither adversary nor detector nor global state differs."""
    adversary.report = marker = adversary.report
    before = snapshot([adversary.state_dict(), detector.state_dict(), torch.get_rng_state()])
    with pytest.raises(kind, match=message):
        call()
    after = [adversary.state_dict(), detector.state_dict(), torch.get_rng_state()]
    assert differences(before, after) == []
    assert adversary.report is marker
    assert all(p.grad is None for p in [*adversary.parameters(), *detector.parameters()])


@pytest.mark.parametrize("fresh", [True, False], ids=["first-call", "later-call"])
@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        pytest.param(
            *case,
            id=name,
        )
        for name, case in BAD_INPUT.items()
    ],
)
def test_bad_input_is_named_and_nothing_has_changed(change, kind, message, fresh):
    detector, adversary = HeatmapToy(), tiny_adversary()
    images, heatmaps = heatmap_batch()
    if not fresh:
        adversary.attack(detector, images, heatmaps)
    to_images, to_target, to_detector = change
    images = to_images(images) if to_images else images
    heatmaps = to_target(heatmaps) if to_target else heatmaps
    given = to_detector(detector) if to_detector else detector
    assert_refused_and_unchanged(
        adversary, detector, lambda: adversary(given, images, heatmaps), kind, message
    )


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (put(torch.nan, 1, 2, 0), ValueError, "`target` must be finite"),
        (lambda t: t[..., :1], ValueError, r"`target` must be landmarks \(B, N, 2\)"),
        (lambda t: t + 500, ValueError, "at least one visible landmark .*pixels of the picture"),
        (lambda t: t.flatten(1), ValueError, r"`target` must be landmarks .* but got \(4, 6\)"),
        (
            lambda t: (t, torch.zeros(4, 3, dtype=torch.bool)),
            ValueError,
            "at least one visible landmark",
        ),
    ],
    ids=["nan", "one-coordinate", "outside", "flat", "all-invisible"],
)
def test_bad_coordinates_are_named_and_nothing_has_changed(change, kind, message):
    detector, adversary = HeatmapToy(), tiny_adversary(CoordinateTask())
    images, landmarks = pictures()
    assert_refused_and_unchanged(
        adversary, detector, lambda: adversary(detector, images, change(landmarks)), kind, message
    )


def test_a_call_without_gradients_is_refused_with_the_way_out():
    detector, adversary = HeatmapToy(), tiny_adversary()

    def call():
        with torch.no_grad():
            adversary(detector, *heatmap_batch())

    assert_refused_and_unchanged(
        adversary, detector, call, ValueError, r"gradients enabled.*attack\(\.\.\., update=False\)"
    )


def test_a_detector_that_does_not_fit_leaves_no_second_set_behind():
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    images, heatmaps = heatmap_batch()
    assert_refused_and_unchanged(
        adversary,
        detector,
        lambda: adversary(detector, images, heatmaps, forward=lambda net, x: net(x)[:, :2]),
        ValueError,
        "detector's output must have",
    )


def test_narrower_pictures_than_a_float64_adversary_are_named():
    adversary = tiny_adversary().double()
    with pytest.raises((TypeError, ValueError), match="`images`"):
        adversary(HeatmapToy().double(), *heatmap_batch())


def test_networks_that_do_not_fit_the_structure_switch_are_named():
    with pytest.raises(ValueError, match="`attacker` must be built with `structure=False`"):
        tiny_adversary(structure=False, attacker=tiny_attacker(structure=True))
    with pytest.raises(ValueError, match="`discriminator` must be built with `structure=True`"):
        tiny_adversary(discriminator=tiny_discriminator(structure=False))
    with pytest.raises(ValueError, match="`structure` must be one of .'discriminator',."):
        tiny_adversary(structure="attacker")


def test_a_task_of_ones_own_may_take_a_list_with_one_target_a_picture():
    """As in torchvision's keypoint detectors; the task alone knows what a target is."""

    class Ragged(HeatmapTask):
        def error(self, output, target):
            return super().error(output, torch.stack([item["maps"] for item in target]))

        def landmark_heatmaps(self, target, size):
            return super().landmark_heatmaps(torch.stack([item["maps"] for item in target]), size)

    images, heatmaps = heatmap_batch()
    target = [{"maps": maps} for maps in heatmaps]
    assert tiny_adversary(Ragged())(HeatmapToy(), images, target).isfinite()


BAD_OPTIONS = {
    "task": ({"task": object()}, TypeError, "`task` must have the methods error"),
    "beta-word": (
        {"beta": "auto"},
        ValueError,
        r"`beta` must be one of \('adaptive', 'semantic'\) or",
    ),
    "beta-negative": ({"beta": -0.5}, ValueError, "`beta` must not be negative, but got -0.5"),
    "beta-nan": ({"beta": float("nan")}, ValueError, "`beta` must"),
    "relaxation": ({"relaxation": -1.0}, ValueError, "`relaxation` must not be negative"),
    "form": ({"adversarial_form": "hinge"}, ValueError, "`adversarial_form` must be one of"),
    "batch-norm": ({"batch_norm": "none"}, ValueError, "`batch_norm` must be one of"),
    "discriminator-word": ({"discriminator": "patch"}, (TypeError, ValueError), "`discriminator`"),
    "reconstruction-word": (
        {"reconstruction_weight": "auto"},
        (TypeError, ValueError),
        "`reconstruction_weight`",
    ),
    "reconstruction-negative": (
        {"reconstruction_weight": -1.0},
        ValueError,
        "`reconstruction_weight`",
    ),
    "adversarial-negative": ({"adversarial_weight": -1.0}, ValueError, "`adversarial_weight`"),
}


@pytest.mark.parametrize(("options", "kind", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options_are_refused_when_it_is_made(options, kind, message):
    options = {"task": HeatmapTask(), "structure": True, "attacker": tiny_attacker(), **options}
    with pytest.raises(kind, match=message):
        SampleAdaptiveAdversary(options.pop("task"), **grouped(options))

"""The adversary's options: ablation switches, optimizers, pixels and transform."""

import copy

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
    HeatmapTask,
    PixelSpec,
    ReconstructionController,
    SampleAdaptiveAdversary,
)
from advaug import functional as saat

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

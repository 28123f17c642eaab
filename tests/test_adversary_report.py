"""What a step reports, and what a run's health says."""

import contextlib
import copy
import functools

import pytest
import torch
from probes import Noise, Recorder, deterministic_detector, sgd
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from toys import (
    HeatmapToy,
    heatmap_batch,
    tiny_adversary,
)

from advaug import (
    HeatmapTask,
)
from advaug import functional as saat
from advaug.step import paper_call
from advaug.step.modes import APART

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

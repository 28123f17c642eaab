"""Four policies: exactly which statistics move, which normalise, and what the second set learns."""

import copy
import warnings

import pytest
import torch
from torch import nn
from toys import HeatmapToy, heatmap_batch, tiny_adversary

from advaug import Schedule

POLICIES = ("isolated", "running", "shared", "split")


def statistics(detector):
    norm = detector.body[1]
    return [b.clone() for b in (norm.running_mean, norm.running_var, norm.num_batches_tracked)]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def second(adversary):
    return adversary.batch_norms.second


def seen_by(detector, adversary, images, heatmaps):
    """What goes into the detector's BatchNorm in each of the two passes, and what comes out."""
    passes, adversary.schedule = [], Schedule(mode="alternating")
    hook = detector.body[1].register_forward_hook(
        lambda _, given, out: passes.append((given[0].detach(), out.detach()))
    )
    adversary(detector, images, heatmaps)
    hook.remove()
    assert len(passes) == 2  # feedback, defence
    return passes


@pytest.mark.parametrize("policy", POLICIES)
def test_only_shared_moves_the_running_statistics_and_once_a_step(policy):
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm=policy)
    before = statistics(detector)
    adversary(detector, *heatmap_batch()).backward()
    moved = policy == "shared"
    assert same(before, statistics(detector)) != moved
    assert detector.body[1].num_batches_tracked == int(moved)


@pytest.mark.parametrize("policy", POLICIES)
def test_an_attack_alone_moves_no_statistics(policy):
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm=policy)
    adversary(detector, *heatmap_batch()).backward()
    before = statistics(detector), [b.clone() for b in second(adversary).buffers()]
    adversary.attack(detector, *heatmap_batch())
    assert same(before[0], statistics(detector))
    assert same(before[1], list(second(adversary).buffers()))


def test_shared_moves_by_what_the_defence_pass_has_seen():
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm="shared")
    reference = copy.deepcopy(detector.body[1])
    _, (given, _) = seen_by(detector, adversary, *heatmap_batch())
    reference(given)
    torch.testing.assert_close(detector.body[1].running_mean, reference.running_mean)
    torch.testing.assert_close(detector.body[1].running_var, reference.running_var)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_normalises_the_adversarial_pictures(policy):
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm=policy)
    norm = detector.body[1]
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    for given, out in seen_by(detector, adversary, *heatmap_batch()):
        centre, spread = mean, variance
        if policy != "running":
            centre, spread = given.mean(dim=(0, 2, 3)), given.var(dim=(0, 2, 3), unbiased=False)
        view = (1, -1, 1, 1)
        expected = (given - centre.view(view)) / (spread.view(view) + norm.eps).sqrt()
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_batch_norm_in_evaluation_stays_there(policy):
    """The usual way of fine-tuning: the modes are the caller's, and so are the statistics."""
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm=policy)
    detector.body[1].eval()
    before = statistics(detector)
    adversary(detector, *heatmap_batch()).backward()
    assert same(before, statistics(detector))
    assert not detector.body[1].training


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.BatchNorm2d(8, affine=False),
        lambda: nn.BatchNorm2d(8, track_running_stats=False),
        lambda: nn.BatchNorm2d(8, momentum=None),
        lambda: nn.GroupNorm(2, 8),
        lambda: nn.InstanceNorm2d(8, track_running_stats=True),
    ],
    ids=["no-affine", "no-statistics", "cumulative", "group", "instance"],
)
def test_other_norms_work_under_every_policy(policy, norm):
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm=policy)
    detector.body[1] = norm()
    for _ in range(2):
        adversary(detector, *heatmap_batch()).backward()
    assert detector.head.weight.grad.isfinite().all()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_clean_loss_from_before_the_call_still_backpropagates(policy):
    detector, adversary = HeatmapToy(dropout=0.0), tiny_adversary(batch_norm=policy)
    images, heatmaps = heatmap_batch()
    twin = copy.deepcopy(detector)
    clean = nn.functional.mse_loss(detector(images), heatmaps)
    adversary(detector, images, heatmaps)
    clean.backward()
    nn.functional.mse_loss(twin(images), heatmaps).backward()
    for ours, theirs in zip(detector.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


# --- the second set --------------------------------------------------------------------------


def train(adversary, detector, steps, seed=0):
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-5)
    for step in range(steps):
        images, heatmaps = heatmap_batch(seed=seed + step)
        loss = nn.functional.mse_loss(detector(images), heatmaps)
        loss = loss + adversary(detector, images, heatmaps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_the_second_set_starts_as_a_copy_and_goes_its_own_way():
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    assert len(second(adversary)) == 0
    train(adversary, detector, 4)
    twin, norm = second(adversary)[0], detector.body[1]
    assert twin.num_batches_tracked == 1 + 4  # copied after the first clean pass
    assert not torch.equal(twin.running_mean, norm.running_mean)
    assert not torch.equal(twin.weight, norm.weight)
    assert not torch.equal(twin.weight, torch.ones(8))
    assert not torch.equal(twin.bias, torch.zeros(8))


def test_the_first_set_learns_from_clean_pictures_alone():
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    adversary(detector, *heatmap_batch()).backward()
    norm = detector.body[1]
    assert norm.weight.grad is None
    assert norm.bias.grad is None
    assert detector.body[0].weight.grad is not None
    assert second(adversary)[0].weight.grad.abs().sum() > 0


def test_the_second_set_is_used_for_adversarial_pictures():
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    images, heatmaps = heatmap_batch()
    adversary(detector, images, heatmaps)
    with torch.no_grad():
        second(adversary)[0].weight.fill_(3.0)
        second(adversary)[0].bias.fill_(7.0)
    for _, out in seen_by(detector, adversary, images, heatmaps):
        assert out.mean().item() == pytest.approx(7.0, abs=0.01)
    assert torch.equal(detector.body[1].weight, torch.ones(8))


def test_a_fresh_adversary_takes_the_second_set_from_a_checkpoint():
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    train(adversary, detector, 3)
    fresh = tiny_adversary(batch_norm="split", seed=5)
    fresh.load_state_dict(adversary.state_dict())
    ours, theirs = second(adversary).state_dict(), second(fresh).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(
        a is not b
        for a, b in zip(second(adversary).parameters(), second(fresh).parameters(), strict=True)
    )
    # and goes on learning
    before = second(fresh)[0].weight.detach().clone()
    train(fresh, detector, 2)
    assert not torch.equal(second(fresh)[0].weight, before)


def test_the_second_set_of_a_checkpoint_goes_to_the_adversarys_device():
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    adversary(detector, *heatmap_batch())
    fresh = tiny_adversary(batch_norm="split").to("meta")  # as with map_location="cpu" and a GPU
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about copying to the meta device
        fresh.load_state_dict(adversary.state_dict())
    assert {p.device.type for p in second(fresh).parameters()} == {"meta"}


def test_a_second_set_for_another_detector_is_refused():
    adversary = tiny_adversary(batch_norm="split")
    adversary(HeatmapToy(), *heatmap_batch())
    without = nn.Conv2d(3, 3, 3, padding=1)
    with pytest.raises(ValueError, match=r"`batch_norm='split'` holds a second set for 1 .* has 0"):
        adversary(without, *heatmap_batch())


def test_an_overflown_backward_of_the_caller_does_not_poison_the_second_set():
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    (adversary(detector, *heatmap_batch()) * torch.inf).backward()
    adversary(detector, *heatmap_batch())
    assert all(p.isfinite().all() for p in second(adversary).parameters())


def test_an_unknown_policy_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"`batch_norm` must be one of isolated, .*'frozen'"):
        tiny_adversary(batch_norm="frozen")

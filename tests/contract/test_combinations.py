"""What can be combined: looks without gradients, warm-ups, the second set, appearances, S."""

import copy

import pytest
import torch
from torch import nn
from toys import (
    MARKS,
    HeatmapToy,
    differences,
    heatmap_batch,
    snapshot,
    tiny_adversary,
)

from advaug import CoordinateTask, HeatmapTask
from advaug.baselines import SecondCopy
from advaug.evaluation.evaluate import CONDITIONS, predict_under
from advaug.functional import structure_map
from advaug.report import RunningMeans, StepReport
from advaug.tasks import structure_of
from advaug.view.appearance import RandomAppearance

MODES = ("alternating", "shared", "fused")


def grouped():
    net = HeatmapToy(dropout=0.0)
    net.body[1] = nn.GroupNorm(2, 8)
    return net


# --- a look -------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_look_needs_no_gradients_keeps_no_graph_and_moves_nothing(context, frozen):
    net, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    net.requires_grad_(not frozen)
    before = snapshot([net.state_dict(), adversary.state_dict()])
    with context():
        one, other = (adversary.attack(net, *heatmap_batch(), update=False) for _ in range(2))
    assert torch.equal(one.images, other.images)
    assert not any(t.requires_grad for t in (one.images, one.beta, *one.losses))
    assert one.losses.feedback.isfinite().all()
    assert differences(before, [net.state_dict(), adversary.state_dict()]) == []


def test_a_look_shows_what_the_next_step_will_draw():
    net, adversary = HeatmapToy(dropout=0.0), tiny_adversary(regions="random")
    nn.init.normal_(adversary.attacker.last.weight, std=0.1)
    look = adversary.attack(net, *heatmap_batch(), update=False)
    step = adversary.attack(net, *heatmap_batch())
    assert torch.equal(look.images, step.images)
    assert not torch.equal(step.images, adversary.attack(net, *heatmap_batch()).images)


def test_learning_under_inference_mode_is_refused_with_the_way_out():
    with torch.inference_mode(), pytest.raises(ValueError, match="update=False"):
        tiny_adversary().attack(HeatmapToy(), *heatmap_batch())


# --- checkpoints that go backward twice -----------------------------------------------------------


class Checkpointed(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.toy, self.options = HeatmapToy(dropout=0.0), options

    def forward(self, images):
        again = torch.utils.checkpoint.checkpoint
        return self.toy.head(again(self.toy.body, images, **self.options))


@pytest.mark.parametrize("make", [tiny_adversary, lambda: SecondCopy.erasing(HeatmapTask())])
def test_reentrant_checkpoints_are_refused_with_the_way_out(make):
    net, defence = Checkpointed(use_reentrant=True), make()
    before = snapshot([net.state_dict(), defence.state_dict()])
    with pytest.raises(ValueError, match="use_reentrant=False") as caught:
        defence(net, *heatmap_batch())
    assert differences(before, [net.state_dict(), defence.state_dict()]) == []
    assert "Pass `use_reentrant=False` to `torch.utils.checkpoint.checkpoint`" in str(caught.value)
    plain = HeatmapToy(dropout=0.0)
    plain.load_state_dict(net.toy.state_dict())
    net.options = {"use_reentrant": False}  # the fix, literally
    twin = copy.deepcopy(defence)
    defence(net, *heatmap_batch()).backward()
    twin(plain, *heatmap_batch()).backward()
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)
    for ours, theirs in zip(net.buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs)


# --- a warm-up and the second set -----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_loss_counted_zero_times_teaches_the_attacker_and_not_the_detector(mode):
    net, adversary = grouped(), tiny_adversary(mode=mode)
    images, heatmaps = heatmap_batch()
    before = snapshot([*adversary.attacker.parameters()])
    clean = HeatmapTask().error(net(images), heatmaps).mean()
    clean.backward(retain_graph=True)
    wanted = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    (clean + 0.0 * adversary(net, images, heatmaps)).backward()
    assert differences(before, [*adversary.attacker.parameters()])
    for gradient, weight in zip(wanted, net.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1024.0, 2.0**-10])
def test_the_second_set_learns_without_the_callers_loss_scale(scale):
    torch.manual_seed(0)
    net = HeatmapToy(dropout=0.0)
    adversary = tiny_adversary(
        batch_norm="split", optimizer=lambda p: torch.optim.SGD(p, lr=1e-7), mode="shared"
    )
    (scale * adversary(net, *heatmap_batch())).backward()
    (gradient,) = (p.grad.clone() for p in [adversary.batch_norms.second[0].weight])
    adversary.batch_norms.step()
    moved = 1.0 - adversary.batch_norms.second[0].weight.detach()
    torch.testing.assert_close(moved, 1e-7 * gradient / scale, rtol=0.05, atol=2e-7)


def test_what_the_detector_has_frozen_stays_frozen_in_the_second_set():
    net, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    net.body[1].requires_grad_(False)
    for _ in range(3):
        adversary(net, *heatmap_batch()).backward()
    assert torch.equal(adversary.batch_norms.second[0].weight, torch.ones(8))


def test_one_broken_batch_does_not_poison_the_second_set():
    net, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    adversary(net, *heatmap_batch()).backward()
    with adversary.batch_norms.defence(net):
        net(torch.full((2, 3, 32, 32), torch.nan))
    assert all(b.isfinite().all() for b in adversary.batch_norms.second.buffers())


BROKEN = {
    "pictures": lambda images, heatmaps: (images * torch.nan, heatmaps),
    "one picture": lambda images, heatmaps: (
        images.index_fill(0, torch.tensor(1), torch.inf),
        heatmaps,
    ),
    "target": lambda images, heatmaps: (images, heatmaps * torch.nan),
}


@pytest.mark.parametrize("careful", [True, False], ids=["skips-the-backward", "goes-backward"])
@pytest.mark.parametrize("mode", ["alternating", "shared"])
@pytest.mark.parametrize("broken", BROKEN)
def test_one_broken_batch_leaves_a_whole_run_with_a_second_set_sound(
    monkeypatch, broken, mode, careful
):
    """As on an accelerator, where values are looked at in the first call only."""
    torch.manual_seed(0)
    net, adversary = HeatmapToy(dropout=0.0), tiny_adversary(batch_norm="split", mode=mode)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-6)
    monkeypatch.setattr(adversary, "reads", lambda _: adversary._calls == 0)

    def step(images, heatmaps):
        loss = adversary(net, images, heatmaps)
        optimizer.zero_grad()
        if loss.isfinite() or not careful:
            loss.backward()
        if all(p.grad is None or p.grad.isfinite().all() for p in net.parameters()):
            optimizer.step()
        return loss

    step(*heatmap_batch())
    second = adversary.batch_norms.second
    assert not step(*BROKEN[broken](*heatmap_batch())).isfinite()
    before = snapshot([*second.parameters()])
    for _ in range(3):
        assert step(*heatmap_batch()).isfinite()
    adversary.batch_norms.step()
    for held in (second, adversary.attacker, adversary.discriminator, net):
        assert all(value.isfinite().all() for value in held.state_dict().values())
    assert differences(before, [*second.parameters()])  # it goes on learning
    assert adversary.reconstruction_weight.offset.isfinite()


def test_the_second_set_can_be_made_before_a_schedule_is():
    net, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    adversary.batch_norms.prepare(net)
    assert len(adversary.batch_norms.second) == 1
    assert adversary.batch_norms._optimizer is not None


# --- what the library makes it takes --------------------------------------------------------------


def test_pictures_of_a_random_appearance_can_be_attacked():
    images, heatmaps = heatmap_batch(32)
    images = images.clamp(0, 1)
    torch.manual_seed(0)
    free = RandomAppearance(clamp=False)(images)
    assert free.min() < -0.05
    assert free.max() > 1.05
    shown = RandomAppearance()(images)
    assert shown.min() >= 0
    assert shown.max() <= 1
    tiny_adversary()(HeatmapToy(), shown, heatmaps).backward()


@pytest.mark.parametrize("make", ["transform", "defence"])
def test_a_transform_that_works_in_place_spoils_neither_pictures_nor_target(make):
    def transform(images, target):
        return images.mul_(0.5), target.mul_(0.5)

    images, heatmaps = heatmap_batch()
    before = snapshot([images, heatmaps])
    if make == "transform":
        tiny_adversary(transform=transform)(HeatmapToy(), images, heatmaps)
    else:
        SecondCopy(HeatmapTask(), transform=transform)(HeatmapToy(), images, heatmaps)
    assert differences(before, [images, heatmaps]) == []


# --- the structure map ----------------------------------------------------------------------------


@pytest.mark.parametrize("marks", [1, MARKS, 9])
def test_the_structure_map_by_parts_is_that_of_the_whole(marks):
    landmarks, visible = 32 * torch.rand(2, marks, 2), torch.rand(2, marks) > 0.3
    for target in (landmarks, (landmarks, visible), [landmarks, visible]):
        whole = structure_map(CoordinateTask().landmark_heatmaps(target, (32, 32)))
        assert torch.equal(structure_of(CoordinateTask(), target, (32, 32)), whole)
    heatmaps = torch.rand(2, marks, 8, 8)
    whole = structure_map(HeatmapTask().landmark_heatmaps((heatmaps, visible), (32, 32)))
    found = structure_of(HeatmapTask(), (heatmaps, visible), (32, 32))
    torch.testing.assert_close(found, whole)  # resized in other groups, rounded otherwise


def test_the_structure_map_never_holds_all_heatmaps(monkeypatch):
    held, task = [], CoordinateTask()
    plain = task.landmark_heatmaps

    def watched(target, size):
        heatmaps = plain(target, size)
        held.append(heatmaps.shape[1])
        return heatmaps

    monkeypatch.setattr(task, "landmark_heatmaps", watched)
    structure_of(task, 32 * torch.rand(2, 68, 2), (32, 32))
    assert max(held) <= 4
    assert sum(held) == 68


# --- health, evaluation ---------------------------------------------------------------------------


def test_a_weight_of_zero_by_choice_is_no_victory_of_the_attack():
    means = RunningMeans()
    values = dict.fromkeys(StepReport.__dataclass_fields__, torch.tensor(0.5))
    values |= {"zero_beta": torch.tensor(1.0), "semantic_ssim": torch.tensor(0.9)}
    for _ in range(100):
        means.update(StepReport(**values))
    assert "has won" in str(means.health())
    assert means.health(constant_beta=True).ok
    adversary = tiny_adversary(beta=0.0)
    adversary.running_means = means
    assert adversary.health().ok


def test_the_batch_size_of_an_evaluation_is_obeyed():
    seen = []

    class Looks(nn.Module):
        def forward(self, images):
            seen.append(len(images))
            return torch.zeros(len(images), MARKS, 2)

    images, landmarks = torch.rand(130, 3, 16, 16), torch.rand(130, MARKS, 2)
    conditions = {"clean": CONDITIONS["clean"]}
    for size, expected in ((100, [100, 30]), (65, [65, 65])):
        seen.clear()
        predict_under(
            Looks(), lambda o, _: o, images, landmarks, conditions=conditions, batch_size=size
        )
        assert seen == expected

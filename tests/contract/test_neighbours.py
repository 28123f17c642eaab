"""Which mode `"auto"` takes: where samples mix, by whatever means, the gradient is still right."""

import copy
import pickle
import warnings

import pytest
import torch
from test_modes import literal_adversary, moved
from timm.layers import EvoNorm2dB0
from torch import nn
from torch.nn import functional as F
from toys import SIDE, HeatmapToy, differences, heatmap_batch, snapshot, tiny_adversary

from advaug import HeatmapTask


class FunctionalNorm(nn.Module):
    """Batch statistics without a module of PyTorch's."""

    def forward(self, images):
        if self.training:
            return F.batch_norm(images, None, None, training=True)
        return images


class HandWrittenNorm(nn.Module):
    """Batch statistics by hand, with a running mean of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 8, 1, 1))

    def forward(self, images):
        mean = images.mean(dim=(0, 2, 3), keepdim=True)
        if self.training:
            self.mean.lerp_(mean.detach(), 0.1)
        spread = images.var(dim=(0, 2, 3), keepdim=True)
        return (images - mean) / (spread + 1e-5).sqrt()


class Gated(nn.Module):
    """A part that mixes samples behind a gate, which is closed at first, as in ReZero."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, images):
        return images + self.gate * F.batch_norm(images, None, None, training=True)


class Shuffled(nn.Module):
    """Mixes each sample with another one, drawn at random, in training."""

    def forward(self, images):
        return 0.7 * images + 0.3 * images[torch.randperm(len(images))]


def toy(norm):
    net = HeatmapToy(dropout=0.0)
    net.body[1] = norm
    return net


def frozen():
    net = HeatmapToy(dropout=0.0)
    net.body[1].eval()
    return net


def exported(norm):
    return torch.export.export(toy(norm), (torch.rand(4, 3, SIDE, SIDE),)).module()


def scripted(norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and still met
        return torch.jit.script(toy(norm))


def compiled(norm):
    torch._dynamo.reset()
    return torch.compile(toy(norm), backend="aot_eager")


MIXERS = {
    "class": lambda: toy(nn.BatchNorm2d(8)),
    "functional": lambda: toy(FunctionalNorm()),
    "hand-written": lambda: toy(HandWrittenNorm()),
    "evonorm": lambda: toy(EvoNorm2dB0(8)),
    "exported": lambda: exported(nn.BatchNorm2d(8)),
    "scripted": lambda: scripted(nn.BatchNorm2d(8)),
    "scripted-functional": lambda: scripted(FunctionalNorm()),
    "compiled": lambda: compiled(nn.BatchNorm2d(8)),
    "compiled-functional": lambda: compiled(FunctionalNorm()),
    "sync": lambda: toy(nn.SyncBatchNorm(8)),
    "shuffled": lambda: toy(Shuffled()),
}
APART = {
    "group": lambda: toy(nn.GroupNorm(2, 8)),
    "frozen": frozen,
    "exported-group": lambda: exported(nn.GroupNorm(2, 8)),
    "scripted-group": lambda: scripted(nn.GroupNorm(2, 8)),
    "compiled-group": lambda: compiled(nn.GroupNorm(2, 8)),
    "spectral": lambda: spectral(),
}


def spectral():
    net = toy(nn.GroupNorm(2, 8))
    nn.utils.parametrizations.spectral_norm(net.head)
    return net


def gradient(make, mode, beta):
    """The attacker's gradient in one step, all values in one vector, and the mode it ran in."""
    torch.manual_seed(0)
    net = make()
    torch.manual_seed(1)
    adversary = literal_adversary(HeatmapTask(), mode, beta=beta)
    before = [weight.detach().clone() for weight in adversary.attacker.parameters()]
    adversary(net, *heatmap_batch()).backward()
    change = torch.cat([each.flatten() for each in moved(adversary.attacker, before)])
    return change, adversary.chosen_mode


@pytest.mark.parametrize("beta", ["adaptive", 0.0])
@pytest.mark.parametrize("name", [*MIXERS, *APART])
def test_auto_gives_the_attackers_gradient_of_alternating(name, beta):
    make = {**MIXERS, **APART}[name]
    ours, mode = gradient(make, "auto", beta)
    theirs, _ = gradient(make, "alternating", beta)
    assert mode == ("shared" if name in MIXERS else "fused")
    # Where numbers are drawn within the detector each way of running draws others.
    if name != "shuffled":
        assert (ours - theirs).norm() < 1e-4 * theirs.norm()


@pytest.mark.parametrize("name", ["functional", "hand-written", "evonorm", "exported"])
def test_fused_is_refused_where_samples_were_seen_to_mix_and_nothing_has_moved(name):
    net, adversary = MIXERS[name](), tiny_adversary(mode="fused")
    before = snapshot([net.state_dict(), adversary.state_dict(), torch.get_rng_state()])
    with pytest.raises(ValueError, match=r"do not mix.*GroupNorm, or `mode='shared'`"):
        adversary(net, *heatmap_batch())
    after = [net.state_dict(), adversary.state_dict(), torch.get_rng_state()]
    assert differences(before, after) == []


def test_trying_moves_nothing_of_the_detector_and_draws_nothing_of_the_adversarys():
    """A run in which it is tried ends, bit for bit, where one ends in which it is not."""
    ends = []
    for tried in (True, False):
        torch.manual_seed(0)
        net, adversary = toy(nn.GroupNorm(2, 8)), tiny_adversary()
        net.body[3] = nn.Dropout2d(0.3)
        if not tried:
            adversary._neighbours.found = lambda *_: False
        for step in range(4):
            adversary(net, *heatmap_batch(seed=step)).backward()
        assert adversary.chosen_mode == "fused"
        ends.append([net.state_dict(), adversary.state_dict(), torch.get_rng_state()])
    assert differences(*ends) == []


def test_it_is_tried_rarely():
    net, adversary = toy(nn.GroupNorm(2, 8)), tiny_adversary()
    passes, course = [], []
    net.register_forward_hook(lambda *_: passes.append(None))
    for _ in range(9):
        adversary(net, *heatmap_batch()).backward()
        course.append(len(passes) - 1)
        passes.clear()
    assert [count > 0 for count in course] == [n in (1, 2, 4, 8) for n in range(1, 10)]
    assert max(course) == 1


def test_what_opens_later_is_found_later():
    net, adversary = toy(Gated()), tiny_adversary()
    modes = []
    for _ in range(4):
        adversary(net, *heatmap_batch()).backward()
        modes.append(adversary.chosen_mode)
        with torch.no_grad():
            net.body[1].gate.fill_(0.01)
    assert modes == ["fused", "shared", "shared", "shared"]


def test_a_head_that_starts_at_zero_proves_nothing():
    net, adversary = toy(FunctionalNorm()), tiny_adversary()
    nn.init.zeros_(net.head.weight)
    adversary(net, *heatmap_batch()).backward()
    assert adversary.chosen_mode == "shared"


def test_each_set_of_modes_has_its_own_answer():
    net, adversary = toy(FunctionalNorm()), tiny_adversary()
    for training, mode in ((True, "shared"), (False, "fused"), (True, "shared")):
        net.train(training)
        adversary(net, *heatmap_batch()).backward()
        assert adversary.chosen_mode == mode


def test_one_picture_has_no_neighbours_and_says_nothing_of_others():
    net, adversary = toy(FunctionalNorm()), tiny_adversary()
    for count, mode in ((1, "fused"), (4, "shared")):
        adversary(net, *heatmap_batch(count)).backward()
        assert adversary.chosen_mode == mode


def test_an_adversary_that_has_tried_can_be_copied_and_pickled():
    net, adversary = toy(nn.GroupNorm(2, 8)), tiny_adversary()
    adversary(net, *heatmap_batch()).backward()
    for other in (
        copy.deepcopy(adversary),
        pickle.loads(pickle.dumps(adversary._neighbours)),
    ):  # our own
        assert other is not None


# --- what carries no graph to the pictures -------------------------------------------------------


class CutOff(nn.Module):
    """A backbone that is fixed in a way that cuts the graph."""

    def __init__(self, way):
        super().__init__()
        self.toy, self.way = HeatmapToy(dropout=0.0), way
        self.toy.body[1] = nn.GroupNorm(2, 8)

    def forward(self, images):
        if self.way == "detach":
            return self.toy.head(self.toy.body(images).detach())
        with torch.no_grad() if self.way == "no_grad" else torch.inference_mode():
            features = self.toy.body(images)
        return self.toy.head(features)


@pytest.mark.parametrize("mode", ["auto", "alternating", "shared", "fused"])
@pytest.mark.parametrize("way", ["detach", "no_grad", "inference_mode"])
def test_a_cut_off_backbone_is_told_as_that_in_the_first_call(way, mode):
    net, adversary = CutOff(way), tiny_adversary(mode=mode)
    before = snapshot([net.state_dict(), adversary.state_dict()])
    with pytest.raises(
        ValueError, match=r"must carry a graph to its input.*requires_grad_\(False\)"
    ):
        adversary(net, *heatmap_batch())
    assert differences(before, [net.state_dict(), adversary.state_dict()]) == []

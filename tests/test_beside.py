"""`beside=`: the paper's loss in the scale of the caller's, and what health says of scales."""

import copy

import pytest
import torch
from torch import nn
from toys import HeatmapToy, differences, heatmap_batch, snapshot, tiny_adversary

from advaug import HeatmapTask, Objective
from advaug.step.beside import EVERY, HORIZON, relaxation_findings


def one_call(adversary, net, *, seed=0, factor=1.0):
    """A step as a user writes it; gives the caller's loss and the adversary's."""
    images, heatmaps = heatmap_batch(seed=seed)
    own = factor * nn.functional.mse_loss(net(images), heatmaps)
    defence = adversary(net, images, heatmaps, beside=own)
    (own + defence).backward()
    return own.detach(), defence.detach()


def grouped():
    net = HeatmapToy(dropout=0.0)
    net.body[1] = nn.GroupNorm(2, 8)
    return net


@pytest.mark.parametrize("mode", ["alternating", "shared", "fused"])
def test_beside_a_mean_squared_error_the_ratio_is_one_in_65536(mode):
    torch.manual_seed(0)
    adversary = tiny_adversary(mode=mode)
    one_call(adversary, grouped())
    assert float(adversary.beside.ratio) == pytest.approx(1 / 65536, rel=1e-3)


@pytest.mark.parametrize("mode", ["alternating", "shared", "fused"])
@pytest.mark.parametrize("loss_weight", [1.0, 0.5])
def test_the_loss_is_that_of_the_weight_which_the_ratio_stands_for(mode, loss_weight):
    net, images, heatmaps = grouped(), *heatmap_batch()
    ends = []
    for by_hand in (True, False):
        twin = copy.deepcopy(net)
        torch.manual_seed(0)
        scale = loss_weight / 65536 if by_hand else loss_weight
        adversary = tiny_adversary(mode=mode, loss_weight=scale)
        own = nn.functional.mse_loss(twin(images), heatmaps)
        given = {} if by_hand else {"beside": own}
        loss = adversary(twin, images, heatmaps, **given)
        loss.backward()
        gradients = [p.grad for p in twin.parameters()]
        ends.append([loss.detach(), *gradients, *adversary.attacker.parameters()])
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-7)


def test_it_is_measured_in_the_first_call_and_in_every_fiftieth():
    net, adversary = grouped(), tiny_adversary(mode="shared")
    passes = []
    net.register_forward_hook(lambda *_: passes.append(None))
    extra = []
    for _ in range(EVERY + 2):
        passes.clear()
        one_call(adversary, net)
        extra.append(len(passes) - 2)  # the caller's, and the adversary's
    assert [n for n, count in enumerate(extra) if count] == [0, EVERY]
    assert max(extra) == 1


def test_the_ratio_follows_the_callers_loss_slowly():
    net, adversary = grouped(), tiny_adversary(mode="shared")
    for call in range(EVERY + 1):
        one_call(adversary, net, factor=1.0 if call < EVERY else 3.0)
    assert float(adversary.beside.ratio) == pytest.approx(2 / 65536, rel=1e-3)


def test_measuring_moves_nothing_of_the_detector_and_draws_nothing():
    ends = []
    for beside in (True, False):
        torch.manual_seed(0)
        net = HeatmapToy()
        adversary = tiny_adversary(mode="shared")
        images, heatmaps = heatmap_batch()
        given = {"beside": torch.ones(())} if beside else {}
        adversary(net, images, heatmaps, **given)
        ends.append([net.state_dict(), adversary.attacker.state_dict(), torch.get_rng_state()])
    assert differences(*ends) == []


def test_a_run_that_is_resumed_goes_on_with_its_ratio():
    net, adversary = grouped(), tiny_adversary(mode="shared")
    one_call(adversary, net, factor=7.0)
    other = tiny_adversary(mode="shared", seed=5)
    other.load_state_dict(copy.deepcopy(adversary.state_dict()))
    twin = copy.deepcopy(net)
    losses = [one_call(*pair, factor=1.0)[1] for pair in ((adversary, net), (other, twin))]
    assert torch.equal(*losses)
    assert differences(adversary.beside.state_dict(), other.beside.state_dict()) == []


def test_a_measure_that_is_not_finite_changes_nothing():
    net, adversary = grouped(), tiny_adversary(mode="shared")
    for call in range(EVERY + 1):
        one_call(adversary, net, factor=float("nan") if call == EVERY else 1.0)
    assert float(adversary.beside.ratio) == pytest.approx(1 / 65536, rel=1e-3)
    assert adversary.beside.share.isfinite()


@pytest.mark.parametrize(
    ("beside", "kind", "message"),
    [
        (0.3, TypeError, "`beside` must be your loss .* scalar tensor, but got"),
        (torch.ones(4), TypeError, "`beside` must be your loss .* scalar tensor, but got"),
        (torch.zeros(()), ValueError, "`beside` must be finite and above zero .* but is 0"),
        (torch.tensor(torch.nan), ValueError, "`beside` must be finite and above zero .* is nan"),
    ],
)
def test_a_loss_that_cannot_be_compared_is_refused_and_nothing_has_moved(beside, kind, message):
    net, adversary = HeatmapToy(), tiny_adversary()
    before = snapshot([net.state_dict(), adversary.state_dict()])
    with pytest.raises(kind, match=message):
        adversary(net, *heatmap_batch(), beside=beside)
    assert differences(before, [net.state_dict(), adversary.state_dict()]) == []


@pytest.mark.parametrize(("loss_weight", "words"), [(0.01, "Raise"), (1.0, None), (100.0, "Lower")])
def test_health_speaks_where_one_of_the_two_losses_hardly_counts(loss_weight, words):
    torch.manual_seed(0)
    net, adversary = grouped(), tiny_adversary(mode="shared", loss_weight=loss_weight, beta=0.5)
    for _ in range(HORIZON):
        one_call(adversary, net)
    said = [text for text in adversary.beside.findings() if "is added to" in text]
    assert len(said) == (words is not None)
    assert all(words in text and text in adversary.health().messages for text in said)


def test_health_speaks_where_relaxation_is_far_from_the_error():
    assert relaxation_findings(0.1, float("nan")) == []
    for far in (1e-4, 1e3):
        assert len(relaxation_findings(far, 1.0)) == 1
    for near in (2e-3, 1.0, 9.0):
        assert relaxation_findings(near, 1.0) == []
    net, adversary = grouped(), tiny_adversary(objective=Objective(relaxation=1e9))
    for _ in range(HORIZON):
        adversary(net, *heatmap_batch()).backward()
    assert any("λ is 1e+09" in text for text in adversary.health().messages)
    error = HeatmapTask().error(net(heatmap_batch()[0]), heatmap_batch()[1]).mean().item()
    assert relaxation_findings(error, error) == []

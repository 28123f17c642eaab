"""Borrowing: what a detector is, what comes back, whose randomness is used."""

import functools
import random
import warnings

import numpy as np
import pytest
import torch
from counted import calls
from torch import nn
from toys import HeatmapToy, differences, heatmap_batch, snapshot, tiny_adversary

from advaug.step.loan import as_borrowed, batch_norms, borrowed, private_randomness


class Plain:
    """An object that is no module, but has a method that runs one."""

    def __init__(self, net, records=()):
        self.net, self.records = net, records

    def predict(self, images):
        return self.net(images)


class ModuleWithMethod(nn.Module):
    """The network, and beside it what is no part of how it is run."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def predict(self, images):
        return self.net(images)


def run(net, images):
    return net(images)


def run_by_keyword(images, *, net):
    return net(images)


def closure(net):
    return lambda images: net(images)


TOLD = {
    "module": lambda net: net,
    "method-of-module": lambda net: ModuleWithMethod(net).predict,
    "forward-of-module": lambda net: net.forward,
    "partial-of-module": lambda net: functools.partial(net),
    "partial-of-method": lambda net: functools.partial(ModuleWithMethod(net).predict),
    "partial-of-function": lambda net: functools.partial(run, net),
    "partial-by-keyword": lambda net: functools.partial(run_by_keyword, net=net),
    "compiled-module": lambda net: torch.compile(net, backend="eager"),
}
BLACK_BOXES = {
    "lambda": closure,
    "method-of-plain-object": lambda net: Plain(net).predict,
    "partial-of-lambda": lambda net: functools.partial(closure(net)),
    "partial-of-two-modules": lambda net: functools.partial(run, net, loss=nn.BatchNorm2d(3)),
    "compiled-lambda": lambda net: torch.compile(closure(net), backend="eager"),
}


@pytest.mark.parametrize("hold", TOLD.values(), ids=TOLD)
def test_a_module_is_known_by_what_it_is_and_how_it_is_called(hold):
    net = HeatmapToy(dropout=0.0)
    loan = as_borrowed(hold(net))
    assert [id(norm) for norm in batch_norms(loan.modules)] == [id(net.body[1])]
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(loan(images), net(images))


def test_forward_says_how_a_module_is_called():
    net = ModuleWithMethod(HeatmapToy(dropout=0.0))
    images = torch.rand(2, 3, 8, 8)
    loan = as_borrowed(net, lambda net, x: net.predict(x) + 1)
    torch.testing.assert_close(loan(images), net.predict(images) + 1)
    assert len(batch_norms(loan.modules)) == 1


@pytest.mark.parametrize("hold", BLACK_BOXES.values(), ids=BLACK_BOXES)
def test_any_other_callable_is_a_black_box_which_is_said_once(hold):
    detector = hold(HeatmapToy())
    with pytest.warns(UserWarning, match="forward=lambda net, x") as said:
        loans = [as_borrowed(detector) for _ in range(3)]
    assert [loan.modules for loan in loans] == [[], [], []]
    assert len(said) == 1


def test_a_black_box_without_weak_references_is_said_once_for_its_kind():
    class Slotted:
        __slots__ = ()

        def __call__(self, images):
            return images

    with pytest.warns(UserWarning, match="forward=lambda net, x") as said:
        assert len([as_borrowed(Slotted()) for _ in range(3)]) == 3
    assert len(said) == 1


@pytest.mark.parametrize(
    ("detector", "forward"), [(3, None), (None, None), (closure(None), run), (3, run)]
)
def test_what_cannot_be_a_detector_is_refused_with_the_way_out(detector, forward):
    with pytest.raises(TypeError, match=r"`detector` must be an nn.Module.*forward=lambda net, x"):
        as_borrowed(detector, forward)


def test_a_black_box_is_trained_in_the_mode_that_is_exact_for_everything():
    net, adversary = HeatmapToy(), tiny_adversary()
    with pytest.warns(UserWarning, match="forward="):
        adversary(closure(net), *heatmap_batch()).backward()
    assert adversary.chosen_mode == "shared"
    assert net.head.weight.grad.isfinite().all()
    adversary = tiny_adversary(mode="fused")
    with (
        pytest.warns(UserWarning, match="forward="),
        pytest.raises(ValueError, match=r"'fused'.*forward=.*mode='shared'"),
    ):
        adversary(closure(net), *heatmap_batch())


@pytest.mark.parametrize("use", ["call", "attack"])
def test_with_forward_nothing_of_a_detector_moves(use):
    net, adversary = ModuleWithMethod(HeatmapToy()), tiny_adversary()
    before = snapshot(net.state_dict())
    step = adversary if use == "call" else adversary.attack
    step(net, *heatmap_batch(), forward=lambda net, x: net.predict(x))
    assert differences(before, net.state_dict()) == []


def test_networks_beside_the_detector_are_no_part_of_it():
    """An object that holds a loss network, a slow twin and the adversary itself."""
    net, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    holder = Plain(net)
    holder.loss, holder.twin, holder.adversary = HeatmapToy(), HeatmapToy(), adversary
    adversary(net, *heatmap_batch(), forward=lambda net, x: holder.predict(x)).backward()
    assert len(adversary.batch_norms.second) == 1


def test_what_an_object_holds_costs_nothing():
    """50,000 records beside a network: a walk over them took half a minute a step."""
    records = [{"id": n, "points": [n, n + 1], "file": {"name": str(n)}} for n in range(50_000)]
    images, heatmaps = heatmap_batch()
    counts = []
    for held in ([], records):
        holder = Plain(HeatmapToy(), held)
        adversary = tiny_adversary()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adversary(holder.predict, images, heatmaps).backward()
            step = functools.partial(adversary, holder.predict, images, heatmaps)
            counts.append(calls(step))
    assert counts[0] > 100
    assert counts[1] < counts[0] + len(records) / 10


def test_a_detector_and_an_appearance_that_work_in_place_spoil_nothing():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.toy = HeatmapToy(dropout=0.0)

        def forward(self, images):
            return self.toy(images.sub_(0.5).div_(0.25))

    def darker(images):
        return images.mul_(0.5)

    images, heatmaps = heatmap_batch()
    kept = images.clone()
    ends = []
    for mode in ("alternating", "shared"):
        torch.manual_seed(0)
        net, adversary = InPlace(), tiny_adversary(appearance=darker, mode=mode)
        loss = adversary(net, images, heatmaps)
        loss.backward()
        ends.append([loss.detach(), net.toy.head.weight.grad])
        assert torch.equal(images, kept)
    torch.testing.assert_close(*ends)
    attack = adversary.attack(net, images, heatmaps, update=False)
    assert torch.equal(images, kept)
    torch.testing.assert_close(attack.images, 0.5 * (kept + attack.perturbation))


# --- the loan --------------------------------------------------------------------------------


def test_what_is_borrowed_comes_back_as_the_very_same_objects():
    net = HeatmapToy()
    net.body[1].eval()
    buffers = {name: (id(b), b._version) for name, b in net.named_buffers()}
    parameters = {name: id(p) for name, p in net.named_parameters()}
    modes = [module.training for module in net.modules()]
    values = [buffer.clone() for buffer in net.buffers()]
    with borrowed(net) as modules:
        net.train()
        net(torch.rand(2, 3, 8, 8))
        net.body[1].running_mean.add_(5)
        net.body[1]._parameters["weight"] = nn.Parameter(torch.zeros(8))
        assert len(modules) == len(list(net.modules()))
    assert {name: (id(b), b._version) for name, b in net.named_buffers()} == buffers
    assert {name: id(p) for name, p in net.named_parameters()} == parameters
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(values, net.buffers(), strict=True))


def test_what_is_borrowed_comes_back_after_an_exception():
    net = HeatmapToy()
    before = {name: id(b) for name, b in net.named_buffers()}

    def fail():
        with borrowed(net):
            net.eval()
            net.body[1].running_mean.add_(5)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert net.training
    assert net.body[1].training
    assert {name: id(b) for name, b in net.named_buffers()} == before
    assert not net.body[1].running_mean.any()


def test_a_buffer_that_two_modules_share_stays_shared_on_loan():
    one, two = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    two.running_mean = one.running_mean
    net = nn.Sequential(one, two)
    with borrowed(net):
        assert one.running_mean is two.running_mean
        one.running_mean.add_(1)
    assert not one.running_mean.any()
    assert one.running_mean is two.running_mean


def test_kept_buffers_are_written_to():
    net = HeatmapToy()
    with borrowed(net, keep_buffers=True):
        net(torch.rand(2, 3, 8, 8))
    assert net.body[1].num_batches_tracked == 1


def test_a_graph_from_before_the_loan_still_backpropagates():
    net = HeatmapToy()
    net.body[1].eval()  # its graph keeps the running statistics
    loss = net(torch.rand(2, 3, 8, 8)).sum()
    with borrowed(net):
        net.train()
        net(torch.rand(2, 3, 8, 8))
        net.body[1].running_mean.zero_()
    loss.backward()
    assert net.body[0].weight.grad.isfinite().all()


# --- randomness ------------------------------------------------------------------------------

CPU = torch.device("cpu")


def test_the_global_random_state_is_left_alone():
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    with private_randomness(torch.Generator().manual_seed(1), CPU):
        torch.rand(10)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]


def test_what_is_drawn_depends_on_the_own_generator_alone():
    def draw(seed):
        with private_randomness(torch.Generator().manual_seed(seed), CPU):
            return torch.rand(4)

    first = draw(1)
    torch.manual_seed(99)
    assert torch.equal(draw(1), first)
    assert not torch.equal(draw(2), first)


def test_successive_draws_differ():
    generator = torch.Generator().manual_seed(1)
    drawn = []
    for _ in range(3):
        with private_randomness(generator, CPU):
            drawn.append(torch.rand(4))
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def test_after_an_exception_both_generators_are_as_they_were():
    generator = torch.Generator().manual_seed(1)
    before, outside = generator.get_state(), torch.get_rng_state()

    def fail():
        with private_randomness(generator, CPU):
            torch.rand(3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), outside)

"""Borrowing: which modules a callable holds, what comes back, whose randomness is used."""

import functools
import random

import numpy as np
import pytest
import torch
from torch import nn
from toys import HeatmapToy, MultiStageToy

from advaug.step.loan import as_borrowed, batch_norms, borrowed, private_randomness

NET = HeatmapToy()  # a global, for the functions below


def global_function(images):
    return NET(images)


def calls_another_function(images):
    return global_function(images)


def global_in_a_comprehension(images):
    return [network(images) for network in (NET,)]


class Plain:
    """An object that is neither a module nor callable, but has a method that runs one."""

    def __init__(self, net):
        self.net = net

    def predict(self, images):
        return self.net(images)


class Deep:
    def __init__(self, net):
        self.inner = Plain(net)

    def __call__(self, images):
        return self.inner.predict(images)


class ModuleWithMethod(nn.Module):
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


def closure_over(holder):
    return lambda images: holder and images


HOLDERS = {
    "module": lambda net: net,
    "lambda": closure,
    "lambda-in-lambda": lambda net: closure(closure(net)),
    "lambda-default-argument": lambda net: lambda images, net=net: net(images),
    "lambda-keyword-default": lambda net: lambda images, *, net=net: net(images),
    "closure-over-list": lambda net: closure_over([net]),
    "closure-over-dict": lambda net: closure_over({"net": net}),
    "closure-over-object": lambda net: closure_over(Plain(net)),
    "partial": lambda net: functools.partial(run, net),
    "partial-keyword": lambda net: functools.partial(run_by_keyword, net=net),
    "partial-of-lambda": lambda net: functools.partial(closure(net)),
    "method-of-module": lambda net: ModuleWithMethod(net).predict,
    "forward-of-module": lambda net: net.forward,
    "method-of-plain-object": lambda net: Plain(net).predict,
    "partial-of-plain-method": lambda net: functools.partial(Plain(net).predict),
    "callable-object": lambda net: Deep(net),
    "lambda-over-callable-object": lambda net: closure(Deep(net)),
    "wraps": lambda net: functools.wraps(run)(closure(net)),
    "compiled-module": lambda net: torch.compile(net, backend="eager"),
    "compiled-lambda": lambda net: torch.compile(closure(net), backend="eager"),
}
HOLDER_TABLE = [pytest.param(hold, id=name) for name, hold in HOLDERS.items()]


@pytest.mark.parametrize("hold", HOLDER_TABLE)
def test_the_batch_norms_of_whatever_holds_a_network_are_found(hold):
    net = HeatmapToy()
    found = batch_norms(modules_of(hold(net)))
    assert [id(norm) for norm in found] == [id(net.body[1])]


@pytest.mark.parametrize(
    "function",
    [global_function, calls_another_function, global_in_a_comprehension],
    ids=lambda f: f.__name__,
)
def test_networks_that_a_function_finds_among_its_globals_are_found(function):
    assert NET.body[1] in modules_of(function)


def test_a_network_that_holds_a_network_is_found_whole():
    net = MultiStageToy()
    assert {id(m) for m in modules_of(net)} == {id(m) for m in net.modules()}
    assert len(batch_norms(modules_of(net))) == 2


def test_a_function_without_networks_has_none():
    assert modules_of(lambda images: images * 2) == []


def test_cyclic_references_end():
    net = HeatmapToy()
    holder = {"net": net}
    holder["self"] = holder
    assert net.body[1] in modules_of(closure_over(holder))


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


def test_only_a_distributed_wrapper_is_unwrapped():
    net = HeatmapToy()
    assert unwrapped(net) is net
    function = closure(net)
    assert unwrapped(function) is function


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

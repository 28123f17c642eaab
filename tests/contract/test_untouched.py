"""What the caller owns is bit-identical after a call, for every kind of detector and on errors."""

import contextlib
import copy
import functools
import os
import random
import shutil
import warnings

import numpy as np
import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from toys import (
    MARKS,
    SIDE,
    CoordinateToy,
    HeatmapToy,
    MultiStageToy,
    differences,
    heatmap_batch,
    snapshot,
    task_and_batch,
    tiny_adversary,
)

from advaug import HeatmapTask
from advaug.detectors import MDM, TimmHeatmapNet
from advaug.step.recompute import recomputes

# --- detectors: each gives (what is called, the network behind it) ----------------------------


class Checkpointed(nn.Module):
    """Computes its body again in the backward, to save memory."""

    def __init__(self, toy):
        super().__init__()
        self.toy = toy

    def forward(self, images):
        return self.toy.head(checkpoint(self.toy.body, images, use_reentrant=False))


class Restless(nn.Module):
    """Changes its own mode and a buffer of its own in every forward."""

    def __init__(self):
        super().__init__()
        self.toy = HeatmapToy()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images):
        self.seen += 1
        self.toy.body[3].eval()
        return self.toy(images)


def module(net):
    return net, net


def scripted(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and still met
        net = torch.jit.script(net)
    return net, net


def exported(net):
    net = torch.export.export(net, (torch.rand(4, 3, SIDE, SIDE),)).module()
    return net, net


def with_partial(net):
    return functools.partial(nn.Module.__call__, net), net


def norm_in_eval(net):
    net.body[1].eval()
    return net, net


def all_in_eval(net):
    return net.eval(), net


def partly_frozen(net):
    net.body.requires_grad_(False)
    net.body[1].eval()
    return net, net


def shared_weights(net):
    net.body.append(net.body[1])
    return net, net


def spectral(net):
    nn.utils.parametrizations.spectral_norm(net.head)
    return net, net


def compiled(net, backend):
    torch._dynamo.reset()
    return torch.compile(net, backend=backend), net


DETECTORS = {
    "heatmap": ("heatmap", lambda: module(HeatmapToy())),
    "multi-stage": ("heatmap", lambda: module(MultiStageToy())),
    "coordinate": ("coordinate", lambda: module(CoordinateToy())),
    "much-dropout": ("heatmap", lambda: module(HeatmapToy(dropout=0.5))),
    "bound-forward": ("heatmap", lambda: (lambda n: (n.forward, n))(HeatmapToy())),
    "scripted": ("heatmap", lambda: scripted(HeatmapToy())),
    "exported": ("heatmap", lambda: exported(HeatmapToy(dropout=0.0))),
    "partial": ("coordinate", lambda: with_partial(CoordinateToy())),
    "batch-norm-in-eval": ("heatmap", lambda: norm_in_eval(HeatmapToy())),
    "all-in-eval": ("heatmap", lambda: all_in_eval(HeatmapToy())),
    "partly-frozen": ("heatmap", lambda: partly_frozen(HeatmapToy())),
    "module-used-twice": ("heatmap", lambda: shared_weights(HeatmapToy())),
    "spectral-norm": ("heatmap", lambda: spectral(HeatmapToy())),
    "restless": ("heatmap", lambda: module(Restless())),
    "compiled-aot-eager": ("heatmap", lambda: compiled(HeatmapToy(), "aot_eager")),
    "mdm": ("coordinate", lambda: module(mdm())),
    "ddp": ("heatmap", lambda: ddp(HeatmapToy())),
}


def mdm():
    """Moves its face boxes at random in every forward."""
    return MDM(torch.rand(MARKS, 2), hidden=4, patch_size=10, reduce=4)


def ddp(net):
    return DistributedDataParallel(net), net


@contextlib.contextmanager
def process_group(folder):
    store = distributed.FileStore(str(folder / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@pytest.fixture(params=DETECTORS, ids=list(DETECTORS))
def case(request, tmp_path):
    """A detector of the table, the network behind it, its task and a batch."""
    kind, make = DETECTORS[request.param]
    with process_group(tmp_path) if request.param == "ddp" else contextlib.nullcontext():
        yield (*make(), *task_and_batch(kind))


# --- the caller's state ----------------------------------------------------------------------


def owned(net):
    """Everything of a network and of the process that a call might touch."""
    names = [name for name, _ in net.named_modules()]
    tensors = [*net.named_parameters(), *net.named_buffers()]
    return {
        "values": {name: tensor.detach().clone() for name, tensor in tensors},
        "identities": {name: id(tensor) for name, tensor in tensors},
        "versions": {name: tensor._version for name, tensor in tensors},
        "grads": {
            name: None if p.grad is None else (id(p.grad), p.grad._version, p.grad.clone())
            for name, p in net.named_parameters()
        },
        "requires_grad": {name: p.requires_grad for name, p in net.named_parameters()},
        "modes": dict(zip(names, (m.training for m in net.modules()), strict=True)),
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()],
        "torch": torch.get_rng_state(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "random": random.getstate(),
        "grad-mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "dtype": str(torch.get_default_dtype()),
    }


def preset_gradients(net):
    """Some parameters carry a gradient, as in the middle of an accumulation; others carry none."""
    for index, parameter in enumerate(net.parameters()):
        if index % 2 and parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 0.1 * index)


def settle(detector, images):
    """One forward of the caller's own, which a compiler uses to compile and DDP to set up."""
    with torch.no_grad():
        detector(images)


def assert_untouched(net, before):
    assert differences(before, owned(net)) == []


# --- after a call that works -----------------------------------------------------------------


def test_after_an_attack(case):
    detector, net, task, images, target = case
    adversary = tiny_adversary(task)
    settle(detector, images)
    preset_gradients(net)
    before = owned(net)
    for update in (True, False, True):
        adversary.attack(detector, images, target, update=update)
    assert_untouched(net, before)


# Every detector under the default policy, and those with something to lose under the others.
TELLING = ("multi-stage", "coordinate", "batch-norm-in-eval", "spectral-norm", "restless", "ddp")


def policies(*names):
    """Pairs of a detector of the table and a BatchNorm policy."""
    pairs = [(name, "isolated") for name in DETECTORS]
    pairs += [(name, policy) for name in TELLING for policy in names]
    return pytest.mark.parametrize(("case", "batch_norm"), pairs, indirect=["case"])


@pytest.mark.parametrize("mode", ["alternating", "shared"])
@policies("running", "split")
def test_after_the_whole_step(case, batch_norm, mode):
    detector, net, task, images, target = case
    adversary = tiny_adversary(task, batch_norm=batch_norm, mode=mode)
    settle(detector, images)
    preset_gradients(net)
    before = owned(net)
    for _ in range(2):
        adversary(detector, images, target)
    assert_untouched(net, before)


# An exported network keeps the batch statistics that it was exported with, and is refused here.
@pytest.mark.parametrize("case", [name for name in DETECTORS if name != "exported"], indirect=True)
def test_after_a_fused_step_and_its_backward_only_gradients_differ(case):
    detector, net, task, images, target = case
    adversary = tiny_adversary(task, batch_norm="running", mode="fused")
    settle(detector, images)
    before = owned(net)
    loss = adversary(detector, images, target)
    assert_untouched(net, before)
    loss.backward()
    after = owned(net)
    assert any(grad is not None for grad in after["grads"].values())
    assert differences({**before, "grads": None}, {**after, "grads": None}) == []


@pytest.mark.parametrize("case", TELLING, indirect=True)
def test_after_the_whole_step_with_shared_statistics_only_those_differ(case):
    detector, net, task, images, target = case
    adversary = tiny_adversary(task, batch_norm="shared")
    settle(detector, images)
    preset_gradients(net)
    before = owned(net)
    adversary(detector, images, target)
    changed = differences(before, owned(net))
    statistics = ("running_mean", "running_var", "num_batches_tracked", "seen", "_u", "_v")
    assert [path for path in changed if not path.endswith(statistics)] == []
    identities = [path for path in changed if path.startswith(".identities")]
    assert identities == []


@policies("running", "shared", "split")
def test_a_clean_loss_from_before_the_call_backpropagates_after_it(case, batch_norm):
    detector, net, task, images, target = case
    adversary = tiny_adversary(task, batch_norm=batch_norm)
    clean = task.error(detector(images), target).mean()
    loss = clean + adversary(detector, images, target)
    loss.backward()
    trained = [p for p in net.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert sum(p.grad.abs().sum() for p in trained) > 0


def test_inputs_are_not_written_to(case):
    detector, _, task, images, target = case
    before = snapshot([images, target]), (images._version, target._version)
    tiny_adversary(task)(detector, images, target)
    assert differences(before[0], [images, target]) == []
    assert (images._version, target._version) == before[1]


# --- after a call that raises half-way -------------------------------------------------------


class HalfwayError(Exception):
    """Raised in the middle of a call."""


class Stop:
    """Raises at the n-th call, after the work."""

    def __init__(self, function, at):
        self.function, self.at, self.calls = function, at, 0

    def __call__(self, *args):
        result = self.function(*args)
        self.calls += 1
        if self.calls == self.at:
            raise HalfwayError
        return result


halfway = pytest.mark.parametrize(
    ("culprit", "at"),
    [("detector", 1), ("task", 1), ("detector", 2), ("task", 2)],
    ids=["detector-in-attack", "task-in-attack", "detector-in-defence", "task-in-defence"],
)


@halfway
def test_after_an_exception(case, culprit, at):
    raise_halfway(case, culprit, at, "isolated", "alternating")


@pytest.mark.parametrize("culprit", ["detector", "task"])
@pytest.mark.parametrize("batch_norm", ["isolated", "running", "shared", "split"])
def test_after_an_exception_in_the_only_pass(culprit, batch_norm):
    net = MultiStageToy()
    raise_halfway((net, net, *task_and_batch("heatmap")), culprit, 1, batch_norm, "auto")


@halfway
@pytest.mark.parametrize("batch_norm", ["running", "shared", "split"])
def test_after_an_exception_under_the_other_policies(culprit, at, batch_norm):
    net = MultiStageToy()
    raise_halfway((net, net, *task_and_batch("heatmap")), culprit, at, batch_norm, "alternating")


def raise_halfway(case, culprit, at, batch_norm, mode):
    """Call an adversary whose detector or task fails at its n-th use, and compare."""
    detector, net, task, images, target = case
    settle(detector, images)
    preset_gradients(net)
    adversary = tiny_adversary(task, batch_norm=batch_norm, mode=mode)
    options = {}
    if culprit == "detector":
        if not isinstance(detector, nn.Module):
            detector = net
        options["forward"] = Stop(lambda net, images: net(images), at)
    else:
        adversary.task = copy.copy(task)
        adversary.task.error = Stop(task.error, at)
    before = owned(net)
    with pytest.raises(HalfwayError):
        adversary(detector, images, target, **options)
    assert_untouched(net, before)


def test_after_an_exception_in_the_transform(case):
    def transform(images, target):
        torch.rand(3)
        raise HalfwayError

    detector, net, task, images, target = case
    settle(detector, images)
    preset_gradients(net)
    adversary = tiny_adversary(task, transform=transform)
    before = owned(net)
    with pytest.raises(HalfwayError):
        adversary(detector, images, target)
    assert_untouched(net, before)


def test_after_an_exception_in_the_middle_of_the_network():
    """The hook raises below the first BatchNorm, with statistics half moved."""
    task, images, target = task_and_batch("heatmap")
    net = MultiStageToy()

    def fail(*_):
        raise HalfwayError

    handle = net.second[1].register_forward_hook(fail)
    preset_gradients(net)
    adversary = tiny_adversary(task)
    before = owned(net)
    with pytest.raises(HalfwayError):
        adversary.attack(net, images, target)
    assert_untouched(net, before)
    handle.remove()
    adversary(net, images, target).backward()


# --- activation checkpointing ----------------------------------------------------------------


def test_an_attack_leaves_a_detector_alone_that_computes_again_in_the_backward():
    task, images, target = task_and_batch("heatmap")
    net, adversary = Checkpointed(HeatmapToy()), tiny_adversary(task)
    before = owned(net)
    adversary.attack(net, images, target)
    assert_untouched(net, before)


@pytest.mark.parametrize("batch_norm", ["isolated", "running", "shared", "split"])
def test_computing_again_in_the_backward_changes_neither_gradients_nor_statistics(batch_norm):
    task, images, target = task_and_batch("heatmap")
    plain = HeatmapToy(dropout=0.0)
    nn.init.normal_(plain.body[1].running_mean)
    again = copy.deepcopy(plain)
    one = tiny_adversary(task, batch_norm=batch_norm)
    other = copy.deepcopy(one)
    for _ in range(2):
        one(plain, images, target).backward()
        other(Checkpointed(again), images, target).backward()
    for ours, theirs in zip(again.parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)
    for ours, theirs in zip(again.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(other.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("weight", [2.0**-30, 2.0**-16, 1.0, 2.0**10])
@pytest.mark.parametrize("mode", ["alternating", "shared"])
def test_computing_again_in_half_precision_loses_no_gradient(mode, weight):
    """The caller's scaler comes too late for gradients that are taken in the call."""
    task, images, target = task_and_batch("heatmap")
    plain = HeatmapToy(dropout=0.0)
    nets, gradients = (plain, Checkpointed(copy.deepcopy(plain))), []
    one = tiny_adversary(task, mode=mode, loss_weight=weight)
    for net, adversary in zip(nets, (one, copy.deepcopy(one)), strict=True):
        with torch.autocast("cpu", torch.float16):
            loss = adversary(net, images, target)
        (loss / weight).backward()  # the plain one's scale, as a caller's scaler would find it
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]) * weight)
    ours, theirs = reversed(gradients)
    assert theirs.norm() > 0
    assert (ours - theirs).norm() < 1e-2 * theirs.norm()


def test_the_scale_of_half_precision_is_resumed():
    task, images, target = task_and_batch("heatmap")
    net = Checkpointed(HeatmapToy(dropout=0.0))
    adversary = tiny_adversary(task, loss_weight=2.0**10)
    with torch.autocast("cpu", torch.float16):
        adversary(net, images, target).backward()
    found = adversary.batch_norms.get_extra_state()["scale"]
    assert found["scale"] < 2.0**16
    other = tiny_adversary(task, loss_weight=2.0**10)
    other.load_state_dict(adversary.state_dict())
    assert other.batch_norms.get_extra_state()["scale"] == found


# --- randomness of others --------------------------------------------------------------------


def test_a_transform_that_draws_from_torch_leaves_the_global_state_alone():
    def transform(images, target):
        return images + 0.01 * torch.randn_like(images), target

    task, images, target = task_and_batch("heatmap")
    net, adversary = HeatmapToy(), tiny_adversary(task, transform=transform)
    before = owned(net)
    adversary(net, images, target)
    assert_untouched(net, before)


@pytest.mark.parametrize("library", ["numpy", "random"])
def test_a_transform_that_draws_from_another_library_leaves_its_global_state_alone(library):
    def transform(images, target):
        draw = np.random.rand if library == "numpy" else random.random
        return images * (0.9 + 0.1 * draw()), target

    task, images, target = task_and_batch("heatmap")
    net, adversary = HeatmapToy(), tiny_adversary(task, transform=transform)
    before = owned(net)
    adversary(net, images, target)
    assert_untouched(net, before)


# --- compilation -----------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", ["isolated", "running", "shared", "split"])
def test_a_compiled_detector_is_not_compiled_again_in_every_step(batch_norm):
    task, images, target = task_and_batch("heatmap")
    compilations = []

    def backend(graph, _):
        compilations.append(graph)
        return graph.forward

    torch._dynamo.reset()
    net = HeatmapToy()
    detector = torch.compile(net, backend=backend)
    adversary = tiny_adversary(task, batch_norm=batch_norm)

    def step():
        clean = task.error(detector(images), target).mean()
        (clean + adversary(detector, images, target)).backward()

    for _ in range(3):
        step()
    settled = len(compilations)
    for _ in range(3):
        step()
    assert 1 <= settled <= 4
    assert len(compilations) == settled


@pytest.mark.skipif(
    not os.environ.get("ADVAUG_SLOW_TESTS") or not (shutil.which("g++") or shutil.which("clang")),
    reason="half a minute of compilation: set ADVAUG_SLOW_TESTS=1 where there is a C++ compiler",
)
@pytest.mark.parametrize("batch_norm", ["isolated", "running", "shared", "split"])
def test_a_detector_compiled_by_inductor_is_untouched(batch_norm):
    task, images, target = task_and_batch("heatmap")
    detector, net = compiled(HeatmapToy(), "inductor")
    adversary = tiny_adversary(task, batch_norm=batch_norm)
    settle(detector, images)
    preset_gradients(net)
    before = owned(net)
    adversary.attack(detector, images, target)
    assert_untouched(net, before)
    adversary(detector, images, target)
    if batch_norm != "shared":
        assert_untouched(net, before)


def test_a_compiled_detector_gives_the_result_of_the_plain_one():
    task, images, target = task_and_batch("heatmap")
    torch._dynamo.reset()
    net = HeatmapToy(dropout=0.0)
    one = tiny_adversary(task)
    other = copy.deepcopy(one)
    other._generator.set_state(one._generator.get_state())
    plain = one(net, images, target)
    compiled_loss = other(torch.compile(net, backend="aot_eager"), images, target)
    torch.testing.assert_close(plain, compiled_loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_norm", ["isolated", "shared", "split"])
def test_checkpointing_of_a_timm_backbone_changes_neither_gradients_nor_statistics(batch_norm):
    torch.manual_seed(0)
    plain = TimmHeatmapNet("test_resnet", MARKS, width=16, out_stride=1)
    again = copy.deepcopy(plain)
    again.backbone.set_grad_checkpointing(True)
    one = tiny_adversary(HeatmapTask(), batch_norm=batch_norm)
    other = copy.deepcopy(one)
    images, target = heatmap_batch(side=64)
    try:
        copy.deepcopy(again)(images).sum().backward()
    except RuntimeError as error:
        pytest.skip(f"this timm's own checkpointing fails, without an adversary: {error}")
    before = [buffer.clone() for buffer in again.buffers()]
    for net, adversary in ((plain, one), (again, other)):
        adversary(net, images, target).backward()
    for ours, theirs in zip(again.parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)
    for ours, theirs in zip(again.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)
    moved = any(not torch.equal(a, b) for a, b in zip(before, again.buffers(), strict=True))
    assert moved == (batch_norm == "shared")
    assert recomputes(again)
    assert not recomputes(plain)

"""One step, run in three ways: the same gradients as the literal reference, from fewer passes."""

import copy
import functools
import gc
import warnings
import weakref

import pytest
import torch
from literal_saat import LiteralSAAT
from torch import nn
from toys import (
    MARKS,
    CoordinateToy,
    HeatmapToy,
    MultiStageToy,
    differences,
    heatmap_batch,
    snapshot,
    task_and_batch,
    tiny_adversary,
    tiny_attacker,
)

from advaug import CoordinateTask, HeatmapTask

MODES = ("alternating", "shared", "fused")
sgd = functools.partial(torch.optim.SGD, lr=1.0)
gentle = functools.partial(torch.optim.SGD, lr=0.02)


class Steps(nn.Module):
    """A coordinate detector that refines its answer: a list of `(B, N, 2)`."""

    def __init__(self):
        super().__init__()
        self.net = CoordinateToy(dropout=0.0)
        self.refine = nn.Linear(2 * MARKS, 2 * MARKS)

    def forward(self, images):
        first = self.net(images)
        return [first, first + 0.01 * self.refine(first.flatten(1)).view_as(first)]


DETECTORS = {
    "heatmap": ("heatmap", lambda: HeatmapToy(dropout=0.0)),
    "multi-stage": ("heatmap", MultiStageToy),
    "coordinate": ("coordinate", lambda: CoordinateToy(dropout=0.0)),
    "steps": ("coordinate", Steps),
}


def detector_of(name, norm="group"):
    """A detector of the table with GroupNorm instead of BatchNorm, and no dropout."""
    kind, make = DETECTORS[name]
    net = make()
    for module in net.modules():
        for key, child in module.named_children():
            if isinstance(child, nn.Dropout2d):
                setattr(module, key, nn.Identity())
            if isinstance(child, nn.BatchNorm2d) and norm == "group":
                setattr(module, key, nn.GroupNorm(2, child.num_features))
    return kind, net


class Quiet(nn.Module):
    """An attacker whose noise is always the same, so that every way of running draws alike."""

    def __init__(self):
        super().__init__()
        self.net = tiny_attacker()
        nn.init.normal_(self.net.last.weight, std=0.05)

    def forward(self, images, structure, noise):
        return self.net(images, structure, noise_like(noise))


def noise_like(tensor):
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(7))


def literal_adversary(task, mode, **options):
    """An adversary without what the library adds to Eq. 7, which learns by gradient descent."""
    options = {
        "optimizer": sgd,
        "reconstruction_weight": 1.0,
        "adversarial_limit": None,
        "regions": None,
        **options,
    }
    return tiny_adversary(task, attacker=Quiet(), mode=mode, **options)


def grads(module):
    return [None if p.grad is None else p.grad.clone() for p in module.parameters()]


def assert_close(ours, theirs, tolerance=1e-5, floor=1e-12):
    """Each tensor within a part of its largest value, or within what is nothing."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            nearly = tolerance * other.abs().max().item() + floor
            torch.testing.assert_close(one, other, rtol=0, atol=nearly)


def moved(module, before):
    return [old - new.detach() for old, new in zip(before, module.parameters(), strict=True)]


def weights(module):
    return [p.detach().clone() for p in module.parameters()]


# --- exactness ---------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", DETECTORS)
def test_every_mode_gives_the_gradients_of_the_literal_reference(name, mode, norm):
    if mode == "fused" and norm == "batch":
        pytest.skip("refused, see below")
    kind, detector = detector_of(name, norm)
    task, images, target = task_and_batch(kind)
    adversary = literal_adversary(task, mode)
    literal = LiteralSAAT(
        task, copy.deepcopy(adversary.attacker), copy.deepcopy(adversary.discriminator)
    )
    twin, noise = copy.deepcopy(detector), noise_like(images[:, :1])
    before = weights(adversary.attacker), weights(adversary.discriminator)

    loss = adversary(detector, images, target)
    loss.backward()

    expected = literal.detector_loss(twin, images, target, noise)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    expected.backward()
    assert adversary.chosen_mode == mode
    assert_close(grads(detector), grads(twin))
    literal.attacker_loss(twin, images, target, noise).backward()
    assert_close(moved(adversary.attacker, before[0]), grads(literal.attacker))
    literal.discriminator_optimizer.zero_grad()
    literal.discriminator_loss(images, target, noise).backward()
    assert_close(moved(adversary.discriminator, before[1]), grads(literal.discriminator))


@pytest.fixture
def double():
    """Float64, where several steps can be compared: in float32 a rounding error that carries one
    value across the kink of a ReLU changes the gradients by parts, on one machine and not another.
    """
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def halves(images):
    """Regions that do not depend on how often a mode has drawn."""
    stripes = torch.arange(images.shape[-1]) % 16 < 8
    return stripes.to(images.dtype).expand(len(images), 1, *images.shape[-2:])


def dimmed(images):
    """Another appearance, in which every pixel has its own part."""
    return 0.6 * images + 0.1 * images.flip(-1) ** 2


def run(mode, *, name="heatmap", scale=1.0, micro=1, steps=3, **options):
    """Train a detector with accumulation, clipping and a loss scale; give all weights."""
    torch.manual_seed(0)
    kind, detector = detector_of(name)
    task, *_ = task_and_batch(kind)
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-4)
    torch.manual_seed(1)
    adversary = literal_adversary(task, mode, optimizer=gentle, **options)
    for step in range(steps):
        for part in range(micro):
            _, images, target = task_and_batch(kind, seed=10 * step + part)
            clean = task.error(detector(images), target).mean()
            loss = (clean + adversary(detector, images, target)) / micro
            (scale * loss).backward()
        for parameter in detector.parameters():
            parameter.grad /= scale
        nn.utils.clip_grad_norm_(detector.parameters(), 50.0)
        optimizer.step()
        optimizer.zero_grad()
    return [p.detach() for module in (detector, adversary) for p in module.parameters()]


@pytest.mark.parametrize("mode", ["shared", "fused"])
@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 1024.0},
        {"micro": 2},
        {"beta": 0.0},
        {"loss_weight": 1 / 65536},
        {"loss_weight": 0.0},
        {"relaxation": 1.0, "beta": "semantic"},
        {"discriminator": None},
        {"regions": halves},
        {"appearance": dimmed},
        {"reconstruction_weight": None, "adversarial_limit": 0.5, "steps": 2},
        {"attacker_every": 2, "discriminator_every": 3, "share": 0.5},
    ],
    ids=lambda options: (
        "-".join(f"{k}={getattr(v, '__name__', v)}" for k, v in options.items()) or "plain"
    ),
)
def test_several_steps_end_where_alternating_ends(double, mode, name, options):
    ours, theirs = (run(each, name=name, **options) for each in (mode, "alternating"))
    assert_close(ours, theirs, tolerance=1e-9, floor=1e-9)


def trust(adversary):
    """Leave out the passes in which it is tried whether samples mix: what a step costs is asked."""
    adversary._neighbours.found = lambda *_: False


def test_in_a_fused_step_the_detector_and_the_discriminator_see_the_pictures_once():
    _, detector = detector_of("heatmap")
    calls = []
    detector.register_forward_hook(lambda *_: calls.append("detector"))
    adversary = tiny_adversary(mode="fused")
    trust(adversary)
    adversary.attacker.register_forward_hook(lambda *_: calls.append("attacker"))
    adversary.discriminator.register_forward_hook(lambda *_: calls.append("discriminator"))
    adversary(detector, *heatmap_batch()).backward()
    assert calls == ["attacker", "detector", "discriminator", "discriminator"]


# --- which mode ----------------------------------------------------------------------------------


def chosen(detector, **options):
    adversary = tiny_adversary(**options)
    adversary(detector, *heatmap_batch()).backward()
    return adversary.chosen_mode


def frozen_norms(net):
    net.body[1].eval()
    return net


@pytest.mark.parametrize(
    ("make", "options", "mode"),
    [
        (HeatmapToy, {}, "shared"),
        (HeatmapToy, {"batch_norm": "shared"}, "shared"),
        (HeatmapToy, {"batch_norm": "split"}, "shared"),
        (HeatmapToy, {"batch_norm": "running"}, "fused"),
        (lambda: frozen_norms(HeatmapToy()), {}, "fused"),
        (lambda: detector_of("heatmap")[1], {}, "fused"),
        (lambda: detector_of("heatmap")[1].forward, {}, "fused"),
        (HeatmapToy, {"transform": lambda images, target: (images, target)}, "alternating"),
        (HeatmapToy, {"mode": "alternating"}, "alternating"),
    ],
    ids=range(9),
)
def test_auto_takes_the_cheapest_mode_that_is_exact(make, options, mode):
    assert chosen(make(), **options) == mode


def test_auto_does_not_trust_a_callable_that_hides_its_modules():
    hidden = {"net": detector_of("heatmap")[1]}

    class Opaque:
        __slots__ = ()

        def __call__(self, images):
            return hidden["net"](images)

    with pytest.warns(UserWarning, match="forward="):
        assert chosen(Opaque()) == "shared"


@pytest.mark.parametrize("policy", ["isolated", "shared", "split"])
def test_fused_is_refused_where_samples_mix_and_nothing_has_moved(policy):
    detector, adversary = HeatmapToy(), tiny_adversary(mode="fused", batch_norm=policy)
    before = snapshot([detector.state_dict(), adversary.state_dict()])
    with pytest.raises(ValueError, match=r"BatchNorm2d.*'running'.*mode='shared'"):
        adversary(detector, *heatmap_batch())
    assert differences(before, snapshot([detector.state_dict(), adversary.state_dict()])) == []


def test_fused_is_refused_where_no_running_statistics_are_kept():
    detector = HeatmapToy()
    detector.body[1] = nn.BatchNorm2d(8, track_running_stats=False)
    adversary = tiny_adversary(mode="fused", batch_norm="running")
    with pytest.raises(ValueError, match="samples of a batch do not mix"):
        adversary(detector, *heatmap_batch())


# --- what fused asks of the caller ---------------------------------------------------------------


def fused():
    return detector_of("heatmap")[1], tiny_adversary(mode="fused")


@pytest.mark.parametrize("use", ["call", "attack"])
@pytest.mark.parametrize("way", ["forgotten", "detached", "inputs"])
def test_a_loss_that_never_went_backward_is_named_once_and_the_run_goes_on(use, way):
    (detector, adversary), (images, heatmaps) = fused(), heatmap_batch()
    loss = adversary(detector, images, heatmaps)
    if way == "detached":
        (loss.detach() + detector(images).sum()).backward()
    if way == "inputs":
        loss.backward(inputs=list(detector.parameters()))
    before = snapshot([*adversary.parameters()])
    again = adversary if use == "call" else adversary.attack
    with pytest.warns(UserWarning, match="no gradient came back to the pictures"):
        again(detector, images, heatmaps)
    if use == "call":
        assert differences(before, [*adversary.parameters()]) == []
        assert "last 1 calls" in str(adversary.health())
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # said once
            adversary(detector, images, heatmaps).backward()
        assert adversary.health().ok
    assert adversary.report is not None


def test_before_the_backward_neither_attacker_nor_discriminator_has_moved():
    detector, adversary = fused()
    before = snapshot([*adversary.parameters()])
    loss = adversary(detector, *heatmap_batch())
    assert differences(before, [*adversary.parameters()]) == []
    assert adversary.report is None
    loss.backward()
    moved = differences(before, [*adversary.parameters()])
    assert len(moved) == len(before)
    assert adversary.report is not None


def test_a_look_at_the_attack_between_call_and_backward_disturbs_nothing():
    detector, adversary = fused()
    loss = adversary(detector, *heatmap_batch())
    adversary.attack(detector, *heatmap_batch(), update=False)
    loss.backward()


def test_a_second_backward_through_the_same_loss_teaches_nothing_new():
    detector, adversary = fused()
    loss = adversary(detector, *heatmap_batch())
    loss.backward(retain_graph=True)
    before = snapshot(adversary.state_dict())
    loss.backward()
    assert differences(before, adversary.state_dict()) == []


def test_a_backward_under_no_grad_teaches_as_any_other():
    detector, adversary = fused()
    loss = adversary(detector, *heatmap_batch())
    with torch.no_grad():
        loss.backward()
    assert adversary.report.read()["share_feedback"] > 0


@pytest.mark.parametrize("optimizer", [None, functools.partial(torch.optim.SGD, lr=0.1)])
@pytest.mark.parametrize("broken", [float("inf"), float("nan")])
def test_a_backward_that_overflows_moves_neither_attacker_nor_discriminator(optimizer, broken):
    _, detector = detector_of("heatmap")
    adversary = tiny_adversary(mode="fused", optimizer=optimizer)
    before = snapshot([*adversary.parameters()])
    (broken * adversary(detector, *heatmap_batch())).backward()
    assert differences(before, [*adversary.parameters()]) == []
    detector.zero_grad()
    adversary(detector, *heatmap_batch()).backward()
    assert differences(before, [*adversary.parameters()])


def test_where_only_the_detectors_weights_overflow_nobody_moves():
    detector, adversary = fused()
    before = snapshot([*adversary.parameters()])
    broken = detector.head.weight.register_hook(lambda gradient: gradient * float("inf"))
    adversary(detector, *heatmap_batch()).backward()
    assert differences(before, [*adversary.parameters()]) == []
    broken.remove()
    detector.zero_grad()
    adversary(detector, *heatmap_batch()).backward()
    assert differences(before, [*adversary.parameters()])


def test_the_callers_float16_scaler_skips_steps_and_the_run_goes_on():
    _, detector = detector_of("heatmap")
    adversary = tiny_adversary(mode="fused")
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    who_moved = []
    for step in range(40):
        images, heatmaps = heatmap_batch(seed=step)
        before = snapshot([[*m.parameters()] for m in (detector, adversary.attacker)])
        with torch.autocast("cpu", torch.float16):
            loss = nn.functional.mse_loss(detector(images), heatmaps)
            loss = loss + adversary(detector, images, heatmaps) / 65536
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        after = [[*m.parameters()] for m in (detector, adversary.attacker)]
        who_moved.append(
            tuple(bool(differences(*pair)) for pair in zip(before, after, strict=True))
        )
    assert who_moved[:5] == [(False, False)] * 5  # far too large a scale
    assert set(who_moved) == {(False, False), (True, True)}
    assert who_moved.count((True, True)) > 5
    assert all(p.isfinite().all() for net in (detector, adversary) for p in net.parameters())


def test_no_graph_of_a_fused_step_is_kept_after_its_backward():
    detector, adversary = fused()
    saved = []

    class Packed:
        def __init__(self, tensor):
            self.tensor = tensor.detach()

    def pack(tensor):
        packed = Packed(tensor)
        saved.append(weakref.ref(packed))
        return packed

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed.tensor):
        loss = adversary(detector, *heatmap_batch())
        loss.backward()
    del loss
    assert len(saved) > 20
    gc.collect()
    assert not any(reference() for reference in saved)


# --- lazy updates --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["alternating", "shared", "fused"])
def test_who_is_not_due_does_not_learn_and_costs_no_pass(mode):
    _, detector = detector_of("heatmap")
    adversary = tiny_adversary(mode=mode, attacker_every=3, discriminator_every=2)
    trust(adversary)
    passes = []
    detector.register_forward_hook(lambda *_: passes.append("detector"))
    adversary.discriminator.register_forward_hook(lambda *_: passes.append("discriminator"))
    learners, costs = [], []
    for step in range(6):
        before = weights(adversary.attacker), weights(adversary.discriminator)
        adversary(detector, *heatmap_batch(seed=step)).backward()
        learners.append(
            tuple(
                any(bool(change.any()) for change in moved(network, old))
                for network, old in zip(
                    (adversary.attacker, adversary.discriminator), before, strict=True
                )
            )
        )
        costs.append((passes.count("detector"), passes.count("discriminator")))
        passes.clear()
    assert learners == [
        *((True, True), (False, False), (False, True), (True, False), (False, True)),
        (False, False),
    ]
    once, twice = 1, 2 if mode == "alternating" else 1
    assert costs == [(twice, 2), (once, 0), (once, 2), (twice, 1), (once, 2), (once, 0)]
    assert adversary.health().means["discriminator"] > 0


def test_a_fraction_of_the_batch_gets_twins():
    seen = []
    _, detector = detector_of("heatmap")
    detector.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    images, heatmaps = heatmap_batch(5)
    visible = torch.ones(5, MARKS, dtype=torch.bool)
    for target in (heatmaps, (heatmaps, visible), [heatmaps, visible]):
        adversary = tiny_adversary(share=0.5)
        trust(adversary)
        adversary(detector, images, target).backward()
    assert seen == [3, 3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "quick"}, "`mode` must be one of"),
        ({"attacker_every": 0}, "`attacker_every` must be a whole number"),
        ({"discriminator_every": 1.5}, "`discriminator_every` must be a whole number"),
        ({"share": 0.0}, "`share` must be above 0"),
        ({"share": 1.5}, "`share` must be above 0"),
        ({"loss_weight": -1.0}, "`loss_weight` must not be negative"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_when_it_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_adversary(HeatmapTask(), **options)


def test_a_task_of_coordinates_without_a_visible_landmark_in_one_sample_goes_on_in_every_mode():
    for mode in MODES:
        _, detector = detector_of("coordinate")
        _, images, landmarks = task_and_batch("coordinate")
        visible = torch.ones(len(images), MARKS, dtype=torch.bool)
        visible[1] = False
        adversary = tiny_adversary(CoordinateTask(), mode=mode)
        adversary(detector, images, (landmarks, visible)).backward()
        assert all(p.isfinite().all() for p in adversary.parameters())
        assert all(p.grad is None or p.grad.isfinite().all() for p in detector.parameters())


# --- compilation of what is ours -----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_compiled_networks_of_the_adversary_learn_alike(mode):
    torch._dynamo.reset()
    ends = []
    for compiled in (False, True):
        torch.manual_seed(0)
        _, detector = detector_of("heatmap")
        adversary = tiny_adversary(mode=mode, optimizer=gentle)
        if compiled:
            adversary.compile(backend="aot_eager")
        for step in range(2):
            adversary(detector, *heatmap_batch(seed=step)).backward()
        ends.append([p.detach() for net in (detector, adversary) for p in net.parameters()])
    assert_close(*ends, floor=1e-6)
    assert list(adversary.state_dict()) == list(tiny_adversary().state_dict())

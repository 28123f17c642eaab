"""`augment` against plain autograd: what the caller gets, and what the attacker learns from it."""

import copy
import math

import pytest
import torch
from ranks import run_ranks
from test_distributed import Noiseless, flat
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from toys import (
    HeatmapToy,
    differences,
    heatmap_batch,
    pictures,
    snapshot,
    tiny_adversary,
)

from advaug import HeatmapTask, functional
from advaug.step import learning

RATE = 1.0
BATCH = 6


def sgd(parameters, rate=RATE):
    """So that what a weight moves by is its gradient."""
    return torch.optim.SGD(parameters, lr=rate)


def bare(**options):
    """An adversary whose attacker learns from the detector only.

    A constant β above ln 1.5 shows every chosen picture.
    """
    torch.manual_seed(0)
    given = {"discriminator": None, "reconstruction_weight": 0.0, "structure": False}
    return tiny_adversary(**{**given, "optimizer": sgd, "beta": 0.5, **options})


def batch(step=0):
    images, heatmaps = heatmap_batch(BATCH, seed=step)
    return images, pictures(BATCH, seed=step)[1], heatmaps


class Norms(nn.Module):
    """A detector with a norm of choice and no dropout."""

    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        torch.manual_seed(1)
        made = nn.GroupNorm(2, 8) if norm is nn.GroupNorm else norm(8)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), made, nn.ReLU())
        self.head = nn.Conv2d(8, 3, 5, padding=2)

    def forward(self, images):
        return self.head(self.body(images))


# --- the caller's gradients ----------------------------------------------------------------------


class FunctionalNorm(Norms):
    """BatchNorm as a function, with statistics that no module owns."""

    def forward(self, images):
        features = nn.functional.batch_norm(
            self.body[0](images), None, None, training=True, momentum=0.1
        )
        return self.head(features.relu())


class InPlace(Norms):
    """Normalises its input where it lies."""

    def forward(self, images):
        return super().forward(images.sub_(0.4).div_(0.3))


CALLERS = {
    "batch-norm": Norms,
    "dropout": lambda: HeatmapToy(dropout=0.5),
    "functional-batch-norm": FunctionalNorm,
    "in-place": InPlace,
    "channels-last": lambda: Norms().to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("told", [False, True], ids=["untold", "told"])
@pytest.mark.parametrize("name", CALLERS)
def test_the_callers_gradients_are_those_of_plain_tensors(name, told):
    torch.manual_seed(0)
    ours, adversary = CALLERS[name](), tiny_adversary()
    plain = copy.deepcopy(ours)
    images, landmarks, heatmaps = batch()
    if name == "channels-last":
        images = images.to(memory_format=torch.channels_last)
    for step in range(2):
        shown = adversary.augment(images, landmarks)
        assert adversary.attacked.any()
        given = shown.detach().clone()
        assert given.stride() == images.stride()
        for detector, seen in ((ours, shown), (plain, given)):
            torch.manual_seed(step)
            errors = HeatmapTask().error(detector(seen), heatmaps)
            if told and detector is ours:
                adversary.tell(errors)
            errors.mean().backward()
        assert differences(gradients(plain), gradients(ours)) == []
        assert differences(plain.state_dict(), ours.state_dict()) == []


def gradients(module):
    return [parameter.grad for parameter in module.parameters()]


def test_gradients_reach_what_made_the_pictures_that_were_not_attacked():
    """A learned preprocessing of the caller's is trained by the others of the batch."""
    images, landmarks, heatmaps = batch()
    gain = torch.ones(BATCH, 1, 1, 1, requires_grad=True)
    adversary = bare()
    shown = adversary.augment(images * gain, landmarks)
    HeatmapTask().error(Norms(nn.GroupNorm)(shown), heatmaps).mean().backward()
    assert torch.equal(gain.grad.flatten() != 0, ~adversary.attacked)


# --- the attacker's gradient ---------------------------------------------------------------------


class Oracle:
    """The same attacker, taught by nothing but autograd from one picture to the other."""

    def __init__(self, adversary, rate=RATE):
        self.rate = rate
        self.attacker = copy.deepcopy(adversary.attacker)
        self.generator = torch.Generator()
        self.generator.set_state(adversary._generator.get_state())
        self.calls = 0

    def learn(self, detector, images, error_of, feedback=None):
        """One step on half of the batch, all of it shown.

        `error_of` gives the error of each picture from the detector's output, `feedback` L_F from
        the errors of the attacked ones; without it L_F is their mean's direction.
        """
        seed = int(torch.randint(2**62, (), generator=self.generator))
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        count = math.floor(BATCH / 2 * (self.calls + 1)) - math.floor(BATCH / 2 * self.calls)
        chosen = torch.rand(BATCH).argsort()[:count]
        noise = torch.randn_like(images[chosen][:, :1])
        torch.set_rng_state(state)
        self.calls += 1
        adversarial = images[chosen] + self.attacker(images[chosen], None, noise)
        rows = list(images)
        for place, picture in zip(chosen.tolist(), adversarial, strict=True):
            rows[place] = picture
        error = error_of(copy.deepcopy(detector)(torch.stack(rows)))
        if feedback is None:
            (gradient,) = torch.autograd.grad(error.mean(), adversarial, retain_graph=True)
            lengths = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            lost = -(adversarial * gradient / lengths).sum()
        else:
            lost = feedback(error[chosen])
        weights = list(self.attacker.parameters())
        taught = torch.autograd.grad(lost, weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, taught, strict=True):
                weight -= self.rate * gradient


def error_of(heatmaps):
    return lambda output: HeatmapTask().error(output, heatmaps)


def assert_same(ours, oracle, before):
    """Equal to rounding, measured by how far the weights have gone."""
    start, end, due = (flat(network.parameters()) for network in (before, ours, oracle))
    moved = (due - start).norm()
    assert moved > 1e-4
    assert (end - due).norm() < 2e-4 * moved


def plain(detector, adversary, images, landmarks, heatmaps):
    shown = adversary.augment(images, landmarks)
    HeatmapTask().error(detector(shown), heatmaps).mean().backward()


def scaled(detector, adversary, images, landmarks, heatmaps):
    """As a GradScaler does."""
    shown = adversary.augment(images, landmarks)
    (1024 * HeatmapTask().error(detector(shown), heatmaps).mean()).backward()


def summed(detector, adversary, images, landmarks, heatmaps):
    shown = adversary.augment(images, landmarks)
    HeatmapTask().error(detector(shown), heatmaps).sum().backward()


def tiny(detector, adversary, images, landmarks, heatmaps):
    """A loss so small that its gradient's square is no float32."""
    shown = adversary.augment(images, landmarks)
    (1e-22 * HeatmapTask().error(detector(shown), heatmaps).mean()).backward()


def checkpointed(reentrant):
    def step(detector, adversary, images, landmarks, heatmaps):
        shown = adversary.augment(images, landmarks)
        output = checkpoint(detector, shown, use_reentrant=reentrant)
        HeatmapTask().error(output, heatmaps).mean().backward()

    return step


def compiled_detector(detector, adversary, images, landmarks, heatmaps):
    torch._dynamo.reset()
    plain(torch.compile(detector, backend="eager"), adversary, images, landmarks, heatmaps)


def compiled_attacker(detector, adversary, images, landmarks, heatmaps):
    torch._dynamo.reset()
    adversary.compile(backend="eager")
    plain(detector, adversary, images, landmarks, heatmaps)


def compiled_step(detector, adversary, images, landmarks, heatmaps):
    torch._dynamo.reset()

    def loss(images, landmarks, heatmaps):
        shown = adversary.augment(images, landmarks)
        return HeatmapTask().error(detector(shown), heatmaps).mean()

    torch.compile(loss, backend="eager")(images, landmarks, heatmaps).backward()


def in_place(detector, adversary, images, landmarks, heatmaps):
    shown = adversary.augment(images, landmarks)
    output = detector(shown.sub_(0.4).div_(0.3).mul_(0.3).add_(0.4))
    HeatmapTask().error(output, heatmaps).mean().backward()


def backward_twice(detector, adversary, images, landmarks, heatmaps):
    """Only the first one teaches."""
    loss = HeatmapTask().error(detector(adversary.augment(images, landmarks)), heatmaps).mean()
    loss.backward(retain_graph=True)
    taught = snapshot(adversary.state_dict())
    loss.backward()
    assert differences(taught, adversary.state_dict()) == []


STEPS = {
    "plain": plain,
    "scaled": scaled,
    "summed": summed,
    "tiny": tiny,
    "checkpointed": checkpointed(False),
    "checkpointed-reentrant": checkpointed(True),
    "compiled-detector": compiled_detector,
    "compiled-attacker": compiled_attacker,
    "compiled-step": compiled_step,
    "in-place": in_place,
    "backward-twice": backward_twice,
}


# Dynamo reads the gradient of whatever a compiled module is given.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.GroupNorm], ids=["batch-norm", "group-norm"])
@pytest.mark.parametrize("name", STEPS)
def test_untold_the_attacker_learns_from_the_direction(name, norm):
    """Whatever the loss's scale and reduction, and however the detector is run."""
    detector, adversary = Norms(norm), bare()
    before, oracle = copy.deepcopy(adversary.attacker), Oracle(adversary)
    images, landmarks, heatmaps = batch()
    oracle.learn(detector, images, error_of(heatmaps))
    STEPS[name](detector, adversary, images, landmarks, heatmaps)
    assert adversary.attacked.sum() == BATCH // 2
    assert_same(adversary.attacker, oracle.attacker, before)


def test_four_accumulated_backwards_teach_four_times():
    gentle = 0.01
    detector, adversary = Norms(), bare(optimizer=lambda weights: sgd(weights, gentle))
    before, oracle = copy.deepcopy(adversary.attacker), Oracle(adversary, gentle)
    for step in range(4):
        images, landmarks, heatmaps = batch(step)
        oracle.learn(detector, images, error_of(heatmaps))
        shown = adversary.augment(images, landmarks)
        (HeatmapTask().error(detector(shown), heatmaps).mean() / 4).backward()
    assert_same(adversary.attacker, oracle.attacker, before)


@pytest.mark.parametrize("scale", [1.0, 1024.0, 1 / 65536])
@pytest.mark.parametrize("reduce", [torch.mean, torch.sum], ids=["mean", "sum"])
def test_told_the_attacker_learns_with_the_weights_of_eq_3(scale, reduce):
    """Exact where pictures do not mix: the gradient of the mean of 1 / (e + λ)."""

    def of_eq_3(errors):
        return functional.feedback_loss(errors, relaxation=0.1).mean()

    detector, adversary = Norms(nn.GroupNorm), bare()
    images, landmarks, heatmaps = batch()
    before, oracle = copy.deepcopy(adversary.attacker), Oracle(adversary)
    oracle.learn(detector, images, error_of(heatmaps), of_eq_3)
    shown = adversary.augment(images, landmarks)
    errors = HeatmapTask().error(detector(shown), heatmaps)
    adversary.tell(errors)
    (scale * reduce(errors)).backward()
    assert_same(adversary.attacker, oracle.attacker, before)


def test_what_is_told_makes_a_difference():
    """The comparison above can fail."""
    ends = []
    for told in (False, True):
        detector, adversary = Norms(nn.GroupNorm), bare()
        images, landmarks, heatmaps = batch()
        errors = HeatmapTask().error(detector(adversary.augment(images, landmarks)), heatmaps)
        if told:
            adversary.tell(errors)
        errors.mean().backward()
        ends.append(flat(adversary.attacker.parameters()))
    assert not torch.allclose(*ends)


PAPER = {
    "literal": {"reconstruction_weight": 1.0, "adversarial_limit": None},
    "default": {},
    "without-discriminator": {"discriminator": None},
    "minimax": {"adversarial_form": "minimax"},
}


@pytest.mark.parametrize("mode", ["alternating", "shared", "fused"])
@pytest.mark.parametrize("name", PAPER)
def test_told_about_every_picture_it_learns_what_the_papers_call_learns(name, mode):
    """Attacker, discriminator and controller; the noise, which is drawn otherwise, left out."""
    images, _, heatmaps = batch()
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        options = {"share": 1.0, "beta": 0.5, "optimizer": sgd, "mode": mode, **PAPER[name]}
        made.append(tiny_adversary(attacker=Noiseless(), **options))
    ours, papers = made
    before = snapshot(ours.state_dict())
    maps_as_target = functional.structure_map(heatmaps)  # one S for both ways in
    for step in range(2):
        detector = Norms(nn.GroupNorm)
        papers(detector, images, heatmaps).backward()
        errors = HeatmapTask().error(detector(ours.augment(images, maps_as_target)), heatmaps)
        ours.tell(errors)
        errors.mean().backward()
        assert ours.attacked.all(), step
    networks = ["attacker", "reconstruction_weight"]
    networks += [] if PAPER[name].get("discriminator", ours) is None else ["discriminator"]
    start, end, due = (vectors(state, networks) for state in (before, ours, papers))
    for network in due:
        moved = (due[network] - start[network]).norm()
        assert (end[network] - due[network]).norm() <= 1e-3 * moved, network
        assert moved > 0 or network == "reconstruction_weight", network
    assert ours.report.read()["error"] == pytest.approx(papers.report.read()["error"], rel=1e-4)


def vectors(holder, networks):
    """All weights of each network."""
    state = holder if isinstance(holder, dict) else holder.state_dict()
    found = {n: [v for key, v in state.items() if key.startswith(f"{n}.")] for n in networks}
    return {name: flat(values) for name, values in found.items() if values}


# --- several processes ---------------------------------------------------------------------------


def process(rank):
    """Both ways of learning, on this process's part of every batch."""
    return {told: learn_together(rank, told) for told in (False, True)}


def learn_together(rank, told):
    """What the attacker ends with, and what this process alone would have taught it."""
    detector, adversary = Norms(), tiny_adversary(attacker=Noiseless(), optimizer=sgd)
    alone = []
    original = learning._gradients

    def gradients_of(*arguments, **options):
        taught = original(*arguments, **options)
        alone.append(flat(taught))
        return taught

    before = flat(adversary.attacker.parameters())
    images, landmarks, heatmaps = batch(rank)
    parallel = DistributedDataParallel(detector)
    errors = HeatmapTask().error(parallel(adversary.augment(images, landmarks)), heatmaps)
    if told:
        adversary.tell(errors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "_gradients", gradients_of)
        errors.mean().backward()
    return {
        "before": before,
        "after": flat(adversary.attacker.parameters()),
        "discriminator": flat(adversary.discriminator.parameters()),
        "alone": alone[0],
        "gradients": flat(gradients(detector)),
    }


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("needs gloo")
    return run_ranks(process, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("told", [False, True], ids=["untold", "told"])
def test_two_processes_teach_one_attacker_by_the_mean_of_their_lessons(ends, told):
    one, other = (rank[told] for rank in ends)
    for name in ("after", "discriminator", "gradients"):
        assert torch.equal(one[name], other[name])
    assert not torch.equal(one["alone"], other["alone"])
    mean = (one["alone"] + other["alone"]) / 2
    torch.testing.assert_close(one["before"] - one["after"], RATE * mean, rtol=1e-3, atol=1e-7)
    assert (one["before"] - one["after"]).abs().max() > 1e-6

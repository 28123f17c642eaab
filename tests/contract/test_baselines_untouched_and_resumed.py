"""The baselines keep the adversary's promises: untouched, also on errors, resumed to the bit."""

import random

import numpy as np
import pytest
import torch
from ranks import run_ranks
from test_resume import Run as AdversaryRun
from test_untouched import (
    DETECTORS,
    TELLING,
    HalfwayError,
    Stop,
    assert_untouched,
    case,  # noqa: F401 # a fixture
    owned,
    preset_gradients,
    settle,
)
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from toys import CoordinateToy, HeatmapToy, differences, heatmap_batch, snapshot, task_and_batch

from advaug import HeatmapTask
from advaug.baselines import (
    AdvMix,
    AugMax,
    HardestAppearance,
    HardestGeometry,
    MixingNet,
    PGDAdversary,
    SecondCopy,
    StabilityTraining,
    VirtualAdversary,
)


def advmix(task, **options):
    return AdvMix(task, mixer=MixingNet(8, base_width=8), **options)


def taught(task, **options):
    teacher = HeatmapToy() if isinstance(task, HeatmapTask) else CoordinateToy()
    return advmix(task, teacher=teacher.eval(), **options)


def noisy_copy(task, **options):
    def transform(images, target):
        factor = random.uniform(0.9, 1.0) * np.random.uniform(0.9, 1.0)  # noqa: NPY002
        return images * factor, target

    return SecondCopy(task, transform=transform, **options)


DEFENCES = {
    "pgd": lambda task, **options: PGDAdversary(task, steps=2, **options),
    "fgsm": lambda task, **options: PGDAdversary(task, steps=1, **options),
    "virtual": VirtualAdversary,
    "stability": StabilityTraining,
    "advmix": advmix,
    "advmix-with-a-teacher": taught,
    "handcrafted": SecondCopy,
    "erasing": SecondCopy.erasing,
    "rand-augment": SecondCopy.rand_augment,
    "augmix": SecondCopy.augmix,
    "prime": SecondCopy.prime,
    "augmax": AugMax,
    "appearance": SecondCopy.appearance,
    "hardest": HardestAppearance,
    "hardest-geometry": lambda task, **options: HardestGeometry(task, draws=2, **options),
    "python-and-numpy": noisy_copy,
}
every_defence = pytest.mark.parametrize("make", DEFENCES.values(), ids=list(DEFENCES))

# A teacher of one stage cannot teach a detector of two.
PAIRS = [
    (detector, name)
    for name in DEFENCES
    for detector in (DETECTORS if name in ("pgd", "virtual") else TELLING)
    if (detector, name) != ("multi-stage", "advmix-with-a-teacher")
]


# --- after a call that works -----------------------------------------------------------------


@pytest.mark.parametrize(("case", "name"), PAIRS, indirect=["case"])
def test_the_detector_is_untouched(case, name):  # noqa: F811 # the fixture
    detector, net, task, images, target = case
    defence = DEFENCES[name](task, batch_norm="isolated")
    settle(detector, images)
    preset_gradients(net)
    before = owned(net)
    defence(detector, images, target)
    defence.pictures(detector, images, target)
    defence(detector, images, target)
    assert_untouched(net, before)


@every_defence
@pytest.mark.parametrize("batch_norm", ["running", "split"])
def test_the_detector_is_untouched_under_the_other_policies(make, batch_norm):
    task, images, target = task_and_batch("heatmap")
    net, defence = HeatmapToy(), make(task, batch_norm=batch_norm)
    preset_gradients(net)
    before = owned(net)
    for _ in range(2):
        loss = defence(net, images, target)
    assert_untouched(net, before)
    loss.backward()


@every_defence
def test_with_shared_statistics_only_those_differ(make):
    task, images, target = task_and_batch("heatmap")
    net, defence = HeatmapToy(), make(task, batch_norm="shared")
    preset_gradients(net)
    before = owned(net)
    defence(net, images, target)
    changed = differences(before, owned(net))
    assert any(path.endswith("running_mean") for path in changed)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert [path for path in changed if not path.endswith(statistics)] == []
    # One forward that counts, as in any training step: looking for pictures moves nothing.
    assert net.body[1].num_batches_tracked == 1


@every_defence
def test_a_teachers_and_the_inputs_values_are_untouched(make):
    task, images, target = task_and_batch("heatmap")
    net, defence = HeatmapToy(), make(task)
    teacher = getattr(defence, "teacher", None) or HeatmapToy()
    before = owned(teacher), snapshot([images, target]), (images._version, target._version)
    defence(net, images, target).backward()
    assert_untouched(teacher, before[0])
    assert differences(before[1], [images, target]) == []
    assert (images._version, target._version) == before[2]


class Normalising(nn.Module):
    """A detector that normalises its pictures itself, where they lie or in a copy."""

    def __init__(self, *, in_place):
        super().__init__()
        self.toy, self.in_place = HeatmapToy(dropout=0.0), in_place

    def forward(self, images):
        images = images if self.in_place else images.clone()
        return self.toy(images.sub_(0.5).div_(0.25))


@every_defence
def test_a_detector_that_works_in_place_spoils_neither_pictures_nor_the_defence(make):
    losses = []
    for in_place in (True, False):
        torch.manual_seed(0)
        images, heatmaps = heatmap_batch()
        before = snapshot([images, heatmaps])
        loss = make(HeatmapTask())(Normalising(in_place=in_place), images, heatmaps)
        loss.backward()
        assert differences(before, [images, heatmaps]) == []
        losses.append(loss.detach())
    torch.testing.assert_close(*losses)


@every_defence
@pytest.mark.parametrize("batch_norm", ["isolated", "running", "shared", "split"])
def test_the_loss_reaches_the_detector_beside_a_clean_loss_from_before(make, batch_norm):
    task, images, target = task_and_batch("heatmap")
    net, defence = HeatmapToy(), make(task, batch_norm=batch_norm)
    clean = task.error(net(images), target).mean()
    clean_gradients = torch.autograd.grad(clean, list(net.parameters()), retain_graph=True)
    (clean + defence(net, images, target)).backward()
    moved = [
        not torch.equal(p.grad, g) for p, g in zip(net.parameters(), clean_gradients, strict=True)
    ]
    assert all(p.grad.isfinite().all() for p in net.parameters())
    # The second set takes the gradients of BatchNorm's own weight and bias.
    assert sum(moved) >= (len(moved) - 2 if batch_norm == "split" else len(moved))
    assert [p for p in defence.parameters() if p.grad is not None and batch_norm != "split"] == []


# --- after a call that raises half-way -------------------------------------------------------


# How often a call runs the detector, and how often it measures the output.
USES = {
    "pgd": (3, 3),
    "fgsm": (2, 2),
    "virtual": (3, 2),
    "stability": (2, 1),
    "augmax": (2, 2),
    "hardest-geometry": (3, 3),
    "advmix": (2, 2),
    "advmix-with-a-teacher": (2, 2),
}
HALFWAY = [
    (name, culprit, at)
    for name in DEFENCES
    for culprit, uses in zip(("detector", "measure"), USES.get(name, (1, 1)), strict=True)
    for at in range(1, uses + 1)
]


@pytest.mark.parametrize(("name", "culprit", "at"), HALFWAY)
@pytest.mark.parametrize("batch_norm", ["isolated", "running", "split"])
def test_after_an_exception(name, culprit, at, batch_norm):
    task, images, target = task_and_batch("heatmap")
    net, defence = HeatmapToy(), DEFENCES[name](task, batch_norm=batch_norm)
    options = {}
    if culprit == "detector":
        options["forward"] = Stop(lambda net, images: net(images), at)
    if culprit == "measure" and name in ("virtual", "stability"):
        defence.distance = Stop(defence.distance, at)
    elif culprit == "measure":
        task.error = Stop(task.error, at)
    preset_gradients(net)
    before, state = owned(net), snapshot(defence.state_dict())
    with pytest.raises(HalfwayError):
        defence(net, images, target, **options)
    assert_untouched(net, before)
    after = defence.state_dict()
    assert torch.equal(after["_extra_state"]["generator"], state["_extra_state"]["generator"])
    if at == 1 and batch_norm != "split":  # where a second set may have begun
        learned = differences(state, after)
        assert [path for path in learned if not path.startswith(".transform")] == []


def test_after_an_exception_in_the_transform():
    def transform(images, target):
        torch.rand(3)
        raise HalfwayError

    task, images, target = task_and_batch("heatmap")
    net, defence = HeatmapToy(), SecondCopy(task, transform=transform)
    before = owned(net)
    with pytest.raises(HalfwayError):
        defence(net, images, target)
    assert_untouched(net, before)


@every_defence
def test_unfit_inputs_raise_before_anything_has_moved(make):
    task, images, target = task_and_batch("heatmap")
    net, defence = HeatmapToy(), make(task)
    before = owned(net), snapshot(defence.state_dict())
    for pictures, truth in (
        (images * 255, target),
        (images[0], target),
        (images, target[:2]),
        (images, torch.full_like(target, torch.nan)),
        (images.double(), target),
    ):
        with pytest.raises((ValueError, TypeError), match="must"):
            defence(net, pictures, truth)
    with torch.no_grad(), pytest.raises(ValueError, match=r"gradients enabled.*pictures"):
        defence(net, images, target)
    assert_untouched(net, before[0])
    assert differences(before[1], defence.state_dict()) == []


# --- exact resume ----------------------------------------------------------------------------


class Run(AdversaryRun):
    """A training run that can be saved and taken up, with a baseline in the adversary's place."""

    def __init__(self, make, options, seed=0):
        super().__init__("heatmap", {}, seed=seed)
        self.adversary = make(self.task, seed=seed, **options)


@pytest.mark.parametrize("name", [name for name in DEFENCES if name != "advmix-with-a-teacher"])
@pytest.mark.parametrize("batch_norm", ["isolated", "split"])
def test_a_resumed_run_equals_an_uninterrupted_one(name, batch_norm, tmp_path):
    make, options = DEFENCES[name], {"batch_norm": batch_norm}
    whole = Run(make, options)
    whole.steps(0, 2)
    torch.save(whole.state(), tmp_path / "state.pt")
    whole.steps(2, 4)
    resumed = Run(make, options, seed=77)
    resumed.load(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.steps(2, 4)
    assert resumed.losses == whole.losses[2:]
    assert differences(whole.state(), resumed.state()) == []


@every_defence
def test_a_run_with_another_seed_differs(make):
    """The comparison above can fail."""
    one, other = Run(make, {}), Run(make, {})
    other.adversary._generator.manual_seed(5)
    transform = getattr(other.adversary, "transform", None)
    if hasattr(transform, "generator"):
        transform.generator.manual_seed(5)
    for run in (one, other):
        run.steps(0, 2)
    assert one.losses != other.losses


def test_the_state_holds_everything_that_a_step_of_advmix_moves_and_no_teacher():
    run = Run(taught, {"batch_norm": "split"})
    run.steps(0, 2)
    before = snapshot(run.adversary.state_dict())
    run.steps(2, 3)
    moved = " ".join(differences(before, run.adversary.state_dict()))
    for part in ("mixer.down", "mixer_optimizer", "generator", "calls", "batch_norms.second"):
        assert part in moved, part
    assert [key for key in before if "teacher" in key or "recolour" in key] == []


def test_the_loss_scale_of_float16_is_resumed(tmp_path):
    def look(run, step):
        _, images, target = task_and_batch("heatmap", seed=step)
        with torch.autocast("cpu", torch.float16):
            run.adversary(run.detector, images, target)
            return run.adversary.pictures(run.detector, images, target)

    whole = Run(advmix, {})
    look(whole, 0)
    torch.save(whole.state(), tmp_path / "state.pt")
    resumed = Run(advmix, {}, seed=9)
    resumed.load(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(look(whole, 1), look(resumed, 1))
    assert differences(whole.state(), resumed.state()) == []
    assert whole.adversary.state_dict()["_extra_state"]["loss_scale"]


# --- several processes -------------------------------------------------------------------------


def process(rank):
    """One process: other pictures and another start of the mixer than the other one's."""
    torch.manual_seed(0)
    net = DistributedDataParallel(HeatmapToy())
    torch.manual_seed(rank)
    defence = advmix(HeatmapTask(), batch_norm="split")
    for step in range(2):
        task, images, target = task_and_batch("heatmap", seed=10 * step + rank)
        (task.error(net(images), target).mean() + defence(net, images, target)).backward()
    _, images, target = task_and_batch("heatmap")
    return {
        "learned": [p.detach().clone() for p in defence.parameters()],
        "gradients": [p.grad for p in net.parameters()],
        "pictures": defence.pictures(net, images, target),
    }


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_learn_one_mixer_and_draw_different_pictures(tmp_path):
    one, other = run_ranks(process, tmp_path)
    assert differences(one["learned"], other["learned"]) == []
    torch.testing.assert_close(one["gradients"], other["gradients"])
    assert not torch.equal(one["pictures"], other["pictures"])

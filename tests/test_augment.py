"""`augment`: which pictures come back changed, what stays as it was, and what is refused."""

import contextvars
import copy
import functools
import gc
import random
import warnings
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset
from toys import HeatmapToy, differences, heatmap_batch, pictures, snapshot, tiny_adversary

from advaug import (
    HeatmapTask,
    PixelSpec,
    SampleAdaptiveAdversary,
    ShapeError,
    UNetAttacker,
)
from advaug.step import in_batch
from advaug.step.quota import Quota

ALL = {"beta": 0.5}  # a constant β above ln 1.5 shows every chosen picture


def learn(adversary, step=0, *, tell=False, count=4):
    """One step of the caller's; gives the pictures that the detector saw."""
    images, landmarks = pictures(count, seed=step)
    _, heatmaps = heatmap_batch(count, seed=step)
    shown = adversary.augment(images, landmarks)
    torch.manual_seed(step)
    errors = HeatmapTask().error(detector()(shown), heatmaps)
    if tell:
        adversary.tell(errors)
    errors.mean().backward()
    return shown.detach()


@functools.cache
def detector():
    state = torch.get_rng_state()
    torch.manual_seed(0)
    made = HeatmapToy(dropout=0.0)
    torch.set_rng_state(state)
    return made


# --- which pictures ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_the_others_come_back_bit_for_bit_and_half_is_attacked(count):
    adversary, attacked, calls = tiny_adversary(**ALL), 0, 10
    for step in range(calls):
        images, landmarks = pictures(count, seed=step)
        before = images.clone()
        shown = adversary.augment(images, landmarks)
        changed = (shown.detach() != images).flatten(1).any(dim=1)
        assert torch.equal(changed, adversary.attacked)
        assert torch.equal(shown[~changed], images[~changed])
        assert torch.equal(images, before)
        attacked += int(changed.sum())
        adversary._pending = None  # nothing is learned here
    assert attacked == calls * count // 2


@given(batches=st.lists(st.integers(0, 33), max_size=40), share=st.floats(0.01, 1.0))
def test_over_many_calls_the_share_is_exact_however_large_the_batches_are(batches, share):
    quota, total = Quota(), 0
    for batch in batches:
        count = quota.next(batch, share)
        assert count == quota.next(batch, share)  # nothing moves by asking
        assert 0 <= count <= batch
        quota.take(batch, count)
        total += count
    assert abs(total - sum(batches) * share) < 1


def test_a_small_last_batch_gets_its_share():
    """Every epoch ends with one: its pictures would otherwise be attacked too often or never."""
    adversary, attacked = tiny_adversary(**ALL), 0
    for step in range(20):
        adversary.augment(*pictures(5 if step % 2 else 2, seed=step))
        adversary._pending = None
        attacked += int(adversary.attacked.sum())
    assert attacked == 35  # of 70


def test_with_several_processes_each_batch_has_one_and_the_share_is_kept():
    quota = Quota()
    counts = []
    for _ in range(8):
        counts.append(quota.next(2, 0.125, least=1))
        quota.take(2, counts[-1])
    assert counts == [1] * 8
    assert quota.next(64, 0.125, least=1) == 2  # what was too many is made up for


def test_every_picture_has_its_turn():
    adversary, turns = tiny_adversary(**ALL), torch.zeros(8)
    images, landmarks = pictures(8)
    for _ in range(200):
        adversary.augment(images, landmarks)
        adversary._pending = None  # nothing is learned here
        turns += adversary.attacked
    assert turns.sum() == 800
    assert turns.min() > 70  # of 100 expected; five times the standard deviation is 35
    assert turns.max() < 135


@pytest.mark.parametrize("off", ["eval", "no-grad", "inference"])
def test_where_nothing_is_trained_everything_comes_back_as_it_was(off):
    adversary, (images, landmarks) = tiny_adversary(), pictures()
    before = snapshot(adversary.state_dict())
    modes = {"eval": torch.enable_grad, "no-grad": torch.no_grad, "inference": torch.inference_mode}
    adversary.train(off != "eval")
    with modes[off]():
        assert adversary.augment(images, landmarks) is images
    assert adversary.attacked is None
    assert adversary.weights is None
    assert differences(before, adversary.state_dict()) == []


def test_the_global_random_states_and_the_callers_tensors_stay():
    adversary, (images, landmarks) = SampleAdaptiveAdversary(), pictures()
    target = landmarks.clone()
    before = [torch.get_rng_state(), repr(np.random.get_state()), random.getstate()]  # noqa: NPY002 # the global one
    given = images.clone()
    adversary.augment(images, landmarks).sum().backward()
    after = [torch.get_rng_state(), repr(np.random.get_state()), random.getstate()]  # noqa: NPY002 # the global one
    assert differences(before, after) == []
    assert torch.equal(images, given)
    assert torch.equal(landmarks, target)


def test_the_initial_weights_follow_the_seed_and_leave_the_global_state():
    state = torch.get_rng_state()
    one, again, other = (SampleAdaptiveAdversary(seed=seed) for seed in (3, 3, 4))
    assert torch.equal(state, torch.get_rng_state())
    assert differences(one.state_dict(), again.state_dict()) == []
    assert differences(one.attacker.state_dict(), other.attacker.state_dict())
    assert differences(one.discriminator.state_dict(), other.discriminator.state_dict())


@pytest.mark.parametrize("where", ["attacker", "discriminator", "appearance"])
def test_after_an_exception_everything_is_as_it_was_and_the_next_call_goes_on(where):
    def fail(*_):
        raise RuntimeError("on purpose")

    fails = {"on": False}

    def appearance(images):
        return fail() if fails["on"] and where == "appearance" else images

    adversary = tiny_adversary(appearance=appearance)
    twin = tiny_adversary(appearance=lambda images: images)
    twin.load_state_dict(adversary.state_dict())
    before, state = snapshot(adversary.state_dict()), torch.get_rng_state()
    fails["on"] = True
    hook = None
    if where != "appearance":
        hook = getattr(adversary, where).register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        adversary.augment(*pictures())
    assert differences(before, adversary.state_dict()) == []
    assert torch.equal(state, torch.get_rng_state())
    fails["on"] = False
    if hook is not None:
        hook.remove()
    assert torch.equal(learn(adversary), learn(twin))
    assert differences(adversary.state_dict(), twin.state_dict()) == []


def test_a_bad_call_does_not_lose_the_lesson_of_the_one_before():
    adversary, (images, landmarks) = tiny_adversary(**ALL), pictures()
    before = snapshot(adversary.attacker.state_dict())
    shown = adversary.augment(images, landmarks)
    with pytest.raises(ValueError, match="`images` must be in"):
        adversary.augment(images + 9, landmarks)
    shown.square().sum().backward()
    assert differences(before, adversary.attacker.state_dict())


# --- pictures in the appearance only -------------------------------------------------------------


class Bold(torch.nn.Module):
    """An attacker that paints every picture from the start, and its one weight."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((1,), 0.3))

    def forward(self, images, structure, noise):
        return self.scale * noise.expand_as(images)


def at_a_control_call(calls=10, **options):
    """A told adversary whose next call shows some pictures in the appearance only."""
    adversary = tiny_adversary(share=1.0, **{"attacker": Bold(), "beta": 0.5, **options})
    for step in range(calls):
        learn(adversary, step, tell=True)
    return adversary


def test_pictures_in_the_appearance_only_do_not_enter_the_controller():
    """They have an SSIM of 1, which says nothing about the attacker."""
    adversary = at_a_control_call()
    controller, seen, moved = adversary.reconstruction_weight, [], []
    weights, update = controller.weights, controller.update
    controller.weights = lambda *given: seen.append(given[0]) or weights(*given)
    controller.update = lambda similarity: moved.append(similarity) or update(similarity)
    learn(adversary, 10, tell=True)
    assert [len(similarity) for similarity in seen] == [2]  # of 4
    assert seen[0].max() < 0.9
    assert torch.equal(moved[0], seen[0].mean())


def test_pictures_in_the_appearance_only_are_no_false_ones_for_the_discriminator():
    adversary = at_a_control_call()
    judged = []
    adversary.discriminator.register_forward_pre_hook(lambda _, given: judged.append(given[0]))
    images, landmarks = pictures(4, seed=10)
    shown = adversary.augment(images, landmarks)
    false, true = judged
    assert len(false) == len(true) == 2
    assert (false != true).flatten(1).any(dim=1).all()
    assert (shown == images).flatten(1).all(dim=1).sum() == 2  # there is no appearance here


def test_pictures_in_the_appearance_only_are_in_the_appearance_and_weigh_one():
    adversary = at_a_control_call(appearance=lambda images: 0.5 * images)
    images, landmarks = pictures(4, seed=10)
    shown = adversary.augment(images, landmarks).detach()
    plain = (shown == 0.5 * images).flatten(1).all(dim=1)
    assert plain.sum() == 2
    assert adversary.attacked.all()
    assert adversary.weights[plain].tolist() == [1.0] * 2
    assert adversary.weights[~plain].tolist() == [0.5] * 2


# --- β -------------------------------------------------------------------------------------------


class Painter(torch.nn.Module):
    """An attacker that paints the first pictures it is given ever more, and its one weight."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, images, structure, noise):
        strength = torch.linspace(0, 1, len(images)).view(-1, 1, 1, 1)
        return self.scale * strength * noise.sign().expand_as(images) * (0.5 - images).abs()


def test_a_picture_is_shown_as_often_as_its_beta_says(monkeypatch):
    """The mean over many draws of weight times shown is β; 2 % is four standard errors."""
    adversary = tiny_adversary(attacker=Painter(), discriminator=None, share=1.0)
    adversary.attacker_optimizer.param_groups[0]["lr"] = 0.0
    images, landmarks = pictures(8)
    total, betas, draws = torch.zeros(()), torch.zeros(()), 600
    found = recorded_betas(monkeypatch)
    for _ in range(draws):
        adversary.augment(images, landmarks)
        adversary._pending = None
        total += (adversary.weights * adversary.attacked).sum()
        betas += found[-1].sum()
    everyone = torch.stack(found)
    assert everyone.min() < 0.25 < 0.4 < everyone.max()  # the gate is put to a test
    assert total.item() == pytest.approx(betas.item(), rel=0.02)


@pytest.mark.parametrize(("beta", "shown", "weight"), [(0.0, 0, 1.0), (0.5, 4, 0.5), (1.0, 4, 1.0)])
def test_a_constant_beta_shows_all_or_nothing_and_weighs_it(beta, shown, weight):
    adversary, (images, landmarks) = tiny_adversary(beta=beta, share=1.0), pictures()
    out = adversary.augment(images, landmarks)
    assert adversary.attacked.sum() == shown
    assert adversary.weights.tolist() == [weight] * 4
    if not shown:
        assert torch.equal(out.detach(), images)


def test_the_others_weigh_one():
    adversary = tiny_adversary(beta=0.5)
    adversary.augment(*pictures(6))
    assert adversary.weights[~adversary.attacked].tolist() == [1.0] * 3
    assert adversary.weights[adversary.attacked].tolist() == [0.5] * 3


def test_a_picture_without_a_visible_landmark_stays_as_it_was():
    adversary, (images, landmarks) = tiny_adversary(share=1.0, **ALL), pictures()
    visible = torch.ones(4, 3, dtype=torch.bool)
    visible[1] = False
    shown = adversary.augment(images, (landmarks, visible))
    assert adversary.attacked.tolist() == [True, False, True, True]
    assert torch.equal(shown[1], images[1])
    shown.sum().backward()
    landmarks[~visible] = torch.nan
    adversary.augment(images, landmarks)
    assert adversary.attacked.tolist() == [True, False, True, True]


def test_where_nobody_is_visible_all_come_back_and_training_goes_on():
    adversary, (images, landmarks) = tiny_adversary(share=1.0, **ALL), pictures()
    nobody = torch.zeros(4, 3, dtype=torch.bool)
    shown = adversary.augment(images, (landmarks, nobody))
    assert torch.equal(shown.detach(), images)
    shown.sum().backward()
    learn(adversary)
    assert adversary.health().ok


# --- no gradient, or more than one ---------------------------------------------------------------


def test_where_no_gradient_comes_back_nothing_moves_and_it_is_said_once():
    adversary = tiny_adversary(**ALL)
    weights = snapshot([adversary.attacker.state_dict(), adversary.discriminator.state_dict()])
    images, landmarks = pictures()
    adversary.augment(images, landmarks)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            adversary.augment(images, landmarks)
    assert [str(warning.message)[:22] for warning in caught] == ["no gradient came back "]
    assert caught[0].filename == __file__
    now = [adversary.attacker.state_dict(), adversary.discriminator.state_dict()]
    assert differences(weights, now) == []
    assert "the last 3 calls" in str(adversary.health())
    adversary.augment(images, landmarks).square().sum().backward()
    assert adversary.health().ok
    assert differences(weights[0], adversary.attacker.state_dict())


def test_of_two_calls_before_a_backward_only_the_newest_teaches():
    ours, twin = tiny_adversary(**ALL), tiny_adversary(**ALL)
    twin.load_state_dict(ours.state_dict())
    images, landmarks = pictures()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = (ours.augment(images, landmarks) for _ in range(2))
        (first.square().sum() + second.square().sum()).backward()
        twin.augment(images, landmarks)
        twin.augment(images, landmarks).square().sum().backward()
    assert differences(ours.state_dict(), twin.state_dict()) == []


def recorded_betas(monkeypatch):
    """β of every scene from here on."""
    found, judge = [], in_batch.judge

    def watched(*arguments, **options):
        verdict = judge(*arguments, **options)
        found.append(verdict.beta)
        return verdict

    monkeypatch.setattr(in_batch, "judge", watched)
    return found


def recorded(monkeypatch):
    """Weak references to every scene's tensors from here on."""
    held, draw = [], in_batch.draw

    def watched(*arguments, **options):
        scene = draw(*arguments, **options)
        held.extend(weakref.ref(t) for t in (scene.adversarial, scene.perturbed, scene.clean))
        return scene

    monkeypatch.setattr(in_batch, "draw", watched)
    return held


def one_backward(adversary):
    learn(adversary)


def told_backward(adversary):
    learn(adversary, tell=True)


def backward_twice(adversary):
    loss = adversary.augment(*pictures()).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()


def never_and_the_next_call(adversary):
    adversary.augment(*pictures())
    with pytest.warns(UserWarning, match="no gradient"):
        learn(adversary)


def never_and_evaluation(adversary):
    adversary.augment(*pictures())
    adversary.eval().augment(*pictures())


def raised(adversary):
    with pytest.raises(ValueError, match="on purpose"):
        _raise_in_between(adversary)
    with pytest.warns(UserWarning, match="no gradient"):
        learn(adversary)


def _raise_in_between(adversary):
    adversary.augment(*pictures())
    raise ValueError("on purpose")


@pytest.mark.parametrize(
    "use",
    [
        one_backward,
        told_backward,
        backward_twice,
        never_and_the_next_call,
        never_and_evaluation,
        raised,
    ],
)
def test_nothing_of_a_scene_outlives_its_step(use, monkeypatch):
    held, adversary = recorded(monkeypatch), tiny_adversary()
    gc.collect()
    gc.disable()
    try:
        use(adversary)
        assert held
        assert [reference() for reference in held if reference() is not None] == []
    finally:
        gc.enable()


@pytest.mark.parametrize("tell", [False, True], ids=["untold", "told"])
def test_memory_stays_flat(tell):
    """Over 300 steps, without the garbage collector: no tensors add up, nor objects after it.

    Nor variables of Python's context, which live as long as their thread does.
    """
    adversary, counts = tiny_adversary(), []
    gc.collect()
    gc.disable()
    try:
        for step in range(300):
            learn(adversary, step % 3, tell=tell, count=2)
            if step in (9, 299):
                tensors = sum(type(thing) is torch.Tensor for thing in gc.get_objects())
                gc.collect()
                counts.append((tensors, len(gc.get_objects())))
    finally:
        gc.enable()
    (tensors, objects), (tensors_after, objects_after) = counts
    assert tensors_after <= tensors + 2
    assert objects_after <= objects + 50  # fewer than one for every fifth step


def test_the_threads_context_does_not_grow():
    """PyTorch's `config.patch` leaves a variable behind in it each time that it is called."""
    pytest.importorskip("torch._functorch.config")  # as after anything was compiled
    adversary = tiny_adversary()
    learn(adversary)
    before = len(contextvars.copy_context())
    for step in range(5):
        learn(adversary, step)
    assert len(contextvars.copy_context()) == before


# --- resume --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tell", [False, True], ids=["untold", "told"])
def test_a_resumed_run_equals_an_uninterrupted_one(tell, tmp_path):
    options = {"regions": "random", "appearance": "random", "attacker_every": 2}
    whole, resumed = tiny_adversary(**options), tiny_adversary(seed=9, **options)
    for step in range(9):
        learn(whole, step, tell=tell)
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(9, 22):
        one, other = (learn(each, step, tell=tell) for each in (whole, resumed))
        assert torch.equal(one, other)
    assert differences(whole.state_dict(), resumed.state_dict()) == []


def test_a_checkpoint_of_another_attacker_is_refused_and_nothing_is_lost():
    adversary = tiny_adversary()
    learn(adversary)
    other = tiny_adversary(attacker=UNetAttacker(8, base_width=4, structure=True, coarse=0))
    before = snapshot(adversary.state_dict())
    with pytest.raises(ValueError, match=r"`state_dict` must be .* `attacker\."):
        adversary.load_state_dict(other.state_dict())
    assert differences(before, adversary.state_dict()) == []
    without = tiny_adversary(discriminator=None)
    with pytest.raises(ValueError, match="`state_dict` must be .*`discriminator"):
        adversary.load_state_dict(without.state_dict())
    assert differences(before, adversary.state_dict()) == []


def test_a_copy_goes_on_by_itself():
    adversary = tiny_adversary()
    adversary.augment(*pictures())
    twin = copy.deepcopy(adversary)
    adversary._pending = None
    assert torch.equal(learn(adversary, 1), learn(twin, 1))
    assert differences(adversary.state_dict(), twin.state_dict()) == []


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(31, 31), (250, 250), (33, 48)], ids=str)
def test_any_size_and_any_number_of_channels(channels, size):
    adversary = SampleAdaptiveAdversary(channels=channels)
    images = torch.rand(2, channels, *size)
    landmarks = torch.rand(2, 5, 2) * 20 + 5
    before = snapshot(adversary.attacker.state_dict())
    shown = adversary.augment(images, landmarks)
    assert shown.shape == images.shape
    shown.square().sum().backward()
    assert differences(before, adversary.attacker.state_dict())


def test_pictures_in_255_and_in_any_order_of_channels_are_attacked_alike():
    torch.manual_seed(0)
    images, landmarks = pictures()
    mean, std = (103.5, 116.3, 123.7), (57.4, 57.1, 58.4)
    given = (255 * images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    plain = tiny_adversary(**ALL)
    spec = tiny_adversary(pixels=PixelSpec.from_255(mean, std), **ALL)
    spec.load_state_dict(plain.state_dict())
    one, other = plain.augment(images, landmarks), spec.augment(given, landmarks)
    back = (other * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)) / 255
    torch.testing.assert_close(one, back, rtol=0, atol=1e-5)
    assert torch.equal(other[~spec.attacked], given[~spec.attacked])


@pytest.mark.parametrize("in_place", [False, True], ids=["plain", "in-place"])
def test_a_list_of_pictures_of_several_sizes(in_place):
    adversary = tiny_adversary(**ALL)
    given = [torch.rand(3, *size) for size in ((40, 32), (33, 50), (64, 20), (32, 32))]
    kept = [picture.clone() for picture in given]
    landmarks = [torch.rand(k, 3, 2) * 15 + 2 for k in (1, 2, 1, 3)]
    shown = adversary.augment(given, landmarks)
    assert isinstance(shown, list)
    assert adversary.attacked.sum() == 2
    for one, other, attacked in zip(shown, given, adversary.attacked, strict=True):
        assert one.shape == other.shape
        assert (one is other) == (not attacked)
    before = snapshot(adversary.attacker.state_dict())
    seen = [p.sub_(0.5) if in_place and p.requires_grad else p for p in shown]
    sum(picture.square().sum() for picture in seen).backward()
    assert differences(before, adversary.attacker.state_dict())
    assert all(torch.equal(*pair) for pair in zip(given, kept, strict=True))


def test_what_lies_beside_a_picture_of_a_list_teaches_nothing():
    """The perturbation of a small picture ends where the picture ends."""
    adversary = tiny_adversary(share=1.0, **ALL)
    scenes, draw = [], in_batch.draw

    def watched(*arguments, **options):
        scenes.append(draw(*arguments, **options))
        return scenes[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_batch, "draw", watched)
        adversary.augment([torch.rand(3, 20, 32), torch.rand(3, 32, 24)], torch.rand(2, 3, 2) * 15)
    (scene,) = scenes
    drawn = (scene.perturbed - scene.clean).detach().abs().amax(dim=1, keepdim=True)
    assert (drawn * (1 - scene.inside)).max() == 0
    assert (drawn * scene.inside).max() > 0


# --- bad input -----------------------------------------------------------------------------------


def good():
    images, landmarks = pictures(2, side=64)
    return images, landmarks


BAD = {
    "bytes": (lambda i, t: ((255 * i).byte(), t), TypeError, "`images` must be floating point"),
    "no-pictures": (lambda i, t: ("cat", t), TypeError, "`images` must be"),
    "above": (lambda i, t: (255 * i, t), ValueError, "`images` must be in .* Divide 0..255"),
    "below": (lambda i, t: (i - 0.5, t), ValueError, "`images` must be in .*PixelSpec"),
    "nan": (lambda i, t: (i * torch.nan, t), ValueError, "`images` must be in"),
    "device": (lambda i, t: (i.to("meta"), t), ValueError, "`images` must be on .* Move one"),
    "target-device": (lambda i, t: (i, t.to("meta")), ValueError, "`target` must be on the device"),
    "device-of-one-in-a-list": (
        lambda i, t: ([i[0], i[1].to("meta")], [t[:1], t[1:]]),
        ShapeError,
        "`images` must be pictures of one kind, .* one device",
    ),
    "target-device-of-one-in-a-list": (
        lambda i, t: (i, [t[:1], t[1:].to("meta")]),
        ValueError,
        "`target` must be on the device",
    ),
    "target-device-of-visible": (
        lambda i, t: (i, (t, torch.ones(2, 3).bool().to("meta"))),
        ValueError,
        "`target` must be on the device",
    ),
    "target-device-of-batch-idx": (
        lambda i, t: (i, {"keypoints": t, "batch_idx": torch.arange(2).to("meta")}),
        ValueError,
        "`target` must be on the device",
    ),
    "channels-last": (
        lambda i, t: (i.permute(0, 2, 3, 1), t),
        ShapeError,
        r"`images` must be .* `images\.permute\(0, 3, 1, 2\)`",
    ),
    "array-of-pictures": (lambda i, t: (i.numpy(), t), TypeError, "`images` must be a tensor"),
    "array-of-landmarks": (
        lambda i, t: (i, t.numpy()),
        TypeError,
        r"`target` must be .* `torch\.as_tensor\(target\)`",
    ),
    "volumes": (lambda i, t: (i[:, :, None], t), ShapeError, "`images` must be .* slice by slice"),
    "one-picture": (lambda i, t: (i[0], t), ShapeError, r"`images` must be .* `images\[None\]`"),
    "channels": (lambda i, t: (i[:, :1], t), ShapeError, "`images` must be .* `channels=1`"),
    "small": (lambda i, t: (i[..., :9], t), ShapeError, "`images` must have sides of at least"),
    "wide": (lambda i, t: (i.double(), t), TypeError, "`images` must fit"),
    "count": (lambda i, t: (i, t[:1]), ShapeError, "`target` must be .* for 2 pictures"),
    "list-count": (lambda i, t: (i, [t[0]]), ShapeError, "`target` must have an entry for each"),
    "outside": (lambda i, t: (i, t + 999), ValueError, "`target` must lie in the picture"),
    "units": (lambda i, t: (i, t / 64), ValueError, "`target` must be in pixels .*normalized=True"),
    "normalized-twice": (lambda i, t: (i, t), ValueError, "`target` must lie in the picture"),
    "float-visible": (
        lambda i, t: (i, (t, torch.ones(2, 3))),
        TypeError,
        "`visible` must be bool",
    ),
    "visible-count": (
        lambda i, t: (i, (t, torch.ones(2, 4).bool())),
        ShapeError,
        "`visible` must be",
    ),
    "heatmap-peak": (
        lambda i, t: (i, torch.full((2, 3, 64, 64), 255.0)),
        ValueError,
        "`target` must give heatmaps in",
    ),
    "words": (lambda i, t: (i, "left eye"), TypeError, "`target` must be landmarks"),
    "keys": (lambda i, t: (i, {"boxes": t}), TypeError, "`target` must have the key 'keypoints'"),
    "empty-list": (lambda i, t: ([], t), TypeError, "`images` must be a batch"),
    "mixed-list": (
        lambda i, t: ([i[0], i[1].double()], t),
        ShapeError,
        "`images` must be pictures of one kind",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("fresh", [True, False], ids=["first-call", "later"])
def test_bad_input_is_named_and_nothing_moves(name, fresh):
    change, kind, message = BAD[name]
    adversary, (images, landmarks) = tiny_adversary(), good()
    if not fresh:
        adversary.augment(images, landmarks).sum().backward()
    before, state = snapshot(adversary.state_dict()), torch.get_rng_state()
    with pytest.raises(kind, match=message):
        adversary.augment(*change(images, landmarks), normalized=name == "normalized-twice")
    assert differences(before, adversary.state_dict()) == []
    assert torch.equal(state, torch.get_rng_state())
    adversary.augment(images, landmarks).sum().backward()
    assert adversary.health().ok


def test_an_attacker_that_is_told_s_needs_a_target():
    with pytest.raises(ValueError, match="`target` must be given .*structure='discriminator'"):
        tiny_adversary().augment(good()[0])
    adversary = SampleAdaptiveAdversary()
    before = snapshot(adversary.attacker.state_dict())
    adversary.augment(good()[0]).square().sum().backward()
    assert differences(before, adversary.attacker.state_dict())


class InWorker(Dataset):
    """A data set that attacks its own pictures."""

    def __init__(self):
        self.adversary = tiny_adversary()

    def __len__(self):
        return 1

    def __getitem__(self, index):
        images, landmarks = good()
        return self.adversary.augment(images, landmarks)


def test_a_call_in_a_worker_of_a_data_loader_is_refused():
    loader = DataLoader(InWorker(), num_workers=1)
    with pytest.raises(RuntimeError, match="`augment` must be called in the training loop"):
        next(iter(loader))


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        (torch.rand(3, requires_grad=True), ShapeError),
        (torch.rand((), requires_grad=True), ShapeError),
        (torch.rand(2), ValueError),
        (1.5, ShapeError),
    ],
    ids=["count", "a-mean", "detached", "a-number"],
)
def test_told_errors_that_do_not_fit_are_named(errors, kind):
    adversary = tiny_adversary()
    shown = adversary.augment(*good())
    with pytest.raises(kind, match="`errors` must"):
        adversary.tell(errors)
    shown.sum().backward()
    assert adversary.health().ok

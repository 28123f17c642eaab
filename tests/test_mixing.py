"""The mixing attacker and its changes: ranges, gradients, own draws, and that it learns."""

import functools

import pytest
import torch
from test_baselines_behaviour import trained
from toys import in_double, once, pictures, task_and_batch, tiny_adversary

from advaug import SampleAdaptiveAdversary, View
from advaug.errors import ShapeError
from advaug.networks import MixingAttacker
from advaug.networks.mixing import lowering_of
from advaug.view.changes import CHANGES, another, blur, colour, cover, light, noise

every_change = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
both_kinds = pytest.mark.parametrize("kind", ["heatmap", "coordinate"])


def given(count=4, height=32, width=None, channels=3, seed=0):
    """Pictures, a structure map and noise."""
    draw = torch.Generator().manual_seed(seed)
    size = (height, height if width is None else width)
    images = torch.rand(count, channels, *size, generator=draw)
    structure = torch.rand(count, 1, *size, generator=draw)
    return images, structure, torch.randn(count, 1, *size, generator=draw)


# --- changes -------------------------------------------------------------------------------------


@every_change
@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (1, 3, 17, 40), (2, 1, 16, 16), (3, 4, 24, 24)])
def test_changed_pictures_stay_pictures_and_differ(change, shape):
    torch.manual_seed(0)
    images = torch.rand(shape)
    before = images.clone()
    changed = change(images)
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert ((changed - images).abs().mean(dim=(1, 2, 3)) > 0.01).all()
    assert torch.equal(images, before)


@every_change
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_changes_compute_in_float32_or_wider(change, dtype):
    images = torch.rand(2, 3, 16, 16).to(dtype)
    expected = torch.float32 if dtype == torch.bfloat16 else dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert change(images).dtype == expected


@pytest.mark.parametrize(
    "change", [c for c in CHANGES if c is not another], ids=lambda c: c.__name__
)
def test_each_picture_has_a_draw_of_its_own(change):
    torch.manual_seed(0)
    changed = change(pictures(1)[0].expand(6, -1, -1, -1))
    for one in range(6):
        for other in range(one):
            assert (changed[one] - changed[other]).abs().max() > 0.01


@every_change
def test_the_random_state_decides_everything(change):
    images = pictures(4)[0]
    torch.manual_seed(3)
    first = change(images)
    torch.manual_seed(3)
    assert torch.equal(change(images), first)


@pytest.mark.parametrize("change", [light, colour, blur, noise, another], ids=lambda c: c.__name__)
def test_gradients_flow_to_the_pictures(change):
    images = (0.2 + 0.5 * torch.rand(4, 3, 16, 16)).requires_grad_()
    torch.manual_seed(0)
    (gradient,) = torch.autograd.grad(change(images).sum(), images)
    assert gradient.isfinite().all()
    assert (gradient.abs() > 0).float().mean() > 0.5
    black = torch.zeros(4, 3, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(change(black).sum(), black)
    assert gradient.isfinite().all()


def test_a_cover_hides_the_picture():
    torch.manual_seed(0)
    one = cover(torch.zeros(3, 3, 16, 16))
    torch.manual_seed(0)
    assert torch.equal(cover(torch.ones(3, 3, 16, 16)), one)


@pytest.mark.parametrize("change", [light, colour, blur, noise], ids=lambda change: change.__name__)
def test_landmarks_stay_where_they_are(change):
    """The centre of a change's effect on a blob is the blob's, over many draws."""
    torch.manual_seed(0)
    place = torch.tensor([[[30.0, 22.0]]])
    grid = torch.arange(64.0)
    blob = torch.exp(-((grid - 30) ** 2 + (grid[:, None] - 22) ** 2) / 18).expand(200, 3, 64, 64)
    changed = change(0.7 * blob).mean(dim=1)
    changed = (changed - changed.flatten(1).median(dim=1).values[:, None, None]).clamp(min=0)
    window = changed[:, 10:35, 18:43].mean(dim=0)  # symmetrical about the blob
    weight = window / window.sum()
    found = torch.stack([(weight * grid[18:43]).sum(), (weight * grid[10:35, None]).sum()])
    assert (found - place[0, 0]).abs().max() < 0.15


def test_another_picture_is_upside_down_and_never_the_picture_itself():
    images = pictures(3)[0]
    assert torch.equal(another(images)[1], images[0].flip(-2))
    assert torch.equal(another(images[:1]), images[:1].flip(-2))


# --- the attacker --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (16, 16), (50, 37), (64, 96)], ids=str)
def test_the_mix_lies_between_the_picture_and_its_changes(size):
    torch.manual_seed(0)
    attacker = MixingAttacker(base_width=8)
    torch.nn.init.normal_(attacker.head[-1].weight, std=2.0)
    images, _, z = given(3, *size)
    state = torch.get_rng_state()
    perturbation = attacker(images, None, z)
    torch.set_rng_state(state)
    weights = attacker.weights(images, None, z)
    torch.testing.assert_close(perturbation, mixed(attacker, images, weights))
    assert weights.shape == (3, len(CHANGES), *size)
    assert weights.min() >= 0
    assert weights.sum(dim=1).max() <= 1 + 1e-5
    assert weights.sum(dim=1).mean(dim=(1, 2)).max() < 1.1 * attacker.budget
    assert weights.std() > 0.02
    assert (images + perturbation).min() >= -1e-5
    assert (images + perturbation).max() <= 1 + 1e-5


@pytest.mark.parametrize("budget", [0.05, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_the_budget_is_kept_and_its_gradient_is_that_of_a_constant_sum(budget, spread):
    torch.manual_seed(0)
    scores = 6 * torch.tanh(spread * torch.randn(5, 64, dtype=torch.float64))
    scores[0] = -6.0  # who asks for little gets it
    scores.requires_grad_()
    spent = (scores + lowering_of(scores, budget)[..., 0, 0]).sigmoid().mean(dim=1)
    asked = scores.sigmoid().mean(dim=1)
    torch.testing.assert_close(spent, asked.clamp(max=budget), rtol=1e-3, atol=1e-4)
    (gradient,) = torch.autograd.grad(spent.sum(), scores)
    (free,) = torch.autograd.grad(asked.sum(), scores)
    limited = asked > budget
    assert (gradient[limited].sum(dim=1).abs() < 1e-2).all()
    torch.testing.assert_close(gradient[~limited], free[~limited])


def test_each_picture_is_offered_a_few_changes_of_its_own():
    torch.manual_seed(0)
    attacker = MixingAttacker(base_width=8, offered=2)
    images, _, z = given(64)
    got = attacker.weights(images, None, z).amax(dim=(2, 3)) > 0
    assert (got.sum(dim=1) == 2).all()
    assert (got.float().mean(dim=0) - 2 / len(CHANGES)).abs().max() < 0.2
    every = MixingAttacker([light, noise], base_width=8, offered=5)
    assert (every.weights(images, None, z).amax(dim=(2, 3)) > 0).all()


def test_an_untrained_attacker_barely_perturbs_and_its_maps_are_of_low_resolution():
    torch.manual_seed(0)
    attacker = MixingAttacker()
    images, _, z = given(4, 64)
    with torch.no_grad():
        assert 0 < attacker(images, None, z).square().mean().sqrt() < 0.1
        torch.nn.init.normal_(attacker.head[-1].weight, std=2.0)
        weights = attacker.weights(images, None, z)
    small = torch.nn.functional.avg_pool2d(weights, 8)
    back = torch.nn.functional.interpolate(small, (64, 64), mode="bilinear")
    assert (weights - back).var() < 0.2 * weights.var()


def test_the_noise_makes_the_maps_diverse():
    torch.manual_seed(0)
    attacker = MixingAttacker(base_width=8, offered=len(CHANGES))
    torch.nn.init.normal_(attacker.head[-1].weight, std=2.0)
    images, _, z = given(1, 64)
    images = images.expand(4, -1, -1, -1)
    weights = attacker.weights(images, None, given(4, 64, seed=5)[2])
    assert (weights[0] - weights[1:]).abs().mean() > 0.05 * weights.mean()
    same = attacker.weights(images, None, z.expand(4, -1, -1, -1))
    torch.testing.assert_close(same[0], same[3])


def test_structure_and_channels_are_options():
    images, structure, z = given(2, 32, channels=1)
    attacker = MixingAttacker([light, noise], base_width=8, structure=True, channels=1)
    assert attacker(images, structure, z).shape == images.shape
    with pytest.raises(ShapeError, match="`structure` must be a map.*`structure=True` too"):
        attacker(images, None, z)
    with pytest.raises(ValueError, match="`changes` must be at least 1"):
        MixingAttacker([])
    for budget in (0.0, 1.5):
        with pytest.raises(ValueError, match="`budget` must be within .0, 1., but got .*no limit"):
            MixingAttacker(budget=budget)
    with pytest.raises(ShapeError, match=r"at least 16 pixels.* got \(15, 32\).*coarse"):
        MixingAttacker()(*given(1, 15, 32))
    assert MixingAttacker(coarse=2)(*given(1, 15, 32)).shape == (1, 3, 15, 32)


def test_gradients_reach_every_parameter():
    attacker = MixingAttacker(base_width=8)
    attacker(*given(2, 32)).square().sum().backward()
    for name, parameter in attacker.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


# --- learning ------------------------------------------------------------------------------------


def error_of(task, net, kind, attack):
    """Mean error under an attack on pictures that nobody has seen, with fixed draws."""
    found = []
    with torch.no_grad():
        for seed in range(6):
            _, images, target = task_and_batch(kind, 8, 5000 + seed)
            torch.manual_seed(seed)
            z = torch.randn_like(images[:, :1])
            found.append(task.error(net(images + attack(images, z)), target).mean().item())
    return sum(found) / len(found)


@once
def learned(kind, changes=CHANGES, rate=3e-3):
    """An attacker that has learned against a fixed detector, by its gradient and nothing else."""
    with in_double():
        net, (task, *_) = trained.__wrapped__(kind), task_and_batch(kind)
        attacker = MixingAttacker(changes, base_width=8, coarse=2)
        optimizer = torch.optim.Adam(attacker.parameters(), lr=rate)
        for step in range(60):
            _, images, target = task_and_batch(kind, 8, step)
            attacked = images + attacker(images, None, torch.randn_like(images[:, :1]))
            loss = -task.error(net(attacked), target).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return task, net.float(), attacker.float()


def mixed(attacker, images, weights):
    """The perturbation for given maps."""
    changes = zip(weights.split(1, dim=1), attacker.changes, strict=True)
    return sum(weight * (change(images) - images) for weight, change in changes)


def at_random(attacker, images, z):
    """Random maps of low resolution that spend the whole budget."""
    count, (height, width) = len(attacker.changes), images.shape[-2:]
    maps = torch.rand(len(images), count, height // 4, width // 4)
    maps = torch.nn.functional.interpolate(maps, (height, width), mode="bilinear")
    spent = maps.sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)
    return mixed(attacker, images, attacker.budget * maps / spent)


def elsewhere(attacker, images, z):
    """The attacker's own maps, but each at the next picture and upside down."""
    weights = attacker.weights(images, None, z).roll(1, dims=0).flip(-1, -2)
    return mixed(attacker, images, weights)


def erase(images):
    """Nothing but the mean colour."""
    return images.mean(dim=(2, 3), keepdim=True).expand_as(images)


@both_kinds
def test_the_attacker_learns_what_is_hard(kind):
    task, net, attacker = learned(kind)
    clean, random, hard = (
        error_of(task, net, kind, attack)
        for attack in (
            lambda images, z: 0 * images,
            functools.partial(at_random, attacker),
            lambda images, z: attacker(images, None, z),
        )
    )
    assert hard > 2 * random > 2 * clean


@both_kinds
def test_the_attacker_learns_where_it_is_hard(kind):
    """With an eraser the place decides: its maps are worth more on their own pictures."""
    task, net, attacker = learned(kind, (erase,), rate=1e-3)
    random, misplaced, hard = (
        error_of(task, net, kind, attack)
        for attack in (
            functools.partial(at_random, attacker),
            functools.partial(elsewhere, attacker),
            lambda images, z: attacker(images, None, z),
        )
    )
    assert hard > 1.4 * misplaced
    assert misplaced > 1.2 * random


@both_kinds
@pytest.mark.parametrize("options", [{}, {"discriminator": None}], ids=["judged", "alone"])
def test_the_adversary_teaches_it(kind, options):
    task, images, target = task_and_batch(kind)
    adversary = tiny_adversary(
        task, attacker=MixingAttacker(base_width=8), structure=False, **options
    )
    before = [parameter.detach().clone() for parameter in adversary.attacker.parameters()]
    net = trained(kind)
    for _ in range(3):
        attacked = adversary.attack(net, images, target)
    assert attacked.images.min() >= -1e-5
    assert attacked.images.max() <= 1 + 1e-5
    moved = [
        not torch.equal(p, b) for p, b in zip(adversary.attacker.parameters(), before, strict=True)
    ]
    assert all(moved)
    shown = []
    for seed in range(2):
        adversary._generator.manual_seed(seed)
        shown.append(adversary.attack(net, images, target, update=False).images)
    assert not torch.equal(*shown)


@both_kinds
def test_the_adversary_makes_it_a_stronger_attack(kind):
    """By the adversary's own objective: discriminator, L_R and controller at their defaults.

    It starts where the changes show a little. From where it barely perturbs, the time that it takes
    to find the first gradient that leads anywhere is a matter of rounding, and so of the machine.
    Nor does the attack grow evenly, so what counts is its mean over the steps, on new pictures.
    """
    task, net = task_and_batch(kind)[0], trained(kind)
    torch.manual_seed(0)
    attacker = MixingAttacker(base_width=8, coarse=2)
    torch.nn.init.constant_(attacker.head[-1].bias, -2.6)
    adversary = tiny_adversary(
        task,
        attacker=attacker,
        structure=False,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=5e-3),
    )

    def gain(steps, update):
        """How many times as large the attack makes the error."""
        clean, attacked = 0.0, 0.0
        for step in steps:
            _, images, target = task_and_batch(kind, 8, step)
            shown = adversary.attack(net, images, target, update=update).images
            with torch.no_grad():
                clean += task.error(net(images), target).mean().item()
                attacked += task.error(net(shown), target).mean().item()
        return attacked / clean

    untrained = gain(range(5000, 5010), update=False)
    gain(range(10), update=True)
    assert gain(range(10, 40), update=True) > 1.5 * untrained


@pytest.mark.parametrize(
    "view", [View(), View(regions=None), View.paper()], ids=["both", "all", "paper"]
)
def test_it_learns_in_the_callers_own_batch(view):
    task, images, target = task_and_batch("heatmap", 8)
    adversary = SampleAdaptiveAdversary(attacker=MixingAttacker(base_width=8), view=view)
    net, before = trained("heatmap"), None
    for _ in range(3):
        before = [parameter.detach().clone() for parameter in adversary.attacker.parameters()]
        shown = adversary.augment(images, pictures(8)[1])
        task.error(net(shown), target).mean().backward()
    assert not torch.equal(shown, images)
    after = list(adversary.attacker.parameters())
    assert any(not torch.equal(p, b) for p, b in zip(after, before, strict=True))
    net.zero_grad()


def test_an_adversary_refuses_an_attacker_of_other_inputs():
    with pytest.raises(ValueError, match="`attacker` must be built with `structure=False`"):
        SampleAdaptiveAdversary(attacker=MixingAttacker(structure=True))
    with pytest.raises(ValueError, match="`attacker` must be built with `channels=1`"):
        SampleAdaptiveAdversary(attacker=MixingAttacker(), channels=1)


def test_the_adversary_resumes_exactly(tmp_path):
    task, images, target = task_and_batch("heatmap")

    def make():
        torch.manual_seed(0)
        return tiny_adversary(task, attacker=MixingAttacker(base_width=8), structure=False)

    net, whole = trained("heatmap"), make()
    whole.attack(net, images, target)
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    resumed = make()
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    torch.manual_seed(8)  # the global state decides nothing
    one, other = (a.attack(net, images, target).images for a in (whole, resumed))
    assert torch.equal(one, other)

"""Each baseline does what its name says, at the cost that its docstring states."""

import re
from pathlib import Path

import pytest
import torch
from kornia import augmentation
from torch import nn
from toys import (
    SIDE,
    Calls,
    CoordinateToy,
    HeatmapToy,
    MultiStageToy,
    differences,
    once,
    pictures,
    task_and_batch,
)

from advaug import CoordinateTask, HeatmapTask, PixelSpec, baselines
from advaug.augment import HandcraftedAugmentation
from advaug.baselines import (
    AdvMix,
    AugMax,
    Defence,
    HardestAppearance,
    HardestGeometry,
    MixingNet,
    PGDAdversary,
    SecondCopy,
    StabilityTraining,
    VirtualAdversary,
)
from advaug.baselines._photometric import (
    AugMix,
    Erasing,
    PhotometricAutoAugment,
    PhotometricOperations,
)
from advaug.baselines.advmix import grid_mask

IMAGENET = PixelSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def tiny_advmix(task, **options):
    torch.manual_seed(0)  # from which the network starts
    return AdvMix(task, mixer=MixingNet(8, base_width=8), **options)


MAKERS = {
    "pgd": PGDAdversary,
    "virtual": VirtualAdversary,
    "stability": StabilityTraining,
    "advmix": tiny_advmix,
    "handcrafted": SecondCopy,
    "erasing": SecondCopy.erasing,
    "rand_augment": SecondCopy.rand_augment,
    "augmix": SecondCopy.augmix,
    "prime": SecondCopy.prime,
    "augmax": AugMax,
    "appearance": SecondCopy.appearance,
    "hardest": HardestAppearance,
    "geometry": HardestGeometry,
}
every_defence = pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))
both_kinds = pytest.mark.parametrize("kind", ["heatmap", "coordinate"])


@once
def trained(kind):
    """A detector without dropout that has learned to find the blobs, in evaluation mode."""
    detector = HeatmapToy(dropout=0.0) if kind == "heatmap" else CoordinateToy(dropout=0.0)
    task, *_ = task_and_batch(kind)
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-2)
    for step in range(80):
        _, images, target = task_and_batch(kind, 8, 1000 + step)
        loss = task.error(detector(images), target).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return detector.eval()


class Counter(nn.Module):
    """Counts the pictures that a detector sees, forwards and backwards."""

    def __init__(self, net):
        super().__init__()
        self.net, self.forwards, self.backwards, self.seen = net, 0, 0, []

    def forward(self, images):
        self.forwards += len(images)
        self.seen.append(images.detach())
        output = self.net(images)
        if output.requires_grad:
            output.register_hook(lambda _: setattr(self, "backwards", self.backwards + len(images)))
        return output


# --- the call ----------------------------------------------------------------------------------


def test_the_public_names_are_defences_and_documented():
    for name in baselines.__all__:
        held = getattr(baselines, name)
        assert held.__doc__, name
        if issubclass(held, Defence) and held is not Defence:
            assert "Cost:" in held.__doc__, name
            assert re.search(r"(19|20)\d\d|control|adversary shows", held.__doc__), name


@every_defence
@both_kinds
def test_a_defence_gives_a_scalar_that_trains_the_detector(make, kind):
    task, images, target = task_and_batch(kind)
    net = HeatmapToy() if kind == "heatmap" else CoordinateToy()
    loss = make(task)(net, images, target)
    assert loss.shape == ()
    assert loss > 0
    loss.backward()
    # Those before BatchNorm's mean are zero but for rounding.
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@every_defence
def test_weights_scale_the_loss(make):
    task, images, target = task_and_batch("heatmap")
    plain, weighted = (
        make(task, **options)(trained("heatmap"), images, target)
        for options in ({}, {"weight": 0.4, "loss_weight": 0.5})
    )
    torch.testing.assert_close(weighted, 0.2 * plain)


def test_grey_pictures_are_refused_without_naming_an_option_that_is_not_there():
    task, images, target = task_and_batch("heatmap")
    with pytest.raises(ValueError, match="Give a batch of RGB pictures"):
        PGDAdversary(task)(trained("heatmap"), images[:, :1], target)


@every_defence
def test_normalised_pictures_give_the_same_pictures(make):
    task, images, target = task_and_batch("heatmap")
    net = trained("heatmap")
    plain = make(task).pictures(net, images, target)
    normalised = make(task, pixels=IMAGENET).pictures(
        Calls(lambda given: net(IMAGENET.to_unit(given))), IMAGENET.from_unit(images), target
    )
    # The sign of a gradient may turn where it is all but zero.
    same = (IMAGENET.to_unit(normalised) - plain).abs() < 1e-4
    assert same.float().mean() > 0.99
    assert normalised.dtype == images.dtype


@every_defence
def test_the_same_seed_gives_the_same_pictures_and_another_seed_others(make):
    task, images, target = task_and_batch("heatmap")
    one, same, other = (
        make(task, seed=seed).pictures(trained("heatmap"), images, target) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@every_defence
def test_looking_at_pictures_learns_nothing_and_works_without_gradients(make):
    task, images, target = task_and_batch("heatmap")
    defence = make(task)
    before = {name: value.clone() for name, value in defence.named_parameters()}
    with torch.no_grad():
        shown = defence.pictures(trained("heatmap"), images, target)
    assert shown.shape == images.shape
    assert not shown.requires_grad
    assert differences(before, dict(defence.named_parameters())) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "`weight` must not be negative"),
        ({"loss_weight": -1.0}, "`loss_weight` must not be negative"),
        ({"batch_norm": "some"}, "`batch_norm` must be one of"),
    ],
)
@every_defence
def test_unknown_options_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(HeatmapTask(), **options)


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (PGDAdversary, {"steps": 0}),
        (PGDAdversary, {"epsilon": -0.1}),
        (PGDAdversary, {"step_size": 2.0}),
        (VirtualAdversary, {"epsilon": 1.5}),
        (VirtualAdversary, {"power_iterations": 0}),
        (StabilityTraining, {"noise": float("nan")}),
        (AdvMix, {"teacher_weight": 1.1}),
    ],
)
def test_options_out_of_range_are_refused(make, option):
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}` must be from"):
        make(HeatmapTask(), **option)


def test_a_detector_whose_output_does_not_depend_on_the_picture_is_refused():
    task, images, target = task_and_batch("heatmap")
    weight = torch.zeros((), requires_grad=True)
    with pytest.raises(ValueError, match="does not depend on the pictures"):
        PGDAdversary(task)(Calls(lambda _: target + weight), images, target)


# --- cost --------------------------------------------------------------------------------------

COSTS = {  # F a picture: forwards, and 1 F for the inputs or the weights of a backward
    "pgd": (PGDAdversary, {"steps": 4}, 2 * 4 + 3),
    "fgsm": (PGDAdversary, {"steps": 1}, 2 + 3),
    "virtual": (VirtualAdversary, {}, 1 + 2 + 3),
    "stability": (StabilityTraining, {}, 1 + 3),
    "advmix": (tiny_advmix, {}, 2 + 3),
    "second-copy": (SecondCopy, {}, 3),
    "hardest": (HardestAppearance, {"draws": 4}, 4 + 3),
    "erasing": (SecondCopy.erasing, {}, 3),
    "prime": (SecondCopy.prime, {}, 3),
    "augmax": (AugMax, {}, 2 + 3),
    "augmax-in-four-steps": (AugMax, {"steps": 4}, 2 * 4 + 3),
    "geometry": (HardestGeometry, {"draws": 4}, 4 + 3),
}


@pytest.mark.parametrize(("make", "options", "cost"), COSTS.values(), ids=list(COSTS))
def test_the_cost_is_what_the_docstring_says(make, options, cost):
    task, images, target = task_and_batch("heatmap")
    detector = Counter(HeatmapToy())
    make(task, **options)(detector, images, target).backward()
    # The last backward is for the weights and passes the inputs of the layers on the way.
    assert detector.forwards + detector.backwards + len(images) == cost * len(images)


# --- PGD ---------------------------------------------------------------------------------------


@both_kinds
@pytest.mark.parametrize("steps", [1, 5])
def test_pgd_stays_in_its_box_and_raises_the_error_more_than_noise_does(kind, steps):
    task, images, target = task_and_batch(kind, 8)
    net, epsilon = trained(kind), 4 / 255
    attacked = PGDAdversary(task, steps=steps, epsilon=epsilon).pictures(net, images, target)
    assert (attacked - images).abs().max() <= epsilon + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    noisy = (images + epsilon * torch.randn_like(images).sign()).clamp(0, 1)
    with torch.no_grad():
        clean, noise, error = (
            task.error(net(shown), target) for shown in (images, noisy, attacked)
        )
    assert (error > clean).all()
    assert (error - clean).mean() > 2 * (noise - clean).abs().mean()


def test_more_steps_raise_the_error_further():
    task, images, target = task_and_batch("heatmap", 8)
    net = trained("heatmap")
    errors = []
    for steps in (1, 10):
        shown = PGDAdversary(task, steps=steps).pictures(net, images, target)
        errors.append(task.error(net(shown), target).mean().item())
    assert errors[1] > errors[0]


def test_pictures_that_overshoot_stay_in_the_box():
    task, images, target = task_and_batch("heatmap")
    images = images * 1.03
    shown = PGDAdversary(task, epsilon=0.01).pictures(trained("heatmap"), images, target)
    assert (shown - images).abs().max() <= 0.01 + 1e-6


def test_pgd_by_hand():
    """A detector that is the mean of the picture: the attack goes to the far side of the box."""

    class MeanTask:
        def error(self, output, target):
            return (output - target).square()

        def landmark_heatmaps(self, target, size):
            return torch.ones(len(target), 1, *size)

    images, target = torch.full((2, 3, 16, 16), 0.5), torch.tensor([0.0, 1.0])
    defence = PGDAdversary(MeanTask(), steps=4, epsilon=0.1)
    scale = torch.ones((), requires_grad=True)
    loss = defence(Calls(lambda given: scale * given.mean(dim=(1, 2, 3))), images, target)
    torch.testing.assert_close(loss.item(), 0.36)
    loss.backward()
    torch.testing.assert_close(scale.grad.item(), (2 * 0.6 * 0.6 - 2 * 0.6 * 0.4) / 2)


def test_the_attack_meets_the_dropout_that_it_was_made_for():
    task, images, target = task_and_batch("heatmap")
    draws = []

    def detector(given):
        draws.append(torch.rand(3))
        return net(given)

    net = HeatmapToy()
    PGDAdversary(task, steps=2)(Calls(detector), images, target)
    assert all(torch.equal(draw, draws[0]) for draw in draws)
    first = draws[0]
    PGDAdversary(task, steps=2, seed=1)(Calls(detector), images, target)
    assert not torch.equal(draws[-1], first)


def test_split_batch_norm_trains_a_second_set():
    """AdvProp: the detector's own BatchNorm sees clean pictures alone."""
    task, images, target = task_and_batch("heatmap")
    net, defence = HeatmapToy(), PGDAdversary(task, steps=1, batch_norm="split")
    for _ in range(3):
        net.zero_grad()
        defence(net, images, target).backward()
    own, twin = net.body[1], defence.batch_norms.second[0]
    assert own.weight.grad is None
    assert torch.equal(own.running_mean, torch.zeros(8))
    assert not torch.equal(twin.running_mean, torch.zeros(8))
    assert not torch.equal(twin.weight, own.weight)


# --- virtual adversarial training and stability --------------------------------------------------


def moved(task, net, images, target, perturbation):
    """How far a perturbation moves the output, in the task's units."""
    with torch.no_grad():
        defence = VirtualAdversary(task)
        return defence.distance(net(images + perturbation), net(images), target)


@both_kinds
def test_the_virtual_direction_moves_the_output_more_than_random_ones(kind):
    task, images, target = task_and_batch(kind, 8)
    net, epsilon = trained(kind), 0.01
    shown = VirtualAdversary(task, epsilon=epsilon).pictures(net, images, target)
    virtual = moved(task, net, images, target, shown - images)
    size = (shown - images).square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(size, torch.full((8,), epsilon), rtol=1e-3, atol=1e-5)
    for _ in range(3):
        noise = epsilon * torch.randn_like(images)
        assert (virtual > 1.5 * moved(task, net, images, target, noise)).all()


def test_the_virtual_direction_of_a_linear_detector_is_its_own():
    """Heatmaps that are one projection of the picture: the direction is the projection."""
    weights = torch.randn(3 * 16 * 16)
    scale = torch.ones((), requires_grad=True)

    def detector(given):
        value = (given.flatten(1) @ weights)[:, None, None, None]
        return scale * value * torch.ones(1, 1, 16, 16)

    images, target = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16)
    defence = VirtualAdversary(HeatmapTask(), epsilon=0.02)
    direction = (defence.pictures(Calls(detector), images, target) - images).flatten(1)
    cosine = torch.nn.functional.cosine_similarity(direction, weights[None])
    torch.testing.assert_close(cosine.abs(), torch.ones(2), rtol=0, atol=1e-3)


@pytest.mark.parametrize("make", [VirtualAdversary, StabilityTraining])
@pytest.mark.parametrize("batch_norm", ["isolated", "running", "shared", "split"])
def test_without_a_perturbation_there_is_no_loss(make, batch_norm):
    """Dropout, normalisation and stages are the same in both passes."""
    task, images, target = task_and_batch("heatmap")
    option = {"epsilon": 0.0} if make is VirtualAdversary else {"noise": 0.0}
    defence = make(task, batch_norm=batch_norm, **option)
    assert defence(MultiStageToy(), images, target).item() == pytest.approx(0, abs=1e-6)


def test_the_distance_is_the_error_against_the_reference_in_the_true_faces_units():
    distance = VirtualAdversary(CoordinateTask(normalizer=(0, 1))).distance
    truth = torch.tensor([[[0.0, 0.0], [30.0, 40.0], [7.0, torch.nan]]])
    visible = torch.tensor([[True, True, False]])
    reference = torch.full((1, 3, 2), 10.0)  # a young detector: all in one place
    output = reference + torch.tensor([3.0, 4.0])
    found = distance([output, reference], [reference, reference], (truth, visible))
    torch.testing.assert_close(found, torch.tensor([5 / 50]))


def test_stages_are_compared_with_the_same_stage():
    task = HeatmapTask(output=lambda given: given["maps"])
    distance = StabilityTraining(task).distance
    target = task_and_batch("heatmap")[2]
    stages = [torch.rand_like(target), torch.rand_like(target)]
    same = distance({"maps": stages}, {"maps": stages}, target)
    torch.testing.assert_close(same, torch.zeros(4), rtol=0, atol=1e-6)
    one = distance({"maps": [stages[0], stages[0]]}, {"maps": stages}, target)
    torch.testing.assert_close(one, HeatmapTask().error(stages[0], stages[1]), rtol=1e-4, atol=1e-4)


class OwnTask:
    """A user's own: the mean colour."""

    def error(self, output, target):
        return (output - target).square().sum(dim=1)

    def landmark_heatmaps(self, target, size):
        return torch.ones(len(target), 1, *size)


@pytest.mark.parametrize(
    "make",
    [VirtualAdversary, StabilityTraining, lambda task, **o: AdvMix(task, teacher=abs, **o)],
)
def test_a_task_of_ones_own_needs_a_distance(make):
    with pytest.raises(TypeError, match="`distance` must be given for a task of your own"):
        make(OwnTask())
    make(OwnTask(), distance=lambda output, reference, _: (output - reference).square().sum(dim=1))


@pytest.mark.parametrize("make", [VirtualAdversary, StabilityTraining, tiny_advmix])
def test_a_task_of_ones_own_works_with_one(make):
    options = {"distance": lambda output, other, _: (output - other).square().sum(dim=1)}
    if make is tiny_advmix:
        options["teacher"] = Calls(lambda given: given.mean(dim=(2, 3)))
    images, target = torch.rand(2, 3, 32, 32), torch.rand(2, 3)
    gain = torch.ones((), requires_grad=True)
    loss = make(OwnTask(), **options)(Calls(lambda g: gain * g.mean(dim=(2, 3))), images, target)
    loss.backward()
    assert gain.grad.isfinite()


# --- hardest appearance ------------------------------------------------------------------------


def test_the_hardest_appearance_is_harder_than_a_random_one():
    task, images, target = task_and_batch("heatmap", 16)
    net = trained("heatmap")

    def error(defence):
        with torch.no_grad():
            return task.error(net(defence.pictures(net, images, target)), target).mean()

    errors = [error(HardestAppearance(task, draws=draws)) for draws in (1, 2, 8)]
    assert errors[0] < errors[1] < errors[2]
    assert error(SecondCopy.appearance(task)) == errors[0]


def test_a_choice_among_nothing_is_refused():
    with pytest.raises(ValueError, match="`draws` must be a whole number from 1, but got 0"):
        HardestAppearance(HeatmapTask(), draws=0)


# --- second copy -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["handcrafted", "erasing", "rand_augment", "augmix", "prime", "appearance"]
)
def test_a_second_copy_shows_as_many_pictures_as_the_batch_has_and_others(name):
    task, images, target = task_and_batch("heatmap")
    detector = Counter(HeatmapToy())
    MAKERS[name](task)(detector, images, target)
    (seen,) = detector.seen
    assert seen.shape == images.shape
    changed = (seen - images).abs().amax(dim=(1, 2, 3)) > 0.01
    assert changed.float().mean() >= 0.75
    if name != "appearance":  # which clamps nothing, as the adversary does not
        assert seen.min() >= 0
        assert seen.max() <= 1


def test_the_loss_of_a_second_copy_is_the_plain_one_on_the_transformed_batch():
    task, images, target = task_and_batch("coordinate")
    net = trained("coordinate")
    options = {"flip": 0.0, "hue": 0.05, "seed": 3}
    defence = SecondCopy(task, transform=HandcraftedAugmentation(**options), weight=0.4)
    loss = defence(net, images, target)
    copies, moved_target = HandcraftedAugmentation(**options)(images, target)
    expected = 0.4 * task.error(net(copies), moved_target).mean()
    assert not torch.equal(moved_target, target)
    torch.testing.assert_close(loss, expected)


def test_a_second_copy_moves_the_running_statistics_like_a_pass_of_the_callers():
    task, images, target = task_and_batch("heatmap")
    torch.manual_seed(0)
    one, other = HeatmapToy(), HeatmapToy()
    other.load_state_dict(one.state_dict())
    SecondCopy(task, transform=lambda x, t: (x, t))(one, images, target)
    other(images)
    torch.testing.assert_close(one.body[1].running_var, other.body[1].running_var)


@pytest.mark.parametrize("change", [PhotometricOperations(), AugMix(), PhotometricAutoAugment()])
def test_photometric_changes_leave_a_landmark_where_it_is(change):
    """A grey disc on grey is found at the same place, whatever its colour has become."""
    images, landmarks = pictures(8, SIDE)
    grid = torch.arange(SIDE, dtype=torch.float32)
    offset = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), dim=-1) - landmarks[:, :1, None]
    disc = (offset.norm(dim=-1) < 4)[:, None].float()
    images = (0.35 + 0.3 * disc).expand(-1, 3, -1, -1)
    changed = change(images)
    edge = torch.nn.functional.max_pool2d(disc, 5, 1, 2) - disc > 0
    outside = (changed - changed[:, :, :1, :1]).abs().amax(dim=1, keepdim=True)
    far = ~((disc > 0) | edge)
    assert (outside * far).max() < 0.02
    assert torch.allclose(changed[..., 0, 0], changed[..., -1, -1], atol=0.02)


@pytest.mark.parametrize("change", [PhotometricOperations(), AugMix(), PhotometricAutoAugment()])
def test_every_picture_is_changed_by_operations_of_its_own(change):
    torch.manual_seed(0)
    images = pictures(1)[0].expand(12, -1, -1, -1)
    changed = change(images)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert len({round(picture.sum().item(), 3) for picture in changed}) >= 8
    assert torch.equal(images, pictures(1)[0].expand(12, -1, -1, -1))


def test_erasing_covers_one_rectangle_with_noise():
    torch.manual_seed(0)
    images = torch.full((16, 3, 32, 32), 0.5)
    changed = (Erasing()(images) != 0.5).all(dim=1)
    part = changed.float().mean(dim=(1, 2))
    assert part.min() > 0.01
    assert part.max() < 0.4
    for mask in changed:
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert mask.sum() == area


def test_any_augmentation_of_kornias_can_make_the_copy():
    task, images, target = task_and_batch("heatmap")
    blur = augmentation.RandomGaussianBlur((5, 5), (1.0, 2.0), p=1.0)
    defence = SecondCopy(task, transform=lambda x, t: (blur(x), t))
    shown = defence.pictures(trained("heatmap"), images, target)
    assert shown.var() < images.var()


# --- AdvMix ------------------------------------------------------------------------------------


def test_the_mix_is_a_convex_combination():
    task, images, target = task_and_batch("heatmap", 8)
    seen = {}
    defence = tiny_advmix(task)
    torch.nn.init.normal_(defence.mixer.last.weight, std=0.5)  # far from equal weights
    defence.mixer.register_forward_hook(
        lambda _, inputs, output: seen.update(views=inputs[0], weights=output)
    )
    shown = defence.pictures(trained("heatmap"), images, target)
    views, weights = seen["views"], seen["weights"]
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(8, SIDE, SIDE))
    assert weights.std(dim=(0, 2, 3)).min() > 0.05
    assert torch.equal(views[:, 0], images)
    assert (shown >= views.amin(dim=1) - 1e-6).all()
    assert (shown <= views.amax(dim=1) + 1e-6).all()
    expected = sum(weights[:, k : k + 1] * views[:, k] for k in range(3))
    torch.testing.assert_close(shown, expected.detach())


@both_kinds
def test_the_mixer_raises_the_error_of_a_fixed_detector(kind):
    task, _, _ = task_and_batch(kind)
    net = trained(kind)
    defence = tiny_advmix(task, optimizer=lambda p: torch.optim.Adam(p, lr=5e-3))

    def error_on_mixes():
        found = []
        with torch.no_grad():
            for seed in range(4):
                _, images, target = task_and_batch(kind, 8, 5000 + seed)
                defence._generator.manual_seed(seed)
                shown = defence.pictures(net, images, target)
                found.append(task.error(net(shown), target).mean().item())
        return sum(found) / len(found)

    untrained = error_on_mixes()
    for step in range(40):
        _, images, target = task_and_batch(kind, 8, step)
        defence(net, images, target)
    assert error_on_mixes() > 1.2 * untrained


def test_a_teacher_has_its_part_of_the_loss():
    task, images, target = task_and_batch("heatmap")
    net, teacher = trained("heatmap"), HeatmapToy().eval()
    losses = []
    for weight in (0.0, 0.25, 1.0):
        torch.manual_seed(0)
        losses.append(
            tiny_advmix(task, teacher=teacher, teacher_weight=weight)(net, images, target)
        )
    torch.testing.assert_close(losses[1], torch.lerp(losses[0], losses[2], 0.25))
    torch.manual_seed(0)
    torch.testing.assert_close(losses[0], tiny_advmix(task)(net, images, target))
    assert not torch.isclose(losses[0], losses[2])


@both_kinds
def test_landmarks_behind_the_grid_are_not_visible(kind):
    task, _, target = task_and_batch(kind, 16)
    _, landmarks = pictures(16)
    covered = torch.zeros(16, 1, SIDE, SIDE, dtype=torch.bool)
    covered[..., : SIDE // 2] = True
    defence = tiny_advmix(task)
    values, visible = defence._hide(target, covered)
    assert values is target
    column = landmarks[..., 0].round()
    assert torch.equal(visible, column >= SIDE // 2)
    before = torch.rand(16, 3) > 0.5
    _, still = defence._hide((target, before), covered)
    assert torch.equal(still, before & visible)


def test_the_grid_covers_a_quarter_of_most_pictures_with_squares():
    torch.manual_seed(0)
    covered = grid_mask(torch.zeros(200, 3, 64, 64))[:, 0]
    part = covered.float().mean(dim=(1, 2))
    assert 0.6 < (part > 0).float().mean() < 0.8
    assert 0.2 < part[part > 0].mean() < 0.3
    for mask in covered[:20]:  # rows and columns are independent: squares
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns[None])


def test_a_mixer_takes_pictures_whose_sides_cannot_be_halved():
    task, images, target = task_and_batch("heatmap")
    loss = AdvMix(task)(HeatmapToy(), images[..., :25, :25], target[..., :25, :25])
    assert loss.isfinite()


# --- half precision ------------------------------------------------------------------------------


@every_defence
@both_kinds
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_defence_works_under_autocast(make, kind, dtype):
    task, images, target = task_and_batch(kind)
    net = HeatmapToy() if kind == "heatmap" else CoordinateToy()
    defence = make(task)
    with torch.autocast("cpu", dtype):
        clean = task.error(net(images), target).mean()
        loss = clean + defence(net, images, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [StabilityTraining, VirtualAdversary])
def test_a_reference_without_a_graph_leaves_no_weights_without_one_behind(make, dtype):
    """Autocast keeps the half-precision weights that it makes, with a graph or without."""
    task, images, target = task_and_batch("heatmap")
    net = HeatmapToy()
    with torch.autocast("cpu", dtype):
        loss = make(task)(net, images, target)
    loss.backward()
    assert all(p.grad is not None for p in net.parameters())
    assert net.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("make", [PGDAdversary, VirtualAdversary])
def test_small_gradients_do_not_vanish_under_float16(make):
    """A coordinate error of a good detector has gradients far below float16's smallest number."""
    task, images, target = task_and_batch("coordinate")
    net = trained("coordinate")

    class Tiny:
        landmark_heatmaps = task.landmark_heatmaps

        def error(self, output, target):
            return 1e-6 * task.error(output, target)

    options = (
        {}
        if make is PGDAdversary
        else {"distance": lambda o, r, t: 1e-6 * (o - r).norm(dim=2).sum(1)}
    )
    plain = make(Tiny(), **options).pictures(net, images, target)
    with torch.autocast("cpu", torch.float16):
        half = make(Tiny(), **options).pictures(net, images, target)
    assert torch.equal(half, plain)


# --- the page ------------------------------------------------------------------------------------


def test_the_snippets_of_the_page_run_in_their_order():
    text = (Path(__file__).parents[1] / "docs" / "baselines.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, "docs/baselines.md", "exec"), names)


def test_the_page_constructs_every_method():
    text = (Path(__file__).parents[1] / "docs" / "baselines.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "(task" in line]
    names = vars(baselines) | {"task": HeatmapTask(), "teacher": HeatmapToy().eval()}
    names["flip_permutation"] = [0, 1, 2]
    names["HandcraftedAugmentation"] = HandcraftedAugmentation
    found = [eval(re.findall(r"`([^`]*\(task[^`]*)`", row)[0], names) for row in rows]
    assert {type(each) for each in found} == {
        held
        for held in (getattr(baselines, name) for name in baselines.__all__)
        if issubclass(held, Defence) and held is not Defence
    }

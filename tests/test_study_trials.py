"""The study's trials: warps that keep landmarks, pictures attacked in turn, averages that lag."""

import numpy as np
import pytest
import torch
from lab.codecs import HeatmapCodec
from lab.study.average import averaged
from lab.study.faces import hold, measured_people, training_people
from lab.study.learner import Learner
from lab.study.measure import measure
from lab.study.own import HalfStill
from lab.study.settings import Run
from lab.study.trials import Adaptive, Geometry, GrowingAppearance, Step
from lab.study.warp import NUMBERS, warp_of
from small_study import people_root, settings_of  # noqa: F401 # a fixture

from advaug.augment import HandcraftedAugmentation
from advaug.heatmaps import encode_heatmaps
from advaug.schemes import FACE_68

SIDE = 64
SIZE = (SIDE, SIDE)


def drawn(count, *, seed=0, dtype=torch.float32):
    """Numbers of warps; the first two are the farthest that there are."""
    generator = torch.Generator().manual_seed(seed)
    numbers = 2 * torch.rand(count, NUMBERS, generator=generator, dtype=dtype) - 1
    numbers[0], numbers[1] = 1.0, -1.0
    return numbers


def places(count, points, *, seed=1, dtype=torch.float32):
    """Landmarks in the middle of the picture, which stay in it."""
    generator = torch.Generator().manual_seed(seed)
    return 20 + 24 * torch.rand(count, points, 2, generator=generator, dtype=dtype)


def centre_of(picture):
    """Centre of the light of pictures `(B, 1, H, W)`, `(B, 2)`."""
    pixels = torch.arange(SIDE, dtype=picture.dtype)
    weight = picture.sum(dim=(1, 2, 3))
    x, y = picture.sum(dim=(1, 2)) @ pixels / weight, picture.sum(dim=(1, 3)) @ pixels / weight
    return torch.stack([x, y], dim=1)


def test_a_dot_stays_at_its_landmark():
    numbers, landmarks = drawn(50), places(50, 1)
    dots = encode_heatmaps(landmarks, SIZE, sigma=1.0)
    warp = warp_of(numbers, SIZE)
    moved = warp.landmarks(landmarks)
    distance = (centre_of(warp.images(dots)) - moved[:, 0]).norm(dim=1)
    assert distance.max() < 0.1  # of a pixel
    assert (moved - landmarks).norm(dim=-1).mean() > 3  # and they do move


def test_landmarks_come_from_where_they_were():
    numbers, landmarks = drawn(200), places(200, 68, seed=3) * 4 - 96  # also far outside
    warp = warp_of(numbers, SIZE)
    assert (warp.sources(warp.landmarks(landmarks)) - landmarks).abs().max() < 1e-3


def test_no_numbers_but_the_scale_leave_a_picture_as_it_is():
    numbers, pictures = torch.zeros(1, NUMBERS), torch.rand(1, 3, *SIZE)
    low, high = np.log(0.885), np.log(1.285)
    numbers[:, 1] = -(low + high) / (high - low)
    warp = warp_of(numbers, SIZE)
    torch.testing.assert_close(warp.images(pictures), pictures, atol=1e-4, rtol=0)
    torch.testing.assert_close(warp.landmarks(places(1, 5)), places(1, 5))


def test_gradients_of_a_warp_are_its_slopes():
    numbers = drawn(3, dtype=torch.float64).requires_grad_()
    landmarks = places(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda each: warp_of(each, SIZE).landmarks(landmarks), numbers, atol=1e-3
    )
    smooth = encode_heatmaps(landmarks[:, :1], SIZE, sigma=6.0)
    slope = torch.autograd.grad(warp_of(numbers, SIZE).images(smooth).square().sum(), numbers)[0]
    step = torch.zeros_like(numbers)
    step[:, 0] = 1e-5
    with torch.no_grad():
        high, low = (warp_of(numbers + each, SIZE).images(smooth) for each in (step, -step))
    expected = (high.square() - low.square()).sum(dim=(1, 2, 3)) / 2e-5
    torch.testing.assert_close(slope[:, 0], expected, rtol=1e-3, atol=1e-3)


class Unmoved:
    """An adversary that attacks nothing."""

    def augment(self, images, target):
        self.attacked = torch.zeros(len(images), dtype=torch.bool)
        return images


class Stuck(torch.nn.Module):
    """A detector that finds landmarks where they were before."""

    def __init__(self, landmarks):
        super().__init__()
        self.heatmaps = encode_heatmaps(landmarks, SIZE, sigma=4.0)

    def forward(self, images):
        return self.heatmaps


class Wide(HeatmapCodec):
    """Heatmaps so wide that an error far away has a slope."""

    def encode(self, landmarks, visible, image_size):
        return encode_heatmaps(landmarks, image_size, sigma=4.0, visible=visible), visible


def step_of(landmarks, detector, *, visible=None, **changes):
    count = len(landmarks)
    usual = {
        "images": torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(5)),
        "landmarks": landmarks,
        "visible": torch.ones(landmarks.shape[:2], dtype=torch.bool)
        if visible is None
        else visible,
        "numbers": torch.arange(count),
        "progress": 0.0,
        "detector": detector,
        "adversary": Unmoved(),
        "codec": Wide(),
    }
    return Step(**{**usual, **changes})


def test_the_geometry_learns_what_is_hard():
    landmarks = places(1, 5).expand(16, 5, 2)
    step, trial = step_of(landmarks, Stuck(landmarks)), Geometry(0)

    def distance():
        with torch.no_grad():
            numbers = Geometry.numbers(trial, step.images)
            return (warp_of(numbers, SIZE).landmarks(landmarks) - landmarks).norm(dim=-1).mean()

    before = distance()
    for _ in range(60):
        trial.loss(step).backward()
        trial.learned(step.detector)
    assert distance() > 1.3 * before


def test_half_of_the_batch_is_warped_and_what_leaves_the_picture_is_not_visible():
    landmarks = places(4, 3)
    landmarks[2, 0] = torch.tensor([-9.0, 1.0])  # outside, however it is moved
    landmarks[3, 1] = torch.nan
    visible = torch.ones(4, 3, dtype=torch.bool)
    visible[3, 1] = False
    seen = {}

    class Watching(Wide):
        def encode(self, landmarks, visible, image_size):
            seen["visible"] = visible
            return super().encode(landmarks, visible, image_size)

    class Shown(Stuck):
        def forward(self, images):
            seen["images"] = images
            return super().forward(images)

    step = step_of(landmarks, Shown(places(4, 3)), visible=visible, codec=Watching())
    trial = Geometry(0)
    loss = trial.loss(step)
    loss.backward()
    assert torch.equal(seen["images"][:2], step.images[:2])
    changed = (seen["images"][2:] != step.images[2:]).flatten(1).float().mean(dim=1)
    assert (changed > 0.9).all()
    assert seen["visible"].tolist() == [
        [True] * 3,
        [True] * 3,
        [False, True, True],
        [True, False, True],
    ]
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in trial.network.parameters())


def test_a_warp_that_leaves_the_picture_shows_black():
    numbers = torch.zeros(1, NUMBERS)
    numbers[:, 1:4] = torch.tensor([-1.0, 1.0, 1.0])  # smaller, to the right and down
    shown = warp_of(numbers, SIZE).images(torch.ones(1, 3, *SIZE))
    assert (shown[..., 0, :] == 0).all()
    assert (shown[..., 32, 32] == 1).all()


def test_the_still_half_is_recoloured_and_mirrored_only():
    options = {"flip_permutation": FACE_68.flip_permutation, "seed": 3}
    images, landmarks = torch.rand(8, 3, *SIZE), places(8, 68)
    still, usual = HalfStill(**options), HandcraftedAugmentation(**options)
    pictures, points = still(images, landmarks)
    theirs, theirs_points = usual(images, landmarks)
    torch.testing.assert_close(pictures[:4], theirs[:4])
    torch.testing.assert_close(points[:4], theirs_points[:4])
    order = torch.tensor(FACE_68.flip_permutation)
    mirrored = torch.stack([SIDE - 1 - landmarks[..., 0], landmarks[..., 1]], dim=-1)[:, order]
    for place in range(4, 8):
        assert torch.allclose(points[place], landmarks[place]) or torch.allclose(
            points[place], mirrored[place]
        )


def test_easy_pictures_are_attacked_more_often():
    trial = Adaptive(8, seed=0)
    numbers = torch.arange(8)
    assert (trial.chances(numbers) == 0.5).all()  # nothing is known yet
    trial.running[:] = torch.arange(8.0)  # picture 7 is the hardest
    chances = trial.chances(numbers)
    assert chances.tolist() == pytest.approx([7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0.1])
    counts = torch.zeros(8)
    for _ in range(400):
        chosen = trial.choose(numbers)
        assert len(set(chosen.tolist())) == 4
        counts[chosen] += 1
    assert counts[:2].min() > 300
    assert counts[6:].max() < 100
    assert counts.sum() == 1600


def test_only_what_is_not_attacked_counts_as_a_picture_s_own_error():
    trial = Adaptive(6, seed=0)
    numbers = torch.tensor([5, 0, 3])
    trial.record(numbers, torch.tensor([1.0, 9.0, 3.0]), torch.tensor([False, True, False]))
    assert trial.running[[5, 3]].tolist() == [0.5, 1.5]  # relative to their mean
    assert trial.running[[0, 1, 2, 4]].isnan().all()
    trial.record(numbers, torch.tensor([3.0, 9.0, 1.0]), torch.tensor([False, True, False]))
    assert trial.running[[5, 3]].tolist() == [1.0, 1.0]


def test_an_appearance_grows():
    appearance = GrowingAppearance(torch.nn.Tanh())
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(appearance(images), images.tanh())
    appearance.strength = 0.0
    assert torch.equal(appearance(images), images)
    appearance.strength = 0.5
    torch.testing.assert_close(appearance(images), (images + images.tanh()) / 2)


@pytest.fixture
def learner(root, tmp_path):
    def make(arm, steps, **changes):
        settings = settings_of(root, tmp_path, **changes)
        data = hold(training_people(settings), "cpu")
        return Learner(Run(arm, 1), steps, data, settings, captured=False)

    return make


def test_the_attack_is_at_its_full_strength_after_half_of_the_run(learner):
    running, strengths, targets = learner("saat-growing", 8), [], []
    for _ in range(6):
        running.step()
        strengths.append(running.adversary.appearance.strength)
        targets.append(running.adversary.reconstruction_weight.target)
    assert strengths == [0, 0.25, 0.5, 0.75, 1, 1]
    assert targets == pytest.approx([0.99, 0.9675, 0.945, 0.9225, 0.9, 0.9])


def test_an_average_is_attacked_that_lags_behind(learner, monkeypatch):
    running, attacked = learner("saat-average", 8), []
    attack = type(running.adversary).attack
    monkeypatch.setattr(
        type(running.adversary),
        "attack",
        lambda own, detector, *given: (attacked.append(detector), attack(own, detector, *given))[1],
    )
    for _ in range(3):
        running.step()
    average = running.trial.average
    assert all(each is average for each in attacked)
    assert all(parameter.grad is None for parameter in average.parameters())
    ours, theirs = average.module.state_dict(), running.detector.state_dict()
    assert not torch.equal(ours["stem.0.weight"], theirs["stem.0.weight"])


def test_an_average_is_of_the_last_steps():
    detector = torch.nn.Linear(1, 1, bias=False)
    average = averaged(detector, 0.5)
    values = [1.0, 2.0, 3.0, 4.0]
    for value in values:
        torch.nn.init.constant_(detector.weight, value)
        average.update_parameters(detector)
    expected = values[0]
    for count, value in enumerate(values[1:], start=1):
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
    assert average.module.weight.item() == pytest.approx(expected)


REGULARISED = {"averaging": 0.9, "weight_decay": 0.1}


@pytest.mark.parametrize("arm", ["plain", "saat-average"])
def test_a_killed_run_with_an_average_goes_on_to_the_same_numbers(learner, tmp_path, arm):
    whole, killed, later = (learner(arm, 5, **REGULARISED) for _ in range(3))
    losses = [whole.step().item() for _ in range(5)]
    for _ in range(2):
        killed.step()
    killed.save(tmp_path / "checkpoints")
    later.load(tmp_path / "checkpoints")
    assert [later.step().item() for _ in range(3)] == losses[2:]
    for name, value in whole.measured.state_dict().items():
        assert torch.equal(later.measured.state_dict()[name], value), name


def test_the_average_is_measured_in_the_place_of_the_detector(learner, root):
    running = learner("plain", 6, averaging=0.9)
    for _ in range(4):
        running.step()
    pictures = hold(measured_people(running.settings), "cpu")

    def predictions():
        return measure(running, pictures, running.settings, 0.0)["predictions"]

    ours = predictions()
    running.average.module.load_state_dict(running.detector.state_dict())
    theirs = predictions()
    running.average = None
    assert np.array_equal(theirs, predictions())
    assert not np.array_equal(ours, theirs)


def test_weight_decay_shrinks_weights_and_is_off_by_default(learner):
    off, on = learner("plain", 4), learner("plain", 4, weight_decay=0.5)
    for _ in range(3):
        off.step()
        on.step()
    norms = [
        sum(parameter.square().sum() for parameter in each.detector.parameters()).item()
        for each in (off, on)
    ]
    assert norms[1] < norms[0]
    assert type(off.optimizer) is torch.optim.Adam

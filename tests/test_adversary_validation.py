"""What the adversary refuses, unchanged, and which gaps in a target it bears."""

import pytest
import torch
from probes import IMAGENET
from torch import nn
from toys import (
    SIDE,
    HeatmapToy,
    differences,
    grouped,
    heatmap_batch,
    pictures,
    snapshot,
    task_and_batch,
    tiny_adversary,
    tiny_attacker,
    tiny_discriminator,
)

from advaug import (
    CoordinateTask,
    HeatmapTask,
    SampleAdaptiveAdversary,
)

# --- visibility -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["heatmap", "coordinate"])
def test_a_sample_without_visible_landmarks_does_not_stop_the_batch(kind):
    task, images, target = task_and_batch(kind)
    visible = torch.ones(4, 3, dtype=torch.bool)
    visible[1] = False
    detector = nn.Sequential(HeatmapToy())
    if kind == "coordinate":
        detector.extend([nn.AvgPool2d(SIDE // 2), nn.Flatten(2), nn.Linear(4, 2)])
    adversary = tiny_adversary(task)
    for _ in range(3):
        loss = adversary(detector, images, (target, visible))
        loss.backward()
    assert loss.isfinite()
    assert all(p.isfinite().all() for p in adversary.parameters())
    assert all(p.grad.isfinite().all() for p in detector.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "kind",
    [
        "heatmap",
        "coordinate",
    ],
)
def test_nan_in_the_target_of_an_invisible_landmark_poisons_nobody(kind):
    task, images, target = task_and_batch(kind)
    visible = torch.ones(4, 3, dtype=torch.bool)
    visible[1, 2] = False
    target[1, 2] = torch.nan
    detector = nn.Sequential(HeatmapToy())
    if kind == "coordinate":
        detector.extend([nn.AvgPool2d(SIDE // 2), nn.Flatten(2), nn.Linear(4, 2)])
    adversary = tiny_adversary(task)
    adversary(detector, images, (target, visible)).backward()
    assert all(p.isfinite().all() for p in adversary.parameters())
    assert all(p.grad.isfinite().all() for p in detector.parameters())


# --- bad input -----------------------------------------------------------------------


def bad(images=None, target=None, detector=None):
    """A change to a good call: functions of the pictures, of the heatmaps, of the detector."""
    return images, target, detector


def put(value, *place):
    def change(tensor):
        tensor = tensor.clone()
        tensor[place] = value
        return tensor

    return change


class Detached(nn.Module):
    """Cuts the graph between the pictures and what it gives."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images.detach())


class Called(nn.Module):
    """A network that is called in a way of its own."""

    def __init__(self, net, call):
        super().__init__()
        self.net, self.call = net, call

    def forward(self, images):
        return self.call(self.net, images)


def no_grad_detector(net):
    return Called(net, lambda net, images: torch.no_grad()(net)(images))


BAD_INPUT = {
    "images-list": (
        bad(list),
        TypeError,
        r"`images` must be a tensor \(B, 3, H, W\), but got a list",
    ),
    "images-3d": (bad(lambda x: x[0]), ValueError, r"`images` must be .* but got \(3, 32, 32\)"),
    "images-grey": (bad(lambda x: x[:, :1]), ValueError, r"`images` must be .*\(4, 1, 32, 32\)"),
    "images-nhwc": (bad(lambda x: x.movedim(1, -1)), ValueError, r"but got \(4, 32, 32, 3\)"),
    "images-empty": (bad(lambda x: x[:0], lambda t: t[:0]), ValueError, r"B >= 1, but got \(0, "),
    "images-uint8": (
        bad(lambda x: (255 * x).byte()),
        TypeError,
        "`images` must be floating point, but got torch.uint8.*/ 255",
    ),
    "images-float64": (
        bad(lambda x: x.double()),
        TypeError,
        r"`images` must fit the adversary's torch.float32, but got torch.float64.*images.float\(\)",
    ),
    "images-0-to-255": (
        bad(lambda x: 255 * x),
        ValueError,
        r"`images` must be in \[0, 1\], but got values from .* to .*Divide 0..255 pictures by 255",
    ),
    "images-normalised": (
        bad(IMAGENET.from_unit),
        ValueError,
        r"`images` must be in \[0, 1\], but got values from -.*PixelSpec\(mean, std\)",
    ),
    "images-nan": (bad(put(torch.nan, 2, 0, 5, 5)), ValueError, "`images` must be .* nan to nan"),
    "images-inf": (bad(put(torch.inf, 2, 0, 5, 5)), ValueError, "`images` must be .* to inf"),
    "images-smaller-than-ssims-window": (
        bad(lambda x: x[..., :8, :8], lambda t: torch.ones_like(t[..., :8, :8])),
        ValueError,
        "`images` must have sides of at least 11",
    ),
    "images-device": (
        bad(lambda x: x.to("meta")),
        ValueError,
        r"`images` must be on the adversary's device, cpu, but got meta",
    ),
    "target-device": (
        bad(target=lambda t: t.to("meta")),
        ValueError,
        "`target` must be on the device of `images`, cpu, but got meta",
    ),
    "target-batch": (
        bad(target=lambda t: t[:3]),
        ValueError,
        r"`target` must have the batch size of `images`, 4, but got \(3, 3, 32, 32\)",
    ),
    "target-float64": (
        bad(target=lambda t: t.double()),
        TypeError,
        "`target` must not be wider than the torch.float32 of `images`, but got torch.float64",
    ),
    "target-kind": (
        bad(target=lambda t: {"heatmaps": t}),
        TypeError,
        "`target` must be a tensor or",
    ),
    "target-2d": (bad(target=lambda t: t[:, 0, 0]), ValueError, "`target` must be heatmaps"),
    "target-nan": (
        bad(target=put(torch.nan, 1, 2, 3, 3)),
        ValueError,
        "`target` must be finite where a landmark is visible, but got NaN",
    ),
    "target-peak-255": (
        bad(target=lambda t: 255 * t),
        ValueError,
        r"`target` must give heatmaps in \[0, 1\] .* but got values from 0 to .*Divide by the peak",
    ),
    "target-empty-maps": (
        bad(target=torch.zeros_like),
        ValueError,
        "`target` must show at least one visible landmark",
    ),
    "target-all-invisible": (
        bad(target=lambda t: (t, torch.zeros(4, 3, dtype=torch.bool))),
        ValueError,
        "`target` must show at least one visible landmark",
    ),
    "target-visible-shape": (
        bad(target=lambda t: (t, torch.ones(4, 5, dtype=torch.bool))),
        ValueError,
        r"`visible` must be \(4, 3\), but got \(4, 5\)",
    ),
    "detector-landmarks": (
        bad(detector=lambda net: Called(net, lambda net, x: net(x)[:, :2])),
        ValueError,
        r"detector's output must have the target's shape .* but got \(4, 2, 32, 32\)",
    ),
    "detector-stride": (
        bad(detector=lambda net: Called(net, lambda net, x: net(x)[..., ::2, ::2])),
        ValueError,
        r"detector's output must .* but got \(4, 3, 16, 16\)",
    ),
    "detector-dict": (
        bad(detector=lambda net: Called(net, lambda net, x: {"heatmaps": net(x)})),
        TypeError,
        r"detector's output must be a tensor .* dict with the keys \['heatmaps'\].*output=lambda",
    ),
    "detector-nan": (
        bad(detector=lambda net: Called(net, lambda net, x: net(x) * torch.nan)),
        ValueError,
        "the detector's output must be finite",
    ),
    "detector-no-grad": (
        bad(detector=no_grad_detector),
        ValueError,
        "the detector's output must carry a graph to its input",
    ),
    "detector-detaches-its-input": (
        bad(detector=Detached),
        ValueError,
        "the detector's output must carry a graph to its input",
    ),
}


def assert_refused_and_unchanged(adversary, detector, call, kind, message):
    """The call raises as said, and neither adversary nor detector nor global state differs."""
    adversary.report = marker = adversary.report
    before = snapshot([adversary.state_dict(), detector.state_dict(), torch.get_rng_state()])
    with pytest.raises(kind, match=message):
        call()
    after = [adversary.state_dict(), detector.state_dict(), torch.get_rng_state()]
    assert differences(before, after) == []
    assert adversary.report is marker
    assert all(p.grad is None for p in [*adversary.parameters(), *detector.parameters()])


@pytest.mark.parametrize("fresh", [True, False], ids=["first-call", "later-call"])
@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        pytest.param(
            *case,
            id=name,
        )
        for name, case in BAD_INPUT.items()
    ],
)
def test_bad_input_is_named_and_nothing_has_changed(change, kind, message, fresh):
    detector, adversary = HeatmapToy(), tiny_adversary()
    images, heatmaps = heatmap_batch()
    if not fresh:
        adversary.attack(detector, images, heatmaps)
    to_images, to_target, to_detector = change
    images = to_images(images) if to_images else images
    heatmaps = to_target(heatmaps) if to_target else heatmaps
    given = to_detector(detector) if to_detector else detector
    assert_refused_and_unchanged(
        adversary, detector, lambda: adversary(given, images, heatmaps), kind, message
    )


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (put(torch.nan, 1, 2, 0), ValueError, "`target` must be finite"),
        (lambda t: t[..., :1], ValueError, r"`target` must be landmarks \(B, N, 2\)"),
        (lambda t: t + 500, ValueError, "at least one visible landmark .*pixels of the picture"),
        (lambda t: t.flatten(1), ValueError, r"`target` must be landmarks .* but got \(4, 6\)"),
        (
            lambda t: (t, torch.zeros(4, 3, dtype=torch.bool)),
            ValueError,
            "at least one visible landmark",
        ),
    ],
    ids=["nan", "one-coordinate", "outside", "flat", "all-invisible"],
)
def test_bad_coordinates_are_named_and_nothing_has_changed(change, kind, message):
    detector, adversary = HeatmapToy(), tiny_adversary(CoordinateTask())
    images, landmarks = pictures()
    assert_refused_and_unchanged(
        adversary, detector, lambda: adversary(detector, images, change(landmarks)), kind, message
    )


def test_a_call_without_gradients_is_refused_with_the_way_out():
    detector, adversary = HeatmapToy(), tiny_adversary()

    def call():
        with torch.no_grad():
            adversary(detector, *heatmap_batch())

    assert_refused_and_unchanged(
        adversary, detector, call, ValueError, r"gradients enabled.*attack\(\.\.\., update=False\)"
    )


def test_a_detector_that_does_not_fit_leaves_no_second_set_behind():
    detector, adversary = HeatmapToy(), tiny_adversary(batch_norm="split")
    images, heatmaps = heatmap_batch()
    assert_refused_and_unchanged(
        adversary,
        detector,
        lambda: adversary(detector, images, heatmaps, forward=lambda net, x: net(x)[:, :2]),
        ValueError,
        "detector's output must have",
    )


def test_narrower_pictures_than_a_float64_adversary_are_named():
    adversary = tiny_adversary().double()
    with pytest.raises((TypeError, ValueError), match="`images`"):
        adversary(HeatmapToy().double(), *heatmap_batch())


def test_networks_that_do_not_fit_the_structure_switch_are_named():
    with pytest.raises(ValueError, match="`attacker` must be built with `structure=False`"):
        tiny_adversary(structure=False, attacker=tiny_attacker(structure=True))
    with pytest.raises(ValueError, match="`discriminator` must be built with `structure=True`"):
        tiny_adversary(discriminator=tiny_discriminator(structure=False))
    with pytest.raises(ValueError, match="`structure` must be one of discriminator, True"):
        tiny_adversary(structure="attacker")


def test_a_task_of_ones_own_may_take_a_list_with_one_target_a_picture():
    """As in torchvision's keypoint detectors; the task alone knows what a target is."""

    class Ragged(HeatmapTask):
        def error(self, output, target):
            return super().error(output, torch.stack([item["maps"] for item in target]))

        def landmark_heatmaps(self, target, size):
            return super().landmark_heatmaps(torch.stack([item["maps"] for item in target]), size)

    images, heatmaps = heatmap_batch()
    target = [{"maps": maps} for maps in heatmaps]
    assert tiny_adversary(Ragged())(HeatmapToy(), images, target).isfinite()


BAD_OPTIONS = {
    "task": ({"task": object()}, TypeError, "`task` must have the methods error"),
    "beta-word": (
        {"beta": "auto"},
        ValueError,
        r"`beta` must be one of adaptive, semantic or",
    ),
    "beta-negative": ({"beta": -0.5}, ValueError, "`beta` must not be negative, but got -0.5"),
    "beta-nan": ({"beta": float("nan")}, ValueError, "`beta` must"),
    "relaxation": ({"relaxation": -1.0}, ValueError, "`relaxation` must not be negative"),
    "form": ({"adversarial_form": "hinge"}, ValueError, "`adversarial_form` must be one of"),
    "batch-norm": ({"batch_norm": "none"}, ValueError, "`batch_norm` must be one of"),
    "discriminator-word": ({"discriminator": "patch"}, (TypeError, ValueError), "`discriminator`"),
    "reconstruction-word": (
        {"reconstruction_weight": "auto"},
        (TypeError, ValueError),
        "`reconstruction_weight`",
    ),
    "reconstruction-negative": (
        {"reconstruction_weight": -1.0},
        ValueError,
        "`reconstruction_weight`",
    ),
    "adversarial-negative": ({"adversarial_weight": -1.0}, ValueError, "`adversarial_weight`"),
}


@pytest.mark.parametrize(("options", "kind", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options_are_refused_when_it_is_made(options, kind, message):
    options = {"task": HeatmapTask(), "structure": True, "attacker": tiny_attacker(), **options}
    with pytest.raises(kind, match=message):
        SampleAdaptiveAdversary(options.pop("task"), **grouped(options))

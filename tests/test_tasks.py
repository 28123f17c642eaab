"""What a detector's output means: errors against plain loops, scale, stages, visibility."""

from dataclasses import dataclass

import numpy as np
import oracles
import pytest
import torch
from toys import heatmap_batch, pictures

from advaug import CoordinateTask, HeatmapTask, LandmarkTask, ShapeError, encode_heatmaps

DRAW = torch.Generator().manual_seed(7)
HEATMAPS = torch.rand(3, 4, 16, 12, generator=DRAW)
PREDICTED = HEATMAPS + 0.2 * torch.randn(3, 4, 16, 12, generator=DRAW)
MARKS = 5 + 50 * torch.rand(3, 6, 2, generator=DRAW)
POINTS = MARKS + torch.randn(3, 6, 2, generator=DRAW)
SHOWN_MAPS = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 1]]).bool()
SHOWN_MARKS = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 1], [1, 0, 1, 0, 0, 0]]).bool()


def close(ours, expected):
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-5)


# --- heatmaps --------------------------------------------------------------------------------


@pytest.mark.parametrize("visible", [None, SHOWN_MAPS], ids=["all", "some"])
def test_the_heatmap_error_is_eq_1_as_if_at_256_px(visible):
    target = HEATMAPS if visible is None else (HEATMAPS, visible)
    expected = oracles.heatmap_error(PREDICTED.numpy(), HEATMAPS.numpy(), visible)
    close(HeatmapTask().error(PREDICTED, target), 256**2 / (16 * 12) * expected)


def test_the_mean_heatmap_error_is_65536_times_a_mean_squared_error():
    mse = torch.nn.functional.mse_loss(PREDICTED, HEATMAPS)
    assert HeatmapTask().error(PREDICTED, HEATMAPS).mean().item() == pytest.approx(
        65536 * mse.item(), rel=1e-5
    )


@pytest.mark.parametrize("side", [64, 128, 256])
def test_a_blank_prediction_is_equally_wrong_at_every_resolution(side):
    """pi sigma^2 = 82 at 256 px with sigma .02 of the side: what λ = .1 is measured by."""
    landmarks = torch.tensor([[[0.4, 0.5], [0.6, 0.3]]]) * side
    heatmaps = encode_heatmaps(landmarks, (side, side))
    error = HeatmapTask().error(torch.zeros_like(heatmaps), heatmaps)
    assert error.item() == pytest.approx(82.35, rel=0.01)


def test_stages_add_up():
    task, twice = HeatmapTask(), PREDICTED.flip(0)
    both = task.error(PREDICTED, HEATMAPS) + task.error(twice, HEATMAPS)
    torch.testing.assert_close(task.error([PREDICTED, twice], HEATMAPS), both)
    torch.testing.assert_close(task.error((PREDICTED, twice), HEATMAPS), both)


def test_heatmaps_of_another_stride_are_shown_at_the_size_of_the_picture():
    _, landmarks = pictures(2, 32)
    small = encode_heatmaps(landmarks, (8, 8), image_size=(32, 32), sigma=1.0)
    shown = HeatmapTask().landmark_heatmaps(small, (32, 32))
    assert shown.shape == (2, 3, 32, 32)
    for i in range(2):
        for n in range(3):
            y, x = divmod(int(shown[i, n].argmax()), 32)
            assert (landmarks[i, n] - torch.tensor([x, y])).norm() < 3


def test_invisible_heatmaps_are_shown_as_zero_even_if_they_are_nan():
    _, heatmaps = heatmap_batch(2)
    heatmaps[0, 1] = torch.nan
    visible = torch.tensor([[True, False, True], [True, True, True]])
    shown = HeatmapTask().landmark_heatmaps((heatmaps, visible), (32, 32))
    assert not shown[0, 1].any()
    assert torch.equal(shown[0, 0], heatmaps[0, 0])


# --- coordinates -----------------------------------------------------------------------------


@pytest.mark.parametrize("visible", [None, SHOWN_MARKS], ids=["all", "some"])
def test_the_coordinate_error_is_the_mean_distance_over_the_size_of_the_box(visible):
    target = MARKS if visible is None else [MARKS, visible]
    points, marks = POINTS.numpy(), MARKS.numpy()
    expected = oracles.mean_distance(points, marks, visible) / oracles.box_size(marks, visible)
    close(CoordinateTask().error(POINTS, target), expected)


def test_the_coordinate_error_over_a_pair_is_the_nme():
    distance = np.linalg.norm((MARKS[:, 1] - MARKS[:, 4]).numpy(), axis=-1)
    expected = oracles.mean_distance(POINTS.numpy(), MARKS.numpy()) / distance
    close(CoordinateTask(normalizer=(1, 4)).error(POINTS, MARKS), expected)


def test_a_sample_whose_pair_is_not_visible_is_measured_by_its_box():
    by_pair = CoordinateTask(normalizer=(1, 4)).error(POINTS, (MARKS, SHOWN_MARKS))
    by_box = CoordinateTask().error(POINTS, (MARKS, SHOWN_MARKS))
    assert by_pair[2] == by_box[2]  # landmarks 1 and 4 are hidden in the third sample
    assert by_pair[1] != by_box[1]


@pytest.mark.parametrize("normalizer", ["box", (0, 3)], ids=str)
def test_the_coordinate_error_does_not_depend_on_the_resolution(normalizer):
    task = CoordinateTask(normalizer=normalizer)
    torch.testing.assert_close(task.error(4 * POINTS, 4 * MARKS), task.error(POINTS, MARKS))


def test_steps_add_up():
    task, coarse = CoordinateTask(), MARKS + 3
    both = task.error(coarse, MARKS) + task.error(POINTS, MARKS)
    torch.testing.assert_close(task.error([coarse, POINTS], MARKS), both)


def test_invisible_landmarks_may_be_nan():
    hidden = torch.where(SHOWN_MARKS[..., None], MARKS, torch.nan)
    points = POINTS.clone().requires_grad_()
    for task in (CoordinateTask(), CoordinateTask(normalizer=(1, 4))):
        error = task.error(points, (hidden, SHOWN_MARKS))
        torch.testing.assert_close(error, task.error(points, (MARKS, SHOWN_MARKS)))
        (gradient,) = torch.autograd.grad(error.sum(), points)
        assert gradient.isfinite().all()
        assert torch.equal(gradient.abs().sum(-1) > 0, SHOWN_MARKS)
    shown = CoordinateTask().landmark_heatmaps((hidden, SHOWN_MARKS), (64, 64))
    assert shown.isfinite().all()


def test_the_gradient_is_finite_where_a_landmark_is_met_exactly():
    points = MARKS.clone().requires_grad_()
    error = CoordinateTask().error(points, MARKS)
    (gradient,) = torch.autograd.grad(error.sum(), points)
    assert error.max() < 1e-6
    assert gradient.isfinite().all()


def test_a_sample_without_visible_landmarks_has_no_error():
    nothing = torch.zeros(3, 6, dtype=torch.bool)
    assert CoordinateTask().error(POINTS, (MARKS, nothing)).tolist() == [0, 0, 0]
    assert HeatmapTask().error(PREDICTED, (HEATMAPS, nothing[:, :4])).tolist() == [0, 0, 0]


def test_landmarks_on_one_point_do_not_divide_by_zero():
    same = torch.full((1, 6, 2), 20.0)
    assert CoordinateTask().error(same + 1, same).isfinite().all()


def test_landmarks_are_drawn_with_a_peak_of_one():
    marks = torch.tensor([[[5.0, 9.0], [20.0, 30.0]]])
    shown = CoordinateTask().landmark_heatmaps(marks, (40, 32))
    assert shown.shape == (1, 2, 40, 32)
    assert shown[0, 0, 9, 5] == 1
    assert shown[0, 1, 30, 20] == 1


def test_half_precision_landmarks_are_measured_in_float32():
    marks = torch.tensor([[[0.0, 0.0], [300.0, 300.0]]])
    error = CoordinateTask().error(marks.half() + 30, marks.half())
    torch.testing.assert_close(error, CoordinateTask().error(marks + 30, marks), rtol=1e-3, atol=0)


# --- adapters and protocol -------------------------------------------------------------------


@dataclass
class Output:
    maps: torch.Tensor


ADAPTERS = {
    "dict": (lambda o: o["maps"], {"maps": PREDICTED, "aux": 1}),
    "dataclass": (lambda o: o.maps, Output(PREDICTED)),
    "pair": (lambda o: o[1], ("features", PREDICTED)),
}


@pytest.mark.parametrize(("adapter", "output"), ADAPTERS.values(), ids=ADAPTERS)
def test_an_adapter_picks_the_heatmaps_out_of_any_output(adapter, output):
    expected = HeatmapTask().error(PREDICTED, HEATMAPS)
    assert torch.equal(HeatmapTask(output=adapter).error(output, HEATMAPS), expected)


def test_an_adapter_picks_the_coordinates_out_of_any_output():
    normalised = {"points": POINTS / 64}
    task = CoordinateTask(output=lambda o: o["points"] * 64)
    torch.testing.assert_close(task.error(normalised, MARKS), CoordinateTask().error(POINTS, MARKS))


def test_any_object_with_the_two_methods_is_a_task():
    class Own:
        def error(self, output, target):
            return output

        def landmark_heatmaps(self, target, size):
            return target

    for task in (Own(), HeatmapTask(), CoordinateTask()):
        assert isinstance(task, LandmarkTask)
    assert not isinstance(object(), LandmarkTask)


# --- errors ----------------------------------------------------------------------------------

H, C = HeatmapTask(), CoordinateTask()
ERRORS = {
    "output-dict": (
        lambda: H.error({"maps": PREDICTED}, HEATMAPS),
        TypeError,
        r"detector's output must be a tensor \(B, N, h, w\) or a list of them, but got a dict with "
        r"the keys \['maps'\].*HeatmapTask\(output=",
    ),
    "output-object": (lambda: C.error(Output(POINTS), MARKS), TypeError, "but got a Output"),
    "output-empty": (lambda: H.error([], HEATMAPS), TypeError, "but got a list of 0"),
    "output-count": (
        lambda: H.error(PREDICTED[:, :3], HEATMAPS),
        ShapeError,
        r"must have the target's shape .* = \(3, 4, 16, 12\), but got \(3, 3, 16, 12\)",
    ),
    "output-stage": (
        lambda: H.error([PREDICTED, PREDICTED[..., ::2]], HEATMAPS),
        ShapeError,
        r"but got \(3, 4, 16, 6\)",
    ),
    "output-flat": (
        lambda: C.error(POINTS.flatten(1), MARKS),
        ShapeError,
        r"must have the target's shape \(B, N, 2\) = \(3, 6, 2\), but got \(3, 12\)",
    ),
    "target-kind": (
        lambda: H.error(PREDICTED, {"heatmaps": HEATMAPS}),
        TypeError,
        r"`target` must be a tensor or a pair \(tensor, visible\), but got a dict",
    ),
    "target-triple": (
        lambda: C.error(POINTS, (MARKS, None, None)),
        TypeError,
        "but got a tuple of 3",
    ),
    "heatmaps-3d": (
        lambda: H.landmark_heatmaps(HEATMAPS[0], (16, 12)),
        ShapeError,
        r"`target` must be heatmaps \(B, N, h, w\), but got \(4, 16, 12\)",
    ),
    "landmarks-2d": (
        lambda: C.landmark_heatmaps(MARKS[0], (16, 12)),
        ShapeError,
        r"`target` must be landmarks \(B, N, 2\), but got \(6, 2\)",
    ),
    "heatmap-visible": (
        lambda: H.landmark_heatmaps((HEATMAPS, SHOWN_MARKS), (16, 12)),
        ShapeError,
        r"`visible` must be \(3, 4\), but got \(3, 6\)",
    ),
    "landmark-visible": (
        lambda: C.landmark_heatmaps((MARKS, SHOWN_MAPS), (16, 12)),
        ShapeError,
        r"`visible` must be \(3, 6\), but got \(3, 4\)",
    ),
    "normalizer-word": (
        lambda: CoordinateTask(normalizer="inter-ocular"),
        ValueError,
        r"`normalizer` must be 'box' or a pair .* but got 'inter-ocular'",
    ),
    "normalizer-triple": (lambda: CoordinateTask(normalizer=(1, 2, 3)), ValueError, "a pair"),
}


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS.values(), ids=ERRORS)
def test_what_does_not_fit_is_named_with_the_fix(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_a_pair_that_the_target_does_not_have_is_named():
    with pytest.raises(ValueError, match="normalizer"):
        CoordinateTask(normalizer=(36, 45)).error(POINTS, MARKS)

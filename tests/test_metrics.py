"""NME, failure rate, AUC and CED: hand-worked, against loops, properties, errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advaug.errors import ShapeError
from advaug.evaluation import auc, ced, failure_rate, nme
from advaug.evaluation.metrics import mean_errors
from advaug.evaluation.normalizers import check_normalizer

NAMED = ["inter_ocular", "inter_pupil", "box", "diagonal"]


def random_faces(num_landmarks=68, batch=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(batch, num_landmarks, 2, generator=generator, dtype=torch.float64) * 200
    noise = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return target + 5 * noise, target


def loop_distance(points, normalizer):
    """The distance d of one face, in plain Python, from the protocols' definitions."""

    def center(indices):
        return [sum(points[i][axis] for i in indices) / len(indices) for axis in (0, 1)]

    xs, ys = [p[0] for p in points], [p[1] for p in points]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    eyes = {
        68: (36, 45, range(36, 42), range(42, 48)),
        98: (60, 72, [96], [97]),
        29: (8, 9, [16], [17]),
    }
    left, right, left_pupil, right_pupil = eyes[len(points)]
    return {
        "inter_ocular": math.dist(points[left], points[right]),
        "inter_pupil": math.dist(center(left_pupil), center(right_pupil)),
        "box": math.sqrt(width * height),
        "diagonal": math.sqrt(width**2 + height**2),
    }[normalizer]


@pytest.mark.parametrize("normalizer", NAMED)
@pytest.mark.parametrize("num_landmarks", [68, 98, 29])
def test_nme_matches_a_plain_loop(normalizer, num_landmarks):
    preds, target = random_faces(num_landmarks)
    expected = []
    for pred, true in zip(preds.tolist(), target.tolist(), strict=True):
        distances = [math.dist(p, t) for p, t in zip(pred, true, strict=True)]
        expected.append(sum(distances) / len(distances) / loop_distance(true, normalizer))
    torch.testing.assert_close(
        nme(preds, target, normalizer=normalizer), torch.tensor(expected, dtype=torch.float64)
    )


def test_nme_of_a_hand_worked_case():
    target = torch.tensor([[[0.0, 0.0], [30.0, 40.0], [6.0, 8.0]]])
    preds = target + torch.tensor([[3.0, 4.0], [0.0, 10.0], [0.0, 0.0]])
    assert nme(preds, target, normalizer=(0, 1)).item() == pytest.approx(15 / 3 / 50)
    assert nme(preds, target, normalizer="diagonal").item() == pytest.approx(5 / 50)
    assert nme(preds, target, normalizer="box").item() == pytest.approx(5 / math.sqrt(1200))
    assert nme(preds, target, normalizer=torch.tensor([20.0])).item() == pytest.approx(5 / 20)


def test_nme_leaves_invisible_landmarks_out():
    target = torch.tensor([[[0.0, 0.0], [30.0, 40.0], [torch.nan, torch.nan]]]).repeat(2, 1, 1)
    preds = target + 1
    preds[:, 2] = 7
    visible = torch.tensor([[True, True, False], [False, False, False]])
    errors = nme(preds, target, normalizer="diagonal", visible=visible)
    assert errors[0].item() == pytest.approx(math.sqrt(2) / 50)
    assert errors[1].isnan(), "a sample without any visible landmark cannot be measured"


def test_nme_counts_infinity_as_infinitely_wrong():
    preds, target = random_faces()
    preds[1] = torch.inf
    errors = nme(preds, target, normalizer="inter_ocular")
    assert errors[1] == torch.inf
    assert errors[[0, 2, 3, 4]].isfinite().all()


@pytest.mark.parametrize(
    ("dtype", "expected"), [(torch.float16, torch.float32), (torch.float64, torch.float64)]
)
def test_nme_computes_in_float32_or_better(dtype, expected):
    preds, target = random_faces()
    assert nme(preds.to(dtype), target, normalizer="box").dtype == expected


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    scale=st.floats(0.05, 20),
    shift=st.floats(-500, 500),
    normalizer=st.sampled_from(NAMED),
)
def test_nme_does_not_depend_on_scale_and_place(seed, scale, shift, normalizer):
    preds, target = random_faces(seed=seed)
    torch.testing.assert_close(
        nme(preds * scale + shift, target * scale + shift, normalizer=normalizer),
        nme(preds, target, normalizer=normalizer),
    )


def test_summaries_of_a_hand_worked_case():
    errors = torch.tensor([0.02, 0.1, 0.05, 0.3, torch.nan, torch.inf])
    assert failure_rate(errors, threshold=0.1) == 2 / 5, "an error at the threshold is no failure"
    assert auc(errors, threshold=0.1) == pytest.approx((0.8 + 0 + 0.5 + 0 + 0) / 5)
    curve = ced(errors, [0.0, 0.02, 0.05, 0.1, 1.0])
    assert curve.tolist() == [0, 1 / 5, 2 / 5, 3 / 5, 4 / 5]


@settings(max_examples=50, deadline=None)
@given(
    errors=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    threshold=st.floats(0.01, 1),
)
def test_failure_rate_and_ced_sum_to_one_and_ced_rises(errors, threshold):
    errors = torch.tensor(errors)
    # A threshold that equals an error is where < and <= differ.
    for limit in (threshold, max(errors[0].item(), 1e-3)):
        total = failure_rate(errors, threshold=limit) + ced(errors, [limit]).item()
        assert total == pytest.approx(1)
    curve = ced(errors, torch.linspace(0, 1, 101))
    assert (curve.diff() >= 0).all()
    assert curve[-1] == 1
    assert 0 <= auc(errors, threshold=threshold) <= ced(errors, [threshold]).item()


def test_auc_agrees_with_simpsons_rule_over_the_curve():
    scipy_integrate = pytest.importorskip("scipy.integrate")
    errors = torch.from_numpy(np.random.default_rng(0).lognormal(np.log(0.045), 0.6, 2500))
    xs = np.linspace(0, 0.1, 1001)
    simpson = scipy_integrate.simpson(ced(errors, torch.from_numpy(xs)).numpy(), x=xs) / 0.1
    assert auc(errors, threshold=0.1) == pytest.approx(simpson, abs=1e-4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"normalizer": "ocular"}, "inter_ocular, inter_pupil, box, diagonal"),
        ({"normalizer": (0, 68)}, "two indices from 0 to 67"),
        ({"normalizer": (1, 2, 3)}, "two indices"),
        ({"normalizer": torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0])}, "got 0.0 for sample 1"),
    ],
)
def test_nme_refuses_an_unusable_normalizer(kwargs, message):
    with pytest.raises(ValueError, match=message):
        nme(*random_faces(), **kwargs)


def test_nme_names_the_sample_without_a_size():
    preds, target = random_faces()
    target[3, 45] = target[3, 36]
    with pytest.raises(ValueError, match=r"got 0\.0 for sample 3"):
        nme(preds, target, normalizer="inter_ocular")


def test_nme_refuses_eyes_of_an_unknown_scheme():
    with pytest.raises(ValueError, match=r"29, 68, 98 landmarks, but got 17"):
        nme(*random_faces(17), normalizer="inter_ocular")


@pytest.mark.parametrize("which", [0, 1])
def test_nme_refuses_nan_that_the_summaries_would_hide(which):
    faces = random_faces()
    faces[which][2, 5] = torch.nan
    with pytest.raises(ValueError, match=r"`(preds|target)` must not be NaN.* sample 2"):
        nme(*faces, normalizer="box")


def test_nme_refuses_shapes_that_do_not_fit():
    preds, target = random_faces()
    with pytest.raises(ShapeError, match="`preds`"):
        nme(preds.flatten(1), target, normalizer="box")
    with pytest.raises(ShapeError, match="`target`"):
        nme(preds, target[:, :29], normalizer="box")
    with pytest.raises(ShapeError, match="`visible`"):
        nme(preds, target, normalizer="box", visible=torch.ones(5, dtype=torch.bool))
    with pytest.raises(ShapeError, match="`normalizer`"):
        nme(preds, target, normalizer=torch.ones(4))


@pytest.mark.parametrize("summary", [failure_rate, auc])
def test_summaries_refuse_what_they_cannot_summarise(summary):
    with pytest.raises(ValueError, match="`threshold`"):
        summary(torch.tensor([0.1]), threshold=0.0)
    with pytest.raises(ValueError, match="all of them NaN"):
        summary(torch.tensor([torch.nan]))
    with pytest.raises(ValueError, match="0 samples"):
        summary(torch.tensor([]))


class Independent:
    """The summaries as others compute them, with NumPy and SciPy, and none of our code."""

    def __init__(self, preds, target, pair, threshold):
        sizes = [math.dist(face[pair[0]], face[pair[1]]) for face in target]
        self.errors = np.array(
            [
                np.mean([math.dist(p, t) for p, t in zip(pred, true, strict=True)]) / size
                for pred, true, size in zip(preds, target, sizes, strict=True)
            ]
        )
        self.threshold = threshold

    def ced(self, limits):
        return np.array([np.mean(self.errors <= limit) for limit in limits])

    def failure_rate(self):
        return 1 - self.ced([self.threshold])[0]

    def exact(self):
        """The curve is a staircase: add up its steps."""
        stairs = np.sort(self.errors[self.errors < self.threshold])
        edges = np.concatenate([[0.0], stairs, [self.threshold]])
        heights = np.arange(len(stairs) + 1) / len(self.errors)
        return float(np.sum(np.diff(edges) * heights) / self.threshold)

    def simpson(self):
        from scipy.integrate import simpson

        limits = np.linspace(0, self.threshold, round(self.threshold / 1e-4) + 1)
        return float(simpson(self.ced(limits), x=limits) / self.threshold)


@pytest.mark.parametrize("threshold", [0.05, 0.08, 0.1])
@pytest.mark.parametrize("spread", [2.0, 8.0])
def test_everything_agrees_with_an_independent_implementation(threshold, spread):
    pytest.importorskip("scipy")
    generator = torch.Generator().manual_seed(4)
    target = 200 * torch.rand(400, 68, 2, generator=generator, dtype=torch.float64)
    target[:, 36], target[:, 45] = torch.tensor([60.0, 80.0]), torch.tensor([150.0, 90.0])
    sizes = spread * torch.rand(400, 1, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    preds = target + sizes * noise
    other = Independent(preds.tolist(), target.tolist(), (36, 45), threshold)
    errors = nme(preds, target, normalizer="inter_ocular")
    limits = torch.linspace(0, 0.2, 41, dtype=torch.float64)
    assert np.abs(errors.numpy() - other.errors).max() < 1e-6
    assert np.abs(ced(errors, limits).numpy() - other.ced(limits.numpy())).max() < 1e-6
    assert failure_rate(errors, threshold=threshold) == pytest.approx(
        other.failure_rate(), abs=1e-6
    )
    assert auc(errors, threshold=threshold) == pytest.approx(other.exact(), abs=1e-6)
    simpson = auc(errors, threshold=threshold, rule="simpson")
    assert simpson == pytest.approx(other.simpson(), abs=1e-6)
    assert 1e-7 < abs(simpson - auc(errors, threshold=threshold)) < 1e-3, "two different rules"


def test_the_area_refuses_an_unknown_rule():
    with pytest.raises(ValueError, match="`rule` must be exact or simpson"):
        auc(torch.tensor([0.1]), rule="trapezoid")


def test_the_mean_over_some_landmarks_of_a_hand_worked_case():
    errors = torch.tensor([[0.1, 0.2, 0.6], [0.3, torch.nan, 0.5]])
    occluded = torch.tensor([[False, True, True], [False, True, False]])
    assert mean_errors(errors, occluded)[0].item() == pytest.approx(0.4)
    assert mean_errors(errors, occluded)[1].isnan(), "its only occluded landmark is not annotated"
    assert mean_errors(errors, ~occluded).tolist() == pytest.approx([0.1, 0.4])


@pytest.mark.parametrize("normalizer", ["inter_ocular", "inter_pupil"])
def test_a_normalizer_can_be_checked_before_anything_is_measured(normalizer):
    check_normalizer(normalizer, 68)
    with pytest.raises(ValueError, match="got 17 landmarks"):
        check_normalizer(normalizer, 17)

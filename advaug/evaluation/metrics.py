"""How far predicted landmarks are from the true ones: NME, failure rate, AUC and CED.

`nme` gives one error per sample, a fraction of the face's size; the others summarise such errors. A
sample that cannot be measured has the error NaN, and every summary leaves it out, as
`errors.nanmean()` does for the mean NME.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from advaug.base.precision import widen
from advaug.errors import ShapeError
from advaug.evaluation.normalizers import Normalizer, normalizer_distance

__all__ = [
    "auc",
    "ced",
    "failure_rate",
    "landmark_errors",
    "mean_errors",
    "nme",
]

AreaRule = Literal["exact", "simpson"]

SIMPSON_STEP = 1e-4  # as in other evaluations' curves: 1001 points up to 10 %


def nme(
    preds: Tensor, target: Tensor, *, normalizer: Normalizer, visible: Tensor | None = None
) -> Tensor:
    r"""Normalised mean error of each sample.

    $$ \mathrm{NME}_i = \frac{1}{N_i d_i} \sum_n \lVert p_n - p^*_n \rVert $$

    Args:
        preds: Predicted landmarks, `(B, N, 2)`, in any unit. Infinity counts as infinitely wrong.
        target: True landmarks, same shape and unit.
        normalizer: The distance d, always of `target`. "inter_ocular": between the outer corners of
            the eyes (300W, WFLW). "inter_pupil": between the centres of the eyes; errors are about
            1.4 times those of "inter_ocular". Both require a known scheme of 68, 98 or 29
            landmarks. "box": square root of the area of the box of the visible landmarks;
            "diagonal": its diagonal. A pair of indices: between these landmarks. `(B,)`: the
            distances themselves. Landmarks that define a distance are used as they are, visible or
            not.
        visible: `(B, N)` bool; landmarks that are False count neither in the sum nor in N_i, and
            may hold anything, including NaN.

    Returns:
        `(B,)`: a fraction (0.04 is 4 %), float32 or better; NaN for a sample without any visible
        landmark.

    Raises:
        ShapeError: If the shapes do not match.
        ValueError: If `normalizer` is unknown or does not suit N, if a distance is not positive, or
            if a visible landmark is NaN, which the summaries would hide.
    """
    return landmark_errors(preds, target, normalizer=normalizer, visible=visible).nanmean(dim=1)


def mean_errors(errors: Tensor, chosen: Tensor) -> Tensor:
    """Mean error of each sample over some of its landmarks, such as the occluded ones.

    Args:
        errors: `(B, N)`, as `landmark_errors` gives them.
        chosen: `(B, N)` or `(N,)` bool; the landmarks that count.

    Returns:
        `(B,)`; NaN for a sample in which none of them can be measured.
    """
    return torch.where(chosen, errors, torch.nan).nanmean(dim=1)


def landmark_errors(
    preds: Tensor, target: Tensor, *, normalizer: Normalizer, visible: Tensor | None = None
) -> Tensor:
    """Normalised distance of each landmark, whose mean over the visible ones is the NME.

    Args:
        preds: As for `nme`, like all arguments.
        target: True landmarks.
        normalizer: The distance d.
        visible: `(B, N)` bool.

    Returns:
        `(B, N)`, a fraction; NaN where a landmark is not visible.

    Raises:
        ShapeError, ValueError: As `nme`.
    """
    preds = widen(preds)
    target = target.to(preds.dtype)
    visible = _require_landmarks(preds, target, visible)
    _require_no_nan("preds", preds, visible)
    _require_no_nan("target", target, visible)
    size = normalizer_distance(target, visible, normalizer)
    measurable = visible.any(dim=1)
    _require_positive(size, measurable)
    distance = torch.linalg.vector_norm(preds - target, dim=-1)
    distance = distance / torch.where(measurable, size, 1)[:, None]
    return torch.where(visible, distance, torch.nan)


def failure_rate(errors: Tensor, *, threshold: float = 0.1) -> float:
    """Share of the samples whose error exceeds the threshold; `1 - ced(errors, threshold)`.

    Args:
        errors: `(B,)`, as `nme` gives them; NaN is left out.
        threshold: Largest error that is not a failure, a fraction.

    Returns:
        A fraction in `[0, 1]`.

    Raises:
        ValueError: If no error is left or `threshold` is not positive.
    """
    _require_threshold(threshold)
    return (_measured(errors) > threshold).double().mean().item()


def auc(errors: Tensor, *, threshold: float = 0.1, rule: AreaRule = "exact") -> float:
    r"""Area under the cumulative error distribution up to the threshold, as a share of the whole.

    $$ \frac{1}{t} \int_0^t \mathrm{CED}(x)\,dx = \frac{1}{B} \sum_i \max(0, 1 - e_i / t) $$

    Args:
        errors: `(B,)`, as `nme` gives them; NaN is left out.
        threshold: t, where the area ends, a fraction.
        rule: "exact" for the right-hand side. "simpson" for Simpson's rule over the curve at steps
            of 1e-4, as others compute it; on 2500 samples it differs by about 1e-5.

    Returns:
        A fraction in `[0, 1]`; 1 for perfect predictions.

    Raises:
        ValueError: If no error is left, `threshold` is not positive or `rule` is unknown.
    """
    _require_threshold(threshold)
    if rule not in get_args(AreaRule):
        message = f"`rule` must be exact or simpson, but got {rule!r}. Choose one of them."
        raise ValueError(message)
    if rule == "simpson":
        return _simpson_area(errors, threshold)
    return (1 - _measured(errors).double() / threshold).clamp(min=0).mean().item()


def _simpson_area(errors: Tensor, threshold: float) -> float:
    """Area under the curve by Simpson's rule, as a share of the whole."""
    intervals = 2 * max(round(threshold / (2 * SIMPSON_STEP)), 1)  # the rule needs an even number
    # Not `arange`: if the end is not a multiple of the step in binary, it has one point too many.
    curve = ced(errors, torch.linspace(0, threshold, intervals + 1, dtype=torch.float64))
    inner = 4 * curve[1:-1:2].sum() + 2 * curve[2:-1:2].sum()
    return ((curve[0] + inner + curve[-1]) / (3 * intervals)).item()


def ced(errors: Tensor, thresholds: Tensor | Sequence[float]) -> Tensor:
    """Cumulative error distribution: share of the samples whose error is at most each threshold.

    Args:
        errors: `(B,)`, as `nme` gives them; NaN is left out.
        thresholds: `(T,)` fractions, in any order.

    Returns:
        `(T,)` float64 in `[0, 1]`.

    Raises:
        ValueError: If no error is left.
    """
    measured = _measured(errors)
    # Compared in the precision of the errors, so that a float32 error of .1 is at most .1.
    limits = torch.as_tensor(thresholds, dtype=measured.dtype, device=measured.device)
    counts = torch.searchsorted(measured.sort().values, limits, right=True)
    return counts.double() / measured.numel()


def _measured(errors: Tensor) -> Tensor:
    """The errors that are not NaN, flat."""
    measured = widen(errors)
    measured = measured[~measured.isnan()]
    if measured.numel() == 0:
        message = (
            f"`errors` must have a sample that can be measured, but got {errors.numel()} samples, "
            "all of them NaN. Check that the data set has visible landmarks."
        )
        raise ValueError(message)
    return measured


def _require_landmarks(preds: Tensor, target: Tensor, visible: Tensor | None) -> Tensor:
    """Check the shapes; return `visible`, all True if it is missing."""
    if preds.ndim != 3 or preds.shape[-1] != 2:
        message = (
            f"`preds` must be (B, N, 2), but got {tuple(preds.shape)}. Decode it to landmarks."
        )
        raise ShapeError(message)
    if target.shape != preds.shape:
        message = (
            f"`target` must have the shape of `preds`, {tuple(preds.shape)}, but got "
            f"{tuple(target.shape)}. Check that both use the same scheme."
        )
        raise ShapeError(message)
    if visible is None:
        return torch.ones(preds.shape[:2], dtype=torch.bool, device=preds.device)
    if visible.shape != preds.shape[:2]:
        message = (
            f"`visible` must be (B, N), here {tuple(preds.shape[:2])}, but got "
            f"{tuple(visible.shape)}. Give one value per landmark."
        )
        raise ShapeError(message)
    return visible.bool()


def _require_no_nan(name: str, landmarks: Tensor, visible: Tensor) -> None:
    broken = (landmarks.isnan().any(dim=-1) & visible).any(dim=1)
    if broken.any():
        message = (
            f"`{name}` must not be NaN where a landmark is visible, but got NaN in sample "
            f"{_first(broken)}. Check that training has not diverged, or mark it as not visible."
        )
        raise ValueError(message)


def _require_positive(size: Tensor, measurable: Tensor) -> None:
    broken = ~((size > 0) & size.isfinite()) & measurable
    if broken.any():
        index = _first(broken)
        message = (
            f"`normalizer` must give a positive distance for every sample, but got "
            f"{size[index].item()} for sample {index}. Check its landmarks in `target`."
        )
        raise ValueError(message)


def _require_threshold(threshold: float) -> None:
    if not threshold > 0:
        message = f"`threshold` must be positive, but got {threshold}. Pass 0.1 for 10 %."
        raise ValueError(message)


def _first(flags: Tensor) -> int:
    return int(flags.nonzero()[0])

"""What a detector's output means: the only thing the adversary knows about a detector."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from advaug.base.checks import describe
from advaug.base.precision import full_precision, widen
from advaug.base.shapes import mean_over_visible
from advaug.errors import ShapeError
from advaug.functional import heatmap_error, structure_map
from advaug.heatmaps import encode_heatmaps, resize_heatmaps

__all__ = ["CoordinateTask", "HeatmapTask", "LandmarkTask"]

AT_ONCE = 4  # landmarks whose heatmaps are held together
REFERENCE_SIDE = 256  # the paper's pictures, on which λ = 0.1 was chosen

OutputAdapter = Callable[[Any], Tensor | Sequence[Tensor]]


@runtime_checkable
class LandmarkTask(Protocol):
    """What the adversary asks of a task; any object with these two methods works."""

    def error(self, output: Any, target: Any) -> Tensor:  # noqa: ANN401 # the task defines both
        """`(B,)`: how wrong the detector's output is on each sample, differentiable."""
        ...

    def landmark_heatmaps(self, target: Any, size: tuple[int, int]) -> Tensor:  # noqa: ANN401 # see above
        """`(B, N, height, width)`: the true landmarks as heatmaps in `[0, 1]`, picture-sized."""
        ...


def structure_of(task: LandmarkTask, target: Any, size: tuple[int, int]) -> Tensor:  # noqa: ANN401 # the task's
    """S of [SAAT]: the maximum over the landmarks' heatmaps, `(B, 1, height, width)`.

    For our own tasks it never holds all heatmaps in the pictures' size at once. The target of
    another task cannot be split, since only that task knows what it means.
    """
    parts = [target]
    if type(task) in (HeatmapTask, CoordinateTask):
        parts = _parts_of(target)
    found = structure_map(task.landmark_heatmaps(parts[0], size))
    for part in parts[1:]:
        found = torch.maximum(found, structure_map(task.landmark_heatmaps(part, size)))
    return found


def _parts_of(target: Any) -> list[Any]:  # noqa: ANN401 # tensor or pair
    """The target of a few landmarks at a time; an invalid one whole, which the task refuses."""
    values, visible = split_target(target)
    if values.ndim < 3 or (visible is not None and visible.shape != values.shape[:2]):
        return [target]
    starts = range(0, values.shape[1], AT_ONCE)
    some = [slice(start, start + AT_ONCE) for start in starts]
    if visible is None:
        return [values[:, part] for part in some] or [target]
    return [(values[:, part], visible[:, part]) for part in some] or [target]


class HeatmapTask:
    """A detector that gives heatmaps, or a list of stages of them.

    The target is `(B, N, h, w)`, or a pair of it with `visible`, `(B, N)` bool.

    Args:
        output: Picks the heatmaps out of whatever the detector returns, for instance
            `lambda o: o.heatmaps`.
    """

    def __init__(self, *, output: OutputAdapter | None = None) -> None:
        self.output = output

    def error(self, output: Any, target: Any) -> Tensor:  # noqa: ANN401 # adapters take anything
        r"""Eq. 1 of [SAAT], as if at 256 px, summed over the stages.

        $$ e_i = \frac{256^2}{h w} \cdot \frac{1}{N} \sum_n \lVert H_n - H^*_n \rVert^2 $$

        Where we differ: the scale, so that λ keeps its meaning at every resolution.

        Returns:
            `(B,)`. Its mean is 65536 times `torch.nn.MSELoss()`, where all are visible.

        Raises:
            TypeError: If the output is not a tensor or a list of them.
            ShapeError: If the target is not `(B, N, h, w)`, or the heatmaps do not have its shape.
        """
        heatmaps, visible = split_target(target)
        _check_heatmaps(heatmaps)
        stages = stages_of(output, self.output, "HeatmapTask", heatmaps.shape, "(B, N, h, w)")
        scale = REFERENCE_SIDE**2 / (heatmaps.shape[-2] * heatmaps.shape[-1])
        return scale * sum_of(heatmap_error(stage, heatmaps, visible) for stage in stages)

    def landmark_heatmaps(self, target: Any, size: tuple[int, int]) -> Tensor:  # noqa: ANN401 # tensor or pair
        """The target's heatmaps at `size`, zero where a landmark is not visible.

        Raises:
            ShapeError: If the target is not `(B, N, h, w)` with a fitting `visible`.
        """
        heatmaps, visible = split_target(target)
        _check_heatmaps(heatmaps)
        if visible is not None:
            _check_visible(visible, heatmaps)
            heatmaps = torch.where(visible.to(torch.bool)[..., None, None], heatmaps, 0.0)
        return resize_heatmaps(widen(heatmaps), size)


class CoordinateTask:
    """A detector that gives landmark coordinates, or a list of steps of them.

    The target is `(B, N, 2)`, x then y, in pixels of the picture, 0-based, or a pair of it with
    `visible`, `(B, N)` bool.

    Args:
        normalizer: What distances are divided by: `"box"`, the size (square root of the area) of
            the box of the visible landmarks, or a pair of landmarks whose distance it is, for
            instance `(36, 45)`; a sample in which one of the two is not visible uses its box.
        output: Picks the coordinates out of whatever the detector returns, in pixels of the
            picture.

    Raises:
        ValueError: If `normalizer` is neither.
    """

    def __init__(
        self,
        *,
        normalizer: Literal["box"] | tuple[int, int] = "box",
        output: OutputAdapter | None = None,
    ) -> None:
        if normalizer != "box" and not (isinstance(normalizer, tuple) and len(normalizer) == 2):
            msg = (
                "`normalizer` must be 'box' or a pair of landmarks such as (36, 45), but got "
                f"{normalizer!r}. Choose one of the two."
            )
            raise ValueError(msg)
        self.normalizer = normalizer
        self.output = output
        self._in_pixels = False  # until the first batch has been looked at

    def error(self, output: Any, target: Any) -> Tensor:  # noqa: ANN401 # adapters take anything
        r"""Mean normalised distance, summed over the steps.

        $$ e_i = \frac{1}{N} \sum_n \lVert p_n - p^*_n \rVert / d_i $$

        Returns:
            `(B,)`, a fraction; with `normalizer=(36, 45)` and one step, the NME.

        Raises:
            TypeError: If the output is not a tensor or a list of them.
            ShapeError: If the target is not `(B, N, 2)`, or the coordinates do not have its shape.
        """
        landmarks, visible = split_target(target)
        _check_landmarks(landmarks)
        steps = stages_of(output, self.output, "CoordinateTask", landmarks.shape, "(B, N, 2)")
        size = self._normaliser(widen(landmarks), visible)
        return sum_of(_mean_distance(step, landmarks, visible) for step in steps) / size

    def landmark_heatmaps(self, target: Any, size: tuple[int, int]) -> Tensor:  # noqa: ANN401 # tensor or pair
        """A Gaussian of peak 1 for every visible landmark, drawn at `size`.

        Raises:
            ShapeError: If the target is not `(B, N, 2)` with a fitting `visible`.
            ValueError: If the first target with two visible landmarks is not in pixels.
        """
        landmarks, visible = split_target(target)
        _check_landmarks(landmarks)
        heatmaps = encode_heatmaps(widen(landmarks), size, visible=visible)
        if not self._in_pixels and not torch.compiler.is_compiling():
            self._in_pixels = _check_unit(landmarks, visible, size)
        return heatmaps

    def _normaliser(self, landmarks: Tensor, visible: Tensor | None) -> Tensor:
        """`(B,)`: the size of each sample in pixels, at least one."""
        box = _box_size(landmarks, visible)
        if not isinstance(self.normalizer, tuple):
            return box
        first, second = self.normalizer
        count = landmarks.shape[1]
        if not (-count <= first < count and -count <= second < count):
            msg = (
                f"`normalizer` must name two of the {count} landmarks of the target, but got "
                f"{self.normalizer}. Use 'box', or a pair of this scheme."
            )
            raise ValueError(msg)
        distance = (landmarks[:, first] - landmarks[:, second]).norm(dim=-1).clamp(min=1.0)
        if visible is None:
            return distance
        # Where the pair cannot be measured, use the box.
        both = visible[:, first].to(torch.bool) & visible[:, second].to(torch.bool)
        return torch.where(both, distance, box)


def _check_heatmaps(heatmaps: Tensor) -> None:
    if heatmaps.ndim != 4 or heatmaps.shape[1] == 0:
        msg = (
            f"`target` must be heatmaps (B, N, h, w), but got {tuple(heatmaps.shape)}. Draw "
            "landmarks with `advaug.encode_heatmaps(landmarks, size)`, or use CoordinateTask()."
        )
        raise ShapeError(msg)


def _check_landmarks(landmarks: Tensor) -> None:
    if landmarks.ndim != 3 or landmarks.shape[-1] != 2 or landmarks.shape[1] == 0:
        msg = (
            f"`target` must be landmarks (B, N, 2), but got {tuple(landmarks.shape)}. For "
            "heatmaps use HeatmapTask()."
        )
        raise ShapeError(msg)


@torch.no_grad()
def _check_unit(landmarks: Tensor, visible: Tensor | None, size: tuple[int, int]) -> bool:
    """Raise where all landmarks are in [0, 1] or [-1, 1]; False where too few are visible to tell.

    Reads values back from the device: one synchronisation, for the first batch only.
    """
    shown = landmarks if visible is None else landmarks[visible.to(torch.bool)]
    if shown.numel() < 4:  # a single landmark may well be the corner pixel
        return False
    low, high = shown.min().item(), shown.max().item()
    if not (low >= -1 and high <= 1):  # `not`, for NaN, which others refuse
        return low < -1 or high > 1
    height, width = size
    size_text = f"torch.tensor([{width}, {height}], device=landmarks.device)"
    unit, fix = "[0, 1]", f"landmarks * {size_text}"
    if low < 0:
        unit, fix = "[-1, 1]", f"(landmarks + 1) / 2 * {size_text}"
    msg = (
        f"`target` must be in pixels of the picture, but got landmarks from {low:.4g} to "
        f"{high:.4g}, as in {unit}. Pass `{fix}`, and bring the detector's output to the same unit "
        "with `CoordinateTask(output=...)`."
    )
    raise ValueError(msg)


def _box_size(landmarks: Tensor, visible: Tensor | None) -> Tensor:
    """Square root of the area of the visible landmarks' box: `(B,)`, in pixels, at least one."""
    high = low = landmarks
    if visible is not None:
        shown = visible.to(torch.bool)[..., None]
        low = torch.where(shown, landmarks, torch.inf)
        high = torch.where(shown, landmarks, -torch.inf)
    sides = (high.amax(dim=1) - low.amin(dim=1)).clamp(min=1.0)
    return sides.prod(dim=-1).sqrt()


@full_precision
def _mean_distance(points: Tensor, landmarks: Tensor, visible: Tensor | None) -> Tensor:
    offset = points - landmarks
    if visible is not None:
        offset = torch.where(visible.to(torch.bool)[..., None], offset, 0.0)
    # Not `norm`: its gradient is not a number where a landmark is met exactly.
    distance = (offset.square().sum(dim=-1) + torch.finfo(offset.dtype).tiny).sqrt()
    return mean_over_visible(distance, visible)


def split_target(target: Any) -> tuple[Tensor, Tensor | None]:  # noqa: ANN401 # that is what it checks
    """A target's tensor and its `visible`, which may be None.

    Raises:
        TypeError: If it is neither a tensor nor a pair of tensors.
    """
    if isinstance(target, Tensor):
        return target, None
    if isinstance(target, tuple | list) and len(target) == 2:
        values, visible = target
        if isinstance(values, Tensor) and (visible is None or isinstance(visible, Tensor)):
            return values, visible
    msg = (
        "`target` must be a tensor or a pair (tensor, visible), but got "
        f"{describe(target)}. Write your own task for other targets."
    )
    raise TypeError(msg)


def stages_of(
    output: Any,  # noqa: ANN401 # that is what it checks
    adapter: OutputAdapter | None,
    task: str,
    shape: torch.Size,
    axes: str,
) -> Sequence[Tensor]:
    """The stages of a detector's output, each checked against the target's shape.

    Raises:
        TypeError: If the output, after the adapter, is not a tensor or a list of them.
        ShapeError: If a stage does not have the target's shape.
    """
    adapted = output if adapter is None else adapter(output)
    stages: Any = [adapted] if isinstance(adapted, Tensor) else adapted
    hint = f"Pick it out with `{task}(output=lambda o: ...)`."
    whole = isinstance(stages, list | tuple) and len(stages) > 0
    if not whole or not all(isinstance(stage, Tensor) for stage in stages):
        msg = (
            f"the detector's output must be a tensor {axes} or a list of them, but got "
            f"{describe(adapted)}. {hint}"
        )
        raise TypeError(msg)
    for stage in stages:
        if stage.shape != shape:
            msg = (
                f"the detector's output must have the target's shape {axes} = {tuple(shape)}, "
                f"but got {tuple(stage.shape)}. {hint}"
            )
            raise ShapeError(msg)
    return stages


def sum_of(terms: Any) -> Tensor:  # noqa: ANN401 # an iterable of tensors
    """Sum of at least one tensor, without the zero that `sum` starts from."""
    return torch.stack(list(terms)).sum(dim=0)


def _check_visible(visible: Tensor, landmarks: Tensor) -> None:
    if visible.shape != landmarks.shape[:2]:
        msg = (
            f"`visible` must be {tuple(landmarks.shape[:2])}, but got {tuple(visible.shape)}. Give "
            "one value for each landmark."
        )
        raise ShapeError(msg)


def check_task(task: object) -> None:
    """Raise unless an object has the two methods of a task."""
    if isinstance(task, type) or not isinstance(task, LandmarkTask):
        msg = (
            "`task` must have the methods error(output, target) and landmark_heatmaps(target, "
            f"size), but got {describe(task)}. Pass HeatmapTask() or CoordinateTask()."
        )
        raise TypeError(msg)

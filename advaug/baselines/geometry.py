"""The hardest of several rotations, scales and hidden parts, with the landmarks moved along."""

from typing import Any, Unpack

import torch
from kornia.geometry.transform import get_affine_matrix2d
from torch import Tensor

from advaug.augment._geometry import inside, move
from advaug.augment.occlusion import occlude
from advaug.base.checks import (
    check_at_least_one,
    check_error,
    check_ranges,
    check_within,
    describe,
)
from advaug.baselines._defence import Call, Defence, DefenceOptions, Example
from advaug.tasks import CoordinateTask, HeatmapTask, LandmarkTask, split_target

__all__ = ["HardestGeometry"]


class HardestGeometry(Defence):
    """Train on each picture rotated, scaled and partly hidden in the way that is hardest for it.

    X. Peng et al., "Jointly Optimize Data Augmentation and Network Training: Adversarial Data
    Augmentation in Human Pose Estimation", CVPR 2018. Each picture draws K proposals, and the
    detector's own error chooses one of them. Landmarks and heatmaps move with the pixels. A
    landmark that leaves the picture counts as not visible; one that is hidden keeps its label.

    Where we differ: in the paper a network learns which proposals to make, by reward and penalty;
    here they are drawn evenly, as in L. Engstrom et al., "Exploring the Landscape of Spatial
    Robustness", ICML 2019. The paper hides features inside the detector; here pixels are hidden,
    so that any detector will do.

    BatchNorm statistics are shared by default, as those of a `SecondCopy`; the passes that choose
    move nothing.

    Cost: K + 3 F, beside the 3 F of the plain step.

    Args:
        task: What the detector's output means, a `HeatmapTask` or a `CoordinateTask`: the targets
            of another one cannot be moved.
        draws: K.
        rotation: Largest angle to either side, in degrees.
        scale: Smallest and largest magnification, drawn evenly on a log scale.
        hidden: Smallest and largest part of the picture's area that is hidden; None for nothing.
        options: Those of every baseline: `pixels`, `batch_norm`, `weight`, `loss_weight`,
            `optimizer`, `seed`; see `advaug.baselines.Defence`.

    Raises:
        TypeError, ValueError: If the task is neither or an option is out of range.
    """

    def __init__(
        self,
        task: LandmarkTask,
        *,
        draws: int = 3,
        rotation: float = 30.0,
        scale: tuple[float, float] = (0.885, 1.285),
        hidden: tuple[float, float] | None = (0.02, 0.15),
        **options: Unpack[DefenceOptions],
    ) -> None:
        if not isinstance(task, HeatmapTask | CoordinateTask):
            msg = (
                "`task` must be a HeatmapTask or a CoordinateTask, whose targets can be moved, but "
                f"got {describe(task)}. For a task of your own use SecondCopy with a transform."
            )
            raise TypeError(msg)
        check_at_least_one(draws=draws)
        check_within(0, 180, rotation=rotation)
        check_ranges(scale=scale)
        if hidden is not None and not 0 < hidden[0] <= hidden[1] <= 1:
            msg = (
                "`hidden` must be a pair from above 0 to 1, the smaller one first, but got "
                f"{hidden}. Use None to hide nothing."
            )
            raise ValueError(msg)
        options.setdefault("batch_norm", "shared")
        super().__init__(task, **options)
        self.draws = draws
        self.rotation = rotation
        self.scale = scale
        self.hidden = hidden

    def _example(self, call: Call, *, learn: bool) -> Example:
        count = len(call.images)
        start, landmarks = self._start(call)
        chosen, most = start, call.images.new_full((count,), -torch.inf)
        with self.batch_norms.feedback(call.detector), torch.no_grad():
            for _ in range(self.draws):
                images, *target = proposal = self._propose(start, landmarks)
                error = self.task.error(call.reference(images), tuple(target))
                check_error(error, count, read=self._reads(images.device))
                harder = error > most
                chosen = [_where(harder, *pair) for pair in zip(proposal, chosen, strict=True)]
                most = torch.maximum(most, error)
        images, *target = chosen
        return Example(images, tuple(target))

    def _start(self, call: Call) -> tuple[list[Tensor], Tensor]:
        """Pictures, the target's values and `visible`; and where the landmarks are, `(B, N, 2)`."""
        values, visible = split_target(call.target)
        if visible is None:
            visible = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        start = [call.images, values, visible.to(torch.bool)]
        if isinstance(self.task, CoordinateTask):
            return start, values
        height, width = call.images.shape[-2:]
        maps = self.task.landmark_heatmaps(call.target, (height, width))
        peak = maps.flatten(2).argmax(dim=2)  # to a pixel, which is enough to tell who leaves
        return start, torch.stack([peak % width, peak // width], dim=-1).to(maps.dtype)

    def _propose(self, start: list[Tensor], landmarks: Tensor) -> list[Tensor]:
        """One more version of pictures, values and `visible`."""
        images, values, visible = start
        size = (images.shape[-2], images.shape[-1])
        flip, matrix = torch.zeros(len(images), dtype=torch.bool), self._draw(len(images), size)
        moved = move(images, flip, matrix, size)
        if self.hidden is not None:
            seeds = torch.randint(2**62, (len(images),))
            moved = occlude(moved.clamp(0, 1), seeds, coverage=self.hidden)
        there = inside(move(landmarks, flip, matrix, size), size)
        return [moved, move(values, flip, matrix, size).to(values.dtype), visible & there]

    def _draw(self, count: int, size: tuple[int, int]) -> Tensor:
        """`(B, 3, 3)` float64 on the CPU: a rotation and scale about each picture's centre."""
        turn, growth = torch.rand(2, count, dtype=torch.float64)
        low, high = self.scale
        factor = low * (high / low) ** growth
        centre = torch.tensor([size[1] - 1, size[0] - 1], dtype=torch.float64) / 2
        return get_affine_matrix2d(
            torch.zeros(count, 2, dtype=torch.float64),
            centre.expand(count, 2),
            factor[:, None].expand(count, 2),
            self.rotation * (2 * turn - 1),
        )


def _where(chosen: Tensor, new: Any, old: Any) -> Tensor:  # noqa: ANN401 # tensors of one shape
    """`new` for the samples where `chosen`, `(B,)`, is true."""
    return torch.where(chosen.view(-1, *[1] * (new.ndim - 1)), new, old)

"""AdvMix: a network learns to mix each picture with two changed copies, against the detector."""

from typing import Any, Unpack

import torch
from torch import Tensor

from advaug.base.checks import check_within
from advaug.base.distributed import average
from advaug.base.precision import widen
from advaug.baselines._defence import Call, Defence, DefenceOptions, Example, adam
from advaug.baselines._distance import Distance, distance_of
from advaug.baselines._photometric import PhotometricAutoAugment
from advaug.networks.layers import Norm
from advaug.networks.unet import UNet
from advaug.step.loan import Detector, borrowed
from advaug.step.stepping import Stepper
from advaug.tasks import CoordinateTask, HeatmapTask, LandmarkTask, split_target

__all__ = ["AdvMix", "MixingNet", "grid_mask"]

VIEWS = 3  # the picture, recoloured, behind a grid
GRID_PROBABILITY = 0.7
GRID_RATIO = 0.5  # side of a square over the period
GRID_PERIOD = (96 / 224, 1.0)  # of the picture's shorter side, as in GridMask


class MixingNet(UNet):
    """U-Net from three versions of a picture to the weight of each in every pixel.

    Lighter by default than the published one, as `UNetAttacker` is, so that the two compare; that
    has six halvings and a base width of 64: `MixingNet(64, base_width=64, norm="batch")`.

    Args:
        image_size: Side of the square pictures, or `(height, width)`: halved as often as both
            sides allow, eight times at most. By default five times.
        base_width: Channels of the first layer.
        norm: `"group"` or `"batch"`.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] | None = None,
        *,
        base_width: int = 32,
        norm: Norm = "group",
    ) -> None:
        super().__init__(3 * VIEWS, VIEWS, image_size, base_width=base_width, norm=norm, dropout=0)

    def forward(self, views: Tensor) -> Tensor:
        """Weights that are positive and add up to one.

        Args:
            views: `(B, 3, 3, H, W)`: three versions of each picture, in `[0, 1]`.

        Returns:
            `(B, 3, H, W)`.
        """
        return widen(self.maps(views.flatten(1, 2))).softmax(dim=1)


class AdvMix(Defence):
    """Train on mixes of each picture with a recoloured and a partly hidden copy.

    Wang et al., *When Human Pose Estimation Meets Robustness: Adversarial Algorithms and
    Benchmarks*, CVPR 2021. The copies are by AutoAugment's photometric operations and by GridMask
    (Chen et al., 2020). A U-Net mixes the three with weights that differ from pixel to pixel and
    learns to raise the detector's error. The mix is a convex combination of pictures with the same
    landmarks, so nothing can be painted where it is not; but a picture and its negative can cancel.
    Landmarks behind the grid count as not visible (for a task of your own they stay).

    Where we differ: in the paper the mix replaces the clean picture, which the detector
    sees only through the teacher; here the caller decides, by adding the loss to its own or not.
    BatchNorm statistics are isolated by default, and never move while the U-Net learns.

    Cost: 2 F to teach the U-Net, 3 F for the defence and 1 F for a teacher, and the U-Net itself;
    beside the 3 F of the plain step.

    Args:
        task: What the detector's output means.
        mixer: From `(B, 3, 3, H, W)` to convex weights `(B, 3, H, W)`; by default a light
            `MixingNet`, for sides divisible by 32.
        teacher: A trained detector in evaluation mode, whose output for the clean picture the
            detector should also give for the mix; in the paper the same detector, trained plainly.
            It stays the caller's: neither moved to a device nor saved. None for no such term.
        teacher_weight: Its part of the loss; the task's error has the rest.
        distance: From `(output, reference, target)` to `(B,)`, zero where the outputs are the same.
            Required only with a teacher and your own task.
        options: Those of every baseline: `pixels`, `batch_norm`, `weight`, `loss_weight`,
            `optimizer`, `seed`; see `advaug.baselines.Defence`.

    Raises:
        TypeError, ValueError: If the task is none, or one without a distance, or an option is out
            of range.
    """

    teacher: Detector | None

    def __init__(
        self,
        task: LandmarkTask,
        *,
        mixer: torch.nn.Module | None = None,
        teacher: Detector | None = None,
        teacher_weight: float = 0.1,
        distance: Distance | None = None,
        **options: Unpack[DefenceOptions],
    ) -> None:
        super().__init__(task, **options)
        check_within(0, 1, teacher_weight=teacher_weight)
        self.mixer = MixingNet() if mixer is None else mixer
        object.__setattr__(self, "teacher", teacher)  # the caller's, so no sub-module of ours
        self.teacher_weight = teacher_weight
        self.distance = None if teacher is None else distance_of(task, distance)
        self.recolour = PhotometricAutoAugment()
        self.mixer_optimizer = options.get("optimizer", adam)(self.mixer.parameters())
        self._stepper = Stepper()

    def _example(self, call: Call, *, learn: bool) -> Example:
        covered = grid_mask(call.images)
        behind = torch.where(covered, 0.0, call.images)
        views = torch.stack([call.images, self.recolour(call.images), behind], dim=1)
        target = self._hide(call.target, covered)
        reference = None
        if self.teacher is not None:
            with borrowed(self.teacher):
                reference = call.reference(call.images, network=self.teacher)
        mixed = (self.mixer(views)[:, :, None] * views).sum(dim=1)
        if learn:
            self._learn(call, mixed, target)
        return Example(mixed.detach(), target, reference)

    def _error(self, output: Any, example: Example) -> Tensor:  # noqa: ANN401 # the detector's
        error = self.task.error(output, example.target)
        if self.distance is None:
            return error
        agreement = self.distance(output, example.reference, example.target)
        return torch.lerp(error, agreement, self.teacher_weight)

    def _learn(self, call: Call, mixed: Tensor, target: Any) -> None:  # noqa: ANN401 # the task's
        """Step the mixer towards a higher error of the detector."""
        gradient = self._gradient(call, mixed, lambda output: self.task.error(output, target))
        push = self._stepper.scaled(-gradient / len(mixed))
        ours = [p for p in self.mixer.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(mixed, ours, push, materialize_grads=True)
        steps = [(self.mixer_optimizer, ours, average(gradients))]
        self._stepper.step(steps, spoiled=torch.zeros((), device=mixed.device))

    def _hide(self, target: Any, covered: Tensor) -> Any:  # noqa: ANN401 # the task's
        """The target, with landmarks that are covered, `(B, 1, H, W)`, marked as not visible."""
        if not isinstance(self.task, HeatmapTask | CoordinateTask):
            return target
        values, visible = split_target(target)
        size = (covered.shape[-2], covered.shape[-1])
        peak = self.task.landmark_heatmaps(target, size).flatten(2).argmax(dim=-1)
        shown = ~covered.flatten(1).gather(1, peak)
        return values, shown if visible is None else visible.to(torch.bool) & shown

    def get_extra_state(self) -> dict[str, Any]:
        """What an exact resume needs beside weights and buffers."""
        return {
            **super().get_extra_state(),
            "mixer_optimizer": self.mixer_optimizer.state_dict(),
            "loss_scale": self._stepper.state_dict(),
        }

    def set_extra_state(self, state: Any) -> None:  # noqa: ANN401 # as nn.Module has it
        """Continue where the state was saved."""
        super().set_extra_state(state)
        self.mixer_optimizer.load_state_dict(state["mixer_optimizer"])
        self._stepper.load_state_dict(state["loss_scale"])


def grid_mask(images: Tensor) -> Tensor:
    """GridMask: which pixels lie under a grid of squares, `(B, 1, H, W)` bool; none in some."""
    height, width = images.shape[-2:]
    draws = torch.rand(len(images), 4)
    low, high = GRID_PERIOD
    period = min(height, width) * (low + (high - low) * draws[:, 0:1])

    def stripes(length: int, offset: Tensor) -> Tensor:
        return (torch.arange(length) + offset * period) % period < GRID_RATIO * period

    squares = stripes(height, draws[:, 1:2])[:, :, None] & stripes(width, draws[:, 2:3])[:, None, :]
    applied = draws[:, 3] < GRID_PROBABILITY
    return (squares & applied[:, None, None])[:, None].to(images.device, non_blocking=True)

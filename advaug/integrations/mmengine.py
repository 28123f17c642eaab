"""SAAT in a Runner of mmengine, such as mmpose's. Needs mmengine, in a separate environment."""

# pyright: reportMissingImports=false

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor, nn

from advaug.adversary import SampleAdaptiveAdversary
from advaug.base.checks import describe
from advaug.integrations.shared import scalars, unwell
from advaug.pixels import PixelSpec
from advaug.step.attach import Attachment, Finder

__all__ = ["AdversaryHook", "landmarks_of"]

KEY = "advaug"
POINTS = "transformed_keypoints"  # by mmpose


@HOOKS.register_module()
class AdversaryHook(Hook):
    """Attack a part of each training batch on its way into the model, behind its preprocessor.

    The runner's own backward teaches the attacker. Validation and tests see their pictures as they
    are. The adversary's state is in the runner's checkpoints, and its report in the runner's logs
    as `adversary/...`.

    In a config: `custom_hooks = [dict(type="AdversaryHook")]`, with
    `custom_imports = dict(imports=["advaug.integrations.mmengine"])`.

    Args:
        adversary: None for the default, with the mean and deviation of the model's preprocessor.
        images: Name of the pictures in the model's forward, or a callable of its arguments.
        target: Likewise, of the landmarks; by default `landmarks_of` mmpose's data samples.
        interval: Iterations between two reports in the log.
    """

    priority = "NORMAL"

    def __init__(
        self,
        adversary: SampleAdaptiveAdversary | None = None,
        images: Finder = "inputs",
        target: Finder | None = None,
        interval: int = 10,
    ) -> None:
        self.adversary = adversary
        self.interval = interval
        self._finders: tuple[Finder, Finder] = (images, landmarks_of if target is None else target)
        self._attachment: Attachment | None = None
        self._held: dict[str, Any] | None = None  # of a checkpoint that was read before training

    def before_train(self, runner: Any) -> None:  # noqa: ANN401 # mmengine's
        """Stand in front of the model; a checkpoint has been read by now."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if self.adversary is None:
            self.adversary = SampleAdaptiveAdversary(pixels=_pixels_of(model))
        self.adversary.to(next(model.parameters()).device)
        if self._held is not None:
            self.adversary.load_state_dict(self._held)
            self._held = None
        images, target = self._finders
        self._attachment = self.adversary.attach(model, images=images, target=target)

    def after_train_iter(
        self,
        runner: Any,  # noqa: ANN401 # mmengine's
        batch_idx: int,
        data_batch: Any = None,  # noqa: ANN401 # mmengine's
        outputs: Any = None,  # noqa: ANN401 # mmengine's
    ) -> None:
        """Log the report, now and then: it is read from the device."""
        if self.adversary is not None and self.every_n_train_iters(runner, self.interval):
            for name, value in scalars(self.adversary).items():
                runner.message_hub.update_scalar(f"train/{name}", value)

    def after_train(self, runner: Any) -> None:  # noqa: ANN401 # mmengine's
        """Leave the model as it was, and say what is wrong with the run."""
        finding = None if self.adversary is None else unwell(self.adversary)
        if finding:
            runner.logger.warning(finding)
        if self._attachment is not None:
            self._attachment.remove()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ANN401 # mmengine's
        """Put the adversary into the checkpoint."""
        if self.adversary is not None:
            checkpoint[KEY] = self.adversary.state_dict()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ANN401 # mmengine's
        """Keep the adversary of a run that is taken up; another run's weights bring none."""
        if runner._resume:
            self._held = checkpoint.get(KEY)


def landmarks_of(
    inputs: Tensor,
    data_samples: Sequence[Any] | None = None,
    **_: Any,  # noqa: ANN401 # mmpose's
) -> Any:  # noqa: ANN401 # a list of people, or heatmaps
    """Where mmpose's data samples say that the landmarks are, in pixels of what the model sees.

    `gt_instances.transformed_keypoints`, or the heatmaps of `gt_fields`. Not
    `gt_instances.keypoints`, which in top-down models are in pixels of the picture before its crop.

    Args:
        inputs: Pictures, `(B, C, H, W)`.
        data_samples: Of mmpose; None where there is nothing to learn from.
    """
    if data_samples is None:
        return None
    if all(POINTS in sample.gt_instances for sample in data_samples):
        return [_people(sample.gt_instances, inputs.device) for sample in data_samples]
    fields: list[Any] = [getattr(sample, "gt_fields", None) for sample in data_samples]
    if all(field is not None and "heatmaps" in field for field in fields):
        return torch.stack([torch.as_tensor(field.heatmaps) for field in fields]).to(inputs.device)
    msg = (
        f"`data_samples` must have {POINTS!r} in `gt_instances` or 'heatmaps' in `gt_fields`, but "
        f"got {list(data_samples[0].gt_instances.keys())}. Use "
        "`PackPoseInputs(pack_transformed=True)` in the pipeline, or pass `target=`."
    )
    raise ValueError(msg)


def _people(instances: Any, device: torch.device) -> Tensor:  # noqa: ANN401 # mmengine's
    """`(people, N, 3)`: x, y and whether it is visible."""
    points = torch.as_tensor(instances[POINTS], dtype=torch.float32, device=device)
    visible = torch.as_tensor(instances["keypoints_visible"], device=device).float()
    if visible.ndim == points.ndim:  # a second column holds weights
        visible = visible[..., 0]
    return torch.cat([points[..., :2], visible[..., None]], dim=-1)


def _pixels_of(model: nn.Module) -> PixelSpec:
    """How the model's preprocessor leaves its pictures."""
    preprocessor = getattr(model, "data_preprocessor", None)
    mean, std = (getattr(preprocessor, name, None) for name in ("mean", "std"))
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor):
        msg = (
            "`adversary` must be given where the model's preprocessor has no mean and std, as "
            f"{describe(preprocessor)} has none. Pass "
            "`SampleAdaptiveAdversary(pixels=PixelSpec(...))`."
        )
        raise ValueError(msg)
    return PixelSpec.from_255(mean.flatten().tolist(), std.flatten().tolist())

"""SAAT in lightning-pose's own models. Needs lightning-pose, in a separate environment."""

from typing import Any

import torch
from torch import Tensor

from advaug.adversary import SampleAdaptiveAdversary
from advaug.integrations.lightning import AdversaryCallback
from advaug.integrations.shared import IMAGENET

__all__ = ["LightningPoseAdversaryCallback"]


class LightningPoseAdversaryCallback(AdversaryCallback):
    """`AdversaryCallback` for the batches of lightning-pose, supervised and semi-supervised.

    Labelled frames are attacked, from one view or several; of frames in context the one in the
    middle. Unlabelled ones stay as they are.

    Args:
        adversary: None for the default, with ImageNet's mean and deviation, as lightning-pose
            normalises.
    """

    def __init__(self, adversary: SampleAdaptiveAdversary | None = None) -> None:
        if adversary is None:
            adversary = SampleAdaptiveAdversary(pixels=IMAGENET)
        super().__init__(adversary)

    def augmented(self, batch: Any) -> Any:  # noqa: ANN401 # lightning-pose's
        """The batch with a part of its labelled frames attacked."""
        if "labeled" in batch:
            return {**batch, "labeled": self.augmented(batch["labeled"])}
        images, keypoints = batch["images"], batch["keypoints"]
        if images.ndim > 5:
            msg = (
                "`batch['images']` must be (B, 3, H, W), or with one more axis of views or of "
                f"frames, but got {tuple(images.shape)}. Train on views or on context, not both."
            )
            raise ValueError(msg)
        if images.ndim == 5 and "num_views" not in batch:
            return {**batch, "images": self._in_context(images, keypoints)}
        frames = images.flatten(0, -4)  # each view is a separate picture
        changed = self.adversary.augment(frames, _landmarks(keypoints, len(frames)))
        return {**batch, "images": changed.view_as(images)}

    def _in_context(self, images: Tensor, keypoints: Tensor) -> Tensor:
        """Attack the frame in the middle, the only one whose landmarks are known."""
        middle = images.shape[1] // 2
        changed = self.adversary.augment(images[:, middle], _landmarks(keypoints, len(images)))
        return images.index_copy(1, torch.tensor([middle], device=images.device), changed[:, None])


def _landmarks(keypoints: Tensor, frames: int) -> Tensor:
    """`(frames, N, 2)` from x, y, x, y, ... of all views; NaN where there is none."""
    return keypoints.reshape(frames, -1, 2)

"""SAAT in any loop around torchvision's Keypoint R-CNN. Needs nothing more than timm does."""

from torch import nn
from torch.optim import Optimizer
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from advaug.adversary import SampleAdaptiveAdversary
from advaug.base.checks import describe
from advaug.integrations.shared import save_with
from advaug.step.attach import Attachment

__all__ = ["attach_to_rcnn"]


def attach_to_rcnn(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    adversary: SampleAdaptiveAdversary | None = None,
) -> Attachment:
    """Attack a part of each training batch on its way into a Keypoint R-CNN.

    `model(images, targets)` gets what `augment` makes of the list of pictures: all people of a
    picture share one structure map. In evaluation, and in `model(images)`, nothing changes.

    Args:
        model: A `GeneralizedRCNN` such as `keypointrcnn_resnet50_fpn()`, on its device; also inside
            DistributedDataParallel.
        optimizer: Of the loop: the adversary's state travels in `optimizer.state_dict()`. None to
            save `handle.adversary.state_dict()` elsewhere.
        adversary: None for the default.

    Returns:
        A handle: `handle.adversary`, and `handle.remove()`.

    Raises:
        TypeError: If `model` is none; nothing has changed then.
    """
    inside = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    if not isinstance(inside, GeneralizedRCNN):
        msg = (
            f"`model` must be a GeneralizedRCNN of torchvision, but got {describe(model)}. For "
            "other detectors use `adversary.attach(model, images=..., target=...)`."
        )
        raise TypeError(msg)
    if adversary is None:
        adversary = SampleAdaptiveAdversary()
    adversary.to(next(inside.parameters()).device)
    if optimizer is not None:
        save_with(optimizer, adversary)
    return adversary.attach(inside, images="images", target="targets")

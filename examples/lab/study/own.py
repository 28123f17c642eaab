"""What is done to the detector's own training pictures, after the handcrafted augmentation."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from advaug.augment import HandcraftedAugmentation
from advaug.augment.handcrafted import Target
from advaug.baselines._photometric import Erasing
from advaug.step.loan import private_randomness
from advaug.view.appearance import RandomAppearance

__all__ = ["CHANGES", "Change", "ChangedAugmentation"]

PROBABILITY = 0.5  # of Zhong et al., AAAI 2020

Change = Literal["erasing", "appearance"]
CHANGES: Mapping[Change, Callable[[], Callable[[Tensor], Tensor]]] = {
    "erasing": Erasing,
    "appearance": RandomAppearance,
}


class ChangedAugmentation(HandcraftedAugmentation):
    """The handcrafted augmentation, and then a change of half of the pictures, drawn by chance.

    Args:
        change: Name of the change: a rectangle of noise, or SAAT's random appearance.
        options: Those of `HandcraftedAugmentation`, as is the state.
    """

    def __init__(self, change: Change, **options: Any) -> None:  # noqa: ANN401 # the base's
        super().__init__(**options)
        self.change = CHANGES[change]()

    def forward(self, images: Tensor, target: Target) -> tuple[Tensor, Target]:
        """As there."""
        images, target = super().forward(images, target)
        with private_randomness(self.generator, images.device):
            changed = self.change(images)
            chosen = (torch.rand(len(images)) < PROBABILITY).to(images.device, non_blocking=True)
        return torch.where(chosen[:, None, None, None], changed, images), target

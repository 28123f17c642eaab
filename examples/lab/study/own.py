"""What is done to the detector's own training pictures, after the handcrafted augmentation."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from advaug.augment import HandcraftedAugmentation
from advaug.augment.handcrafted import Target, _Changes
from advaug.baselines import PRIME
from advaug.baselines._photometric import Erasing
from advaug.step.loan import private_randomness
from advaug.view.appearance import RandomAppearance

__all__ = ["CHANGES", "Change", "ChangedAugmentation", "HalfStill"]

PROBABILITY = 0.5  # of Zhong et al., AAAI 2020

Change = Literal["erasing", "appearance", "prime"]
CHANGES: Mapping[Change, Callable[[], Callable[[Tensor], Tensor]]] = {
    "erasing": Erasing,
    "appearance": RandomAppearance,
    "prime": PRIME,
}


class ChangedAugmentation(HandcraftedAugmentation):
    """The handcrafted augmentation, and then a change of half of the pictures.

    Args:
        change: Name of the change: a rectangle of noise, SAAT's random appearance, or PRIME.
        first_half: Change the first half of each batch, instead of each picture with probability
            one half.
        options: Those of `HandcraftedAugmentation`, as is the state.
    """

    def __init__(self, change: Change, *, first_half: bool = False, **options: Any) -> None:  # noqa: ANN401 # the base's
        super().__init__(**options)
        self.change = CHANGES[change]()
        self.first_half = first_half

    def forward(self, images: Tensor, target: Target) -> tuple[Tensor, Target]:
        """As there."""
        images, target = super().forward(images, target)
        count = len(images)
        with private_randomness(self.generator, images.device):
            changed = self.change(images)
            drawn = torch.rand(count) < PROBABILITY
        chosen = torch.arange(count) < count // 2 if self.first_half else drawn
        chosen = chosen.to(images.device, non_blocking=True)
        return torch.where(chosen[:, None, None, None], changed, images), target


class HalfStill(HandcraftedAugmentation):
    """The handcrafted augmentation, which leaves moving the second half of each batch to others.

    That half is mirrored and recoloured as without this class, but not turned, scaled or shifted.
    """

    def _draw(self, batch: int, size: tuple[int, int]) -> _Changes:
        changes = super()._draw(batch, size)
        changes.matrix[batch // 2 :] = torch.eye(3)
        return changes

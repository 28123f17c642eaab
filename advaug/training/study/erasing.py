"""Random erasing of the training pictures themselves."""

import torch
from torch import Tensor

from advaug.augment import HandcraftedAugmentation
from advaug.augment.handcrafted import Target
from advaug.baselines._photometric import Erasing
from advaug.isolation import private_randomness

__all__ = ["ErasingAugmentation"]

PROBABILITY = 0.5  # of Zhong et al., AAAI 2020


class ErasingAugmentation(HandcraftedAugmentation):
    """The handcrafted augmentation, and then a rectangle of noise in every other picture.

    Arguments and state are those of `HandcraftedAugmentation`.
    """

    def forward(self, images: Tensor, target: Target) -> tuple[Tensor, Target]:
        """As there."""
        images, target = super().forward(images, target)
        with private_randomness(self.generator, images.device):
            erased = Erasing()(images)
            chosen = (torch.rand(len(images)) < PROBABILITY).to(images.device, non_blocking=True)
        return torch.where(chosen[:, None, None, None], erased, images), target

"""Batched augmentations that keep pictures and landmarks together."""

from advaug.augment.handcrafted import HandcraftedAugmentation
from advaug.augment.masks import add_masks, render_mask
from advaug.augment.occlusion import RandomOcclusion, occlude

__all__ = ["HandcraftedAugmentation", "RandomOcclusion", "add_masks", "occlude", "render_mask"]

"""Draw adversarial pictures, Eq. 2, and what the detector sees of them."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from advaug.options import View
from advaug.view.appearance import seen_as
from advaug.view.regions import within

__all__ = ["Scene", "draw"]


class Scene(NamedTuple):
    """One batch and its adversarial twins.

    Attributes:
        clean: I, `(B, C, H, W)` in `[0, 1]`.
        structure: S, `(B, 1, H, W)`.
        mask: M, `(B, 1, H, W)`.
        perturbed: I_adv with its graph to the attacker.
        adversarial: I_adv, a leaf where the gradients of all losses meet before one joint backward.
        shown: I_adv as the detector sees it, with its graph to the leaf.
        inside: `(B, 1, H, W)`, 1 in the picture and 0 in its padding; None if all pictures fill the
            batch.
    """

    clean: Tensor
    structure: Tensor
    mask: Tensor
    perturbed: Tensor
    adversarial: Tensor
    shown: Tensor
    inside: Tensor | None = None


def draw(
    attacker: nn.Module,
    view: View,
    clean: Tensor,
    structure: Tensor,
    mask: Tensor,
    *,
    guide: Tensor | None,
    learning: bool,
    inside: Tensor | None = None,
    keep: Tensor | None = None,
) -> Scene:
    """I_adv of Eq. 2, and what the detector sees of it.

    Args:
        attacker: A(I, S, z).
        view: Where the attacker may draw, and the appearance.
        clean: I, `(B, C, H, W)` in `[0, 1]`.
        structure: S, `(B, 1, H, W)`.
        mask: M, `(B, 1, H, W)`.
        guide: S for the attacker, or None.
        learning: Whether gradients will be needed.
        inside: Where the pictures are, `(B, 1, H, W)`; None for everywhere.
        keep: `(B, 1, 1, 1)`, 0 for pictures that get no perturbation; None for all.
    """
    assert not isinstance(view.regions, str)
    assert not isinstance(view.appearance, str)  # View has made them
    noise = torch.randn_like(clean[:, :1])
    with torch.set_grad_enabled(learning):
        perturbation = attacker(clean, guide, noise)
        if view.regions is not None:
            perturbation = within(view.regions(clean), perturbation)
        for factor in (inside, keep):
            if factor is not None:
                perturbation = perturbation * factor
        perturbed = clean + perturbation
    adversarial = perturbed.detach().requires_grad_(learning)
    shown = adversarial
    if view.appearance is not None:
        shown = seen_as(view.appearance, adversarial)
    return Scene(clean, structure, mask, perturbed, adversarial, shown, inside)

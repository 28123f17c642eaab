"""Draw adversarial pictures, Eq. 2, and what the detector sees of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from advaug import functional as saat
from advaug.base.checks import check_values
from advaug.base.precision import widen
from advaug.step.learner import Learner
from advaug.view.appearance import seen_as
from advaug.view.regions import within

__all__ = ["Scene", "draw", "unpainted"]


class Scene(NamedTuple):
    """One batch and its adversarial twins.

    Attributes:
        clean: I, `(B, C, H, W)` in `[0, 1]`.
        structure: S, `(B, 1, H, W)`.
        mask: M, `(B, 1, H, W)`.
        perturbed: I_adv with its graph to the attacker.
        adversarial: I_adv, a leaf where the gradients of all losses meet before one joint backward.
        shown: I_adv as the detector sees and expects it, with its graph to the leaf.
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
    learner: Learner,
    images: Tensor,
    structure: Tensor | None,
    *,
    learning: bool,
    least: float = 0.0,
    inside: Tensor | None = None,
) -> Scene:
    """Draw the scene of a batch: I, S, M, I_adv of Eq. 2, and what the detector sees of it.

    Args:
        learner: Its attacker and its view.
        images: `(B, C, H, W)`, as the detector expects them.
        structure: S, `(B, 1, H, W)`; None if nothing is known about the landmarks. Then M is 1
            everywhere: L_R and SSIM cover the whole picture.
        learning: Whether gradients will be needed.
        least: What the largest value of S must reach.
        inside: Where the pictures are, `(B, 1, H, W)`; None for everywhere.

    Raises:
        ValueError: If values of the pictures or of S are out of range.
    """
    view = learner.view
    assert not isinstance(view.regions, str)  # View has made it
    clean = widen(learner.pixels.to_unit(images.detach()))
    known = torch.zeros_like(clean[:, :1]) if structure is None else structure.to(clean.dtype)
    mask = torch.ones_like(known) if structure is None else saat.semantic_mask(known)
    if learner.reads(images.device):
        check_values(clean, known, least, normalised=bool(learner.pixels.mean))
    noise = torch.randn_like(clean[:, :1])
    guide = known if learner.structure is True else None
    with torch.set_grad_enabled(learning):
        perturbation = learner.attacker(clean, guide, noise)
        if view.regions is not None:
            perturbation = within(view.regions(clean), perturbation)
        if inside is not None:
            perturbation = perturbation * inside
        perturbed = clean + perturbation
    adversarial = perturbed.detach().requires_grad_(learning)
    shown = _shown(learner, adversarial, images.dtype)
    return Scene(clean, known, mask, perturbed, adversarial, shown, inside)


def unpainted(learner: Learner, images: Tensor) -> Tensor:
    """The pictures in the appearance only, as the detector expects them."""
    return _shown(learner, widen(learner.pixels.to_unit(images.detach())), images.dtype)


def _shown(learner: Learner, pictures: Tensor, dtype: torch.dtype) -> Tensor:
    appearance = learner.view.appearance
    assert not isinstance(appearance, str)
    if appearance is not None:
        pictures = seen_as(appearance, pictures)
    return learner.pixels.from_unit(pictures).to(dtype)

r"""Equations 1 to 9 of the paper as pure functions.

Each returns one value (or map) per sample, un-reduced, and computes in float32 inside autocast.
[SAAT]: C. Zhu et al., "Improving Robustness of Facial Landmark Detection by Defending against
Adversarial Attacks", ICCV 2021. What the paper leaves open is settled in `docs/choices.md`.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from advaug.base.checks import require_axes, require_same_shape
from advaug.base.precision import full_precision
from advaug.base.shapes import mean_over_visible
from advaug.base.ssim import mean_over_region, ssim_map
from advaug.errors import ShapeError

__all__ = [
    "adaptive_beta",
    "attacker_adversarial_loss",
    "beta_from_ssim",
    "discriminator_loss",
    "feedback_loss",
    "heatmap_error",
    "semantic_mask",
    "semantic_reconstruction_loss",
    "semantic_ssim",
    "ssim",
    "structure_map",
]

SEMANTIC_THRESHOLD = 0.25


@full_precision
def heatmap_error(heatmaps: Tensor, target: Tensor, visible: Tensor | None = None) -> Tensor:
    r"""Squared distance between predicted and true heatmaps, Eq. 1 of [SAAT].

    $$ e_i = \frac{1}{N} \sum_n \lVert H_n - H^*_n \rVert^2 $$

    Args:
        heatmaps: Predicted heatmaps, `(B, N, H, W)`.
        target: True heatmaps, same shape.
        visible: `(B, N)` bool; landmarks that are False count neither in the sum nor in N.

    Returns:
        `(B,)`: sum over pixels, mean over visible landmarks; 0 for a sample that has none.

    Raises:
        ShapeError: If the shapes differ or are not four-dimensional.
    """
    require_axes("heatmaps", heatmaps, "(B, N, H, W)")
    require_same_shape("target", target, "heatmaps", heatmaps)
    difference = heatmaps - target
    if visible is not None:
        require_same_shape("visible", visible, "the landmarks", target[..., 0, 0])
        # `where`, not a product, and before the square: an invisible landmark may hold NaN.
        difference = torch.where(visible.to(torch.bool)[..., None, None], difference, 0.0)
    return mean_over_visible(difference.square().sum(dim=(-2, -1)), visible)


@full_precision
def structure_map(heatmaps: Tensor) -> Tensor:
    """All landmark heatmaps in one map, `S` of [SAAT], section 3.2 (Eq. 2).

    Args:
        heatmaps: True heatmaps in `[0, 1]`, `(B, N, H, W)`.

    Returns:
        `(B, 1, H, W)`: the maximum over the landmarks.

    Raises:
        ShapeError: If `heatmaps` is not four-dimensional.
    """
    require_axes("heatmaps", heatmaps, "(B, N, H, W)")
    return heatmaps.amax(dim=1, keepdim=True)


@full_precision
def feedback_loss(error: Tensor, *, relaxation: float = 0.1) -> Tensor:
    r"""What the attacker minimises to make the detector fail, Eq. 3 of [SAAT].

    $$ L_F = \frac{1}{e + \lambda} $$

    Args:
        error: The detector's error on the adversarial picture, any shape, not negative.
        relaxation: The relaxation factor λ, in units of the error. At 0 the sum is kept above
            1e-8.

    Returns:
        Same shape as `error`, in `(0, 1 / relaxation]`.

    Raises:
        ValueError: If `relaxation` is negative.
    """
    if relaxation < 0:
        msg = f"`relaxation` must not be negative, but got {relaxation}. The paper's value is 0.1."
        raise ValueError(msg)
    return 1 / (error + relaxation).clamp(min=1e-8)


@full_precision
def attacker_adversarial_loss(
    fake_logits: Tensor, *, form: Literal["non_saturating", "minimax"] = "non_saturating"
) -> Tensor:
    r"""What the attacker minimises to look real to the discriminator, Eq. 4 of [SAAT].

    $$ L_A = \log(1 - D(I_{adv}, S)) $$

    Where we differ: the default is the non-saturating `-log D`, as in every public pix2pix, since
    Eq. 4 loses its gradient when the discriminator wins. `form="minimax"` is the equation itself.

    Args:
        fake_logits: The discriminator's logits for adversarial pictures, `(B, ...)`.
        form: `"non_saturating"` or `"minimax"`.

    Returns:
        `(B,)`: mean over patches.

    Raises:
        ValueError: If `form` is unknown.
    """
    if form == "non_saturating":
        return _per_sample(F.softplus(-fake_logits))
    if form == "minimax":
        return _per_sample(-F.softplus(fake_logits))
    msg = f"`form` must be 'non_saturating' or 'minimax', but got {form!r}. Choose one of them."
    raise ValueError(msg)


@full_precision
def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    r"""What the discriminator minimises: Eq. 5 of [SAAT] with its sign turned.

    $$ -L_D = -\log D(I, S) - \log(1 - D(I_{adv}, S)) $$

    Args:
        real_logits: Logits for the given pictures, `(B, ...)`.
        fake_logits: Logits for their adversarial twins, `(B, ...)`.

    Returns:
        `(B,)`: mean over patches.

    Raises:
        ShapeError: If the two differ in shape.
    """
    require_same_shape("fake_logits", fake_logits, "real_logits", real_logits)
    return _per_sample(F.softplus(-real_logits)) + _per_sample(F.softplus(fake_logits))


@full_precision
def semantic_mask(
    structure: Tensor, *, threshold: float = SEMANTIC_THRESHOLD, background: float = 0.1
) -> Tensor:
    """Weigh the regions that carry the face's meaning, `M` of [SAAT], before Eq. 6.

    Args:
        structure: Structure map `S`, `(B, 1, H, W)`.
        threshold: Semantic is where `S` reaches this; 0.25 is 1.67 sigma around a landmark.
        background: Weight of the non-semantic regions.

    Returns:
        `(B, 1, H, W)`: 1 in the semantic regions, `background` elsewhere.
    """
    return torch.where(structure >= threshold, 1.0, background).to(structure.dtype)


@full_precision
def semantic_reconstruction_loss(images: Tensor, adversarial: Tensor, mask: Tensor) -> Tensor:
    r"""Distance of the adversarial picture from the original where it matters, Eq. 6 of [SAAT].

    $$ L_R = \lVert M * I - M * I_{adv} \rVert_1 $$

    Where we differ: the norm is a mean over pixels and channels, so that its weight means the same
    at every resolution.

    Args:
        images: The pictures, `(B, C, H, W)` in `[0, 1]`.
        adversarial: Their adversarial twins, same shape.
        mask: Semantic mask `M`, `(B, 1, H, W)`.

    Returns:
        `(B,)`.

    Raises:
        ShapeError: If the shapes do not match.
    """
    _require_pictures(images, adversarial, mask)
    return (mask * (images - adversarial)).abs().mean(dim=(1, 2, 3))


@full_precision
def ssim(images: Tensor, adversarial: Tensor) -> Tensor:
    """Structural similarity, `SSIM` of Eq. 9 of [SAAT], as defined by [Wang04].

    Gaussian window of 11 x 11, sigma 1.5, data range 1; only windows that lie inside the picture.
    [Wang04]: Z. Wang et al., "Image quality assessment: from error visibility to structural
    similarity", IEEE TIP 2004.

    Args:
        images: `(B, C, H, W)` in `[0, 1]`, H and W at least 11.
        adversarial: Same shape.

    Returns:
        `(B,)` in `[-1, 1]`: mean over windows and channels; 1 for equal pictures.

    Raises:
        ShapeError: If the shapes differ or a side is shorter than the window.
    """
    return ssim_map(images, adversarial).mean(dim=(1, 2, 3))


@full_precision
def semantic_ssim(images: Tensor, adversarial: Tensor, mask: Tensor) -> Tensor:
    """Structural similarity of the semantic regions only.

    Not in the paper. The mean of Eq. 9 over all of `M * I` is dominated by the non-semantic area,
    which is scaled by 0.1 and scores nearly 1. So it misses a face whose features were moved.

    Args:
        images: `(B, C, H, W)` in `[0, 1]`.
        adversarial: Same shape.
        mask: Semantic mask `M`, `(B, 1, H, W)`; its semantic regions are where it is 1.

    Returns:
        `(B,)`: mean of the map of Eq. 9 over windows centred in a semantic region; 1 for a sample
        that has none.

    Raises:
        ShapeError: If the shapes do not match or a side is shorter than the window.
    """
    _require_pictures(images, adversarial, mask)
    return mean_over_region(ssim_map(mask * images, mask * adversarial), mask)


@full_precision
def beta_from_ssim(similarity: Tensor) -> Tensor:
    r"""Sample-adaptive weight of a similarity: the outer part of Eq. 9 of [SAAT].

    $$ \beta = \max(0, \ln(SSIM + 0.5)) $$

    Args:
        similarity: SSIM, any shape, in `[-1, 1]`.

    Returns:
        Same shape, in `[0, ln 1.5]`. Never NaN: the argument of the logarithm is kept above 1,
        which is the same maximum.
    """
    return (similarity + 0.5).clamp(min=1.0).log()


@full_precision
def adaptive_beta(images: Tensor, adversarial: Tensor, mask: Tensor) -> Tensor:
    r"""Sample-adaptive weight β, Eq. 9 of [SAAT].

    $$ \beta = \max(0, \ln(SSIM(M * I, M * I_{adv}) + 0.5)) $$

    Args:
        images: The pictures, `(B, C, H, W)` in `[0, 1]`.
        adversarial: Their adversarial twins, same shape.
        mask: Semantic mask `M`, `(B, 1, H, W)`.

    Returns:
        `(B,)` in `[0, ln 1.5]`, never NaN; 0 means that the picture should not be trusted.

    Raises:
        ShapeError: If the shapes do not match or a side is shorter than the window.
    """
    _require_pictures(images, adversarial, mask)
    return beta_from_ssim(ssim(mask * images, mask * adversarial))


def _per_sample(values: Tensor) -> Tensor:
    return values.reshape(values.shape[0], -1).mean(dim=1)


def _require_pictures(images: Tensor, adversarial: Tensor, mask: Tensor) -> None:
    require_axes("images", images, "(B, C, H, W)")
    require_same_shape("adversarial", adversarial, "images", images)
    batch, _, height, width = images.shape
    if mask.shape != (batch, 1, height, width):
        msg = (
            f"`mask` must be {(batch, 1, height, width)}, but got {tuple(mask.shape)}. Make it "
            "with `semantic_mask(structure)`."
        )
        raise ShapeError(msg)

"""What the augmentations check of their arguments and of what they are called with."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from advaug.errors import ShapeError

__all__ = [
    "check_images",
    "check_permutation",
    "check_ranges",
    "check_seeds",
    "check_target",
    "check_within",
]


def check_images(images: Tensor) -> None:
    """Raise unless `images` is a floating-point batch `(B, 3, H, W)`."""
    if images.ndim != 4 or images.shape[1] != 3:
        msg = (
            f"`images` must have shape (B, 3, H, W), but got {tuple(images.shape)}. "
            "Give a batch of RGB pictures."
        )
        raise ShapeError(msg)
    _check_floating("images", images, "Divide them by 255.")


def check_seeds(seeds: Tensor, batch: int) -> None:
    """Raise unless `seeds` holds one integer for each of `batch` pictures."""
    if seeds.shape != (batch,) or seeds.is_floating_point():
        msg = (
            f"`seeds` must be {batch} integers, one per picture, but got "
            f"{seeds.dtype} of shape {tuple(seeds.shape)}. Use the pictures' indices."
        )
        raise ShapeError(msg)


def check_target(
    main: Tensor, visible: Tensor | None, batch: int, permutation: Tensor | None
) -> None:
    """Raise unless `main` holds the landmarks or heatmaps of `batch` samples, and `visible` fits.

    Args:
        main: Landmarks `(B, N, 2)` or heatmaps `(B, N, h, w)`.
        visible: `(B, N)` bool.
        batch: Number of samples.
        permutation: `(N,)`, which landmark takes whose label after a mirror.
    """
    if main.ndim not in (3, 4) or (main.ndim == 3 and main.shape[-1] != 2):
        msg = (
            "`target` must be landmarks (B, N, 2) or heatmaps (B, N, h, w), but got "
            f"{tuple(main.shape)}. Pass `visible` as the second of a pair."
        )
        raise ShapeError(msg)
    number = main.shape[1] if permutation is None else len(permutation)
    if main.shape[:2] != (batch, number):
        msg = (
            f"`target` must have {batch} samples of {number} landmarks, as `images` and "
            f"`flip_permutation` have, but got {tuple(main.shape)}. Use the permutation of "
            "the data's own landmark scheme."
        )
        raise ShapeError(msg)
    _check_floating("target", main, "Convert it with `.float()`.")
    if visible is None:
        return
    if visible.shape != main.shape[:2]:
        msg = (
            f"`visible` must have shape {tuple(main.shape[:2])}, but got "
            f"{tuple(visible.shape)}. Give one value per landmark."
        )
        raise ShapeError(msg)
    if visible.dtype != torch.bool:
        msg = f"`visible` must be bool, but got {visible.dtype}. Convert it with `.bool()`."
        raise TypeError(msg)


def check_within(low: float, high: float, **values: float) -> None:
    """Raise unless each of `values` is from `low` to `high`."""
    for name, value in values.items():
        if not low <= value <= high:
            msg = f"`{name}` must be from {low} to {high}, but got {value}. Choose one in between."
            raise ValueError(msg)


def check_ranges(**ranges: tuple[float, float]) -> None:
    """Raise unless each of `ranges` is a pair of factors above 0, the smaller one first."""
    for name, (low, high) in ranges.items():
        if not 0 < low <= high < math.inf:
            msg = (
                f"`{name}` must be a pair of factors above 0, the smaller one first, but got "
                f"{(low, high)}. Choose (1, 1) to turn it off."
            )
            raise ValueError(msg)


def check_permutation(permutation: Sequence[int] | None, flip: float) -> None:
    """Raise unless a `flip` above 0 has its permutation of labels, which undoes itself."""
    if permutation is None:
        if flip > 0:
            msg = (
                f"`flip_permutation` must be given for a `flip` above 0, but got flip={flip} and "
                "None. Pass the scheme's, such as `FACE_68.flip_permutation`, or `flip=0`."
            )
            raise ValueError(msg)
        return
    count = len(permutation)
    valid = all(0 <= image < count for image in permutation)
    if not valid or any(permutation[permutation[index]] != index for index in range(count)):
        msg = (
            "`flip_permutation` must be a permutation that undoes itself, but got one that does "
            "not. Give for every landmark the index of its mirror image."
        )
        raise ValueError(msg)


def _check_floating(name: str, values: Tensor, fix: str) -> None:
    if not values.is_floating_point():
        msg = f"`{name}` must be floating point, but got {values.dtype}. {fix}"
        raise TypeError(msg)

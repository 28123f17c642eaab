"""Masked-300W: face masks drawn onto pictures of faces, the landmarks unchanged.

This is our own renderer and uses no template art. The mask is cut from the 68 landmarks, woven in a
style, lit like the face, and blurred and grained like the picture. Everything is a function of the
picture, its landmarks and a seed.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from advaug.augment.masks.render import RENDERER_VERSION, STYLES, draw_style, render
from advaug.errors import ShapeError

__all__ = [
    "RENDERER_VERSION",
    "STYLES",
    "add_masks",
    "check_landmarks",
    "draw_style",
    "render_mask",
]

_SMALLEST_FACE = 4  # pixels

Picture = TypeVar("Picture", NDArray[np.uint8], Image.Image)


def render_mask(
    image: Picture, landmarks: ArrayLike, *, style: str | None = "surgical_blue", seed: int = 0
) -> Picture:
    """Put a mask on the face of one picture.

    Args:
        image: `(H, W, 3)` uint8 RGB, or a Pillow picture.
        landmarks: `(68, 2)`, 300W order, x then y, pixels, 0-based. May lie outside the picture.
        style: One of `STYLES`; None draws one from the seed.
        seed: Fit, shade and pattern of the mask; 0 or more.

    Returns:
        A new picture of the same kind and size; a Pillow picture comes back as RGB.

    Raises:
        ShapeError: If the picture is not `(H, W, 3)` or there are not 68 landmarks.
        ValueError: If the landmarks are not finite or span no face, or if the style is unknown.
        TypeError: If the picture is not uint8.
    """
    points = check_landmarks(landmarks)
    if isinstance(image, Image.Image):
        return Image.fromarray(_render_array(np.asarray(image.convert("RGB")), points, style, seed))
    _check_array(image)
    return _render_array(image, points, style, seed)


def add_masks(
    images: Tensor,
    landmarks: Tensor,
    *,
    styles: str | Sequence[str] | None = None,
    seeds: Tensor | Sequence[int],
    top: float | None = None,
) -> Tensor:
    """Put a mask on the face of every picture of a batch.

    Picture `i` depends only on `images[i]`, `landmarks[i]`, `seeds[i]` and its style. The mask is
    computed on the CPU, whatever the device.

    Args:
        images: Floating point, RGB, in `[0, 1]`.
        landmarks: 300W order, x then y, pixels, 0-based.
        styles: One of `STYLES` for all, one per picture, or None to draw each from its seed.
        seeds: One per picture, 0 or more.
        top: Where the upper edges are on the nose: 0 at its root (landmark 27), 1 at its tip (30),
            more than 1 for masks worn under the nose. None draws each within the usual range.

    Returns:
        New pictures of the dtype and on the device of `images`; bit-identical away from the masks.

    Raises:
        ShapeError: If the shapes are not those below.
        ValueError: If landmarks are not finite or span no face, or if a style is unknown.
        TypeError: If `images` is not floating point.

    Shape:
        - `images`: `(B, 3, H, W)`
        - `landmarks`: `(B, 68, 2)`
        - `seeds`: `(B,)`
        - returns: `(B, 3, H, W)`
    """
    drawn = [int(seed) for seed in (seeds.tolist() if isinstance(seeds, Tensor) else seeds)]
    names = [styles] * len(images) if styles is None or isinstance(styles, str) else list(styles)
    _check_batch(images, landmarks, len(names), len(drawn))

    masked = images.clone()
    pictures = images.detach().to("cpu", torch.float32).permute(0, 2, 3, 1).numpy()
    points = landmarks.detach().to("cpu", torch.float64).numpy()
    for index, picture in enumerate(pictures):
        patch = render(
            picture, 1.0, check_landmarks(points[index]), names[index], drawn[index], top
        )
        if patch is not None:
            window = masked[index, :, patch.rows, patch.columns]
            keep, paint = (torch.from_numpy(part).to(images) for part in patch[2:])
            masked[index, :, patch.rows, patch.columns] = window * keep + paint
    return masked


def _render_array(
    image: NDArray[np.uint8], landmarks: NDArray[np.float64], style: str | None, seed: int
) -> NDArray[np.uint8]:
    masked = image.copy()
    patch = render(image, 255.0, landmarks, style, seed)
    if patch is not None:
        window = masked[patch.rows, patch.columns].transpose(2, 0, 1)
        window[:] = window * patch.keep + (255 * patch.paint + 0.5)  # the cast rounds down
    return masked


def check_landmarks(landmarks: ArrayLike) -> NDArray[np.float64]:
    """Return the landmarks of one face as float64, or raise as `render_mask` says."""
    points = np.asarray(landmarks, np.float64)
    if points.shape != (68, 2):
        message = (
            f"`landmarks` must be (68, 2), but got {points.shape}. Give the 68 points of the 300W "
            "scheme, x then y."
        )
        raise ShapeError(message)
    broken = int((~np.isfinite(points)).sum())
    if broken:
        message = (
            f"`landmarks` must be finite, but got {broken} values that are not. Leave out faces "
            "with missing points."
        )
        raise ValueError(message)
    span = float(np.ptp(points, axis=0).min())
    if span < _SMALLEST_FACE:
        message = (
            f"`landmarks` must span at least {_SMALLEST_FACE} pixels in x and in y, but got "
            f"{span:.3g}. Check their unit: pixels, not parts of the picture."
        )
        raise ValueError(message)
    return points


def _check_array(image: NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3:
        message = (
            f"`image` must be (H, W, 3), but got {image.shape}. Give one RGB picture, or call "
            "`add_masks` for a batch."
        )
        raise ShapeError(message)
    if image.dtype != np.uint8:
        message = (
            f"`image` must be uint8, but got {image.dtype}. Scale it to 0 ... 255, or call "
            "`add_masks` for floating point."
        )
        raise TypeError(message)


def _check_batch(images: Tensor, landmarks: Tensor, num_styles: int, num_seeds: int) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        message = f"`images` must be (B, 3, H, W), but got {tuple(images.shape)}. Stack pictures."
        raise ShapeError(message)
    if not images.is_floating_point():
        message = f"`images` must be floating point, but got {images.dtype}. Divide by 255."
        raise TypeError(message)
    batch = len(images)
    if landmarks.shape != (batch, 68, 2):
        message = (
            f"`landmarks` must be ({batch}, 68, 2), but got {tuple(landmarks.shape)}. Give one "
            "face a picture."
        )
        raise ShapeError(message)
    for name, count in (("styles", num_styles), ("seeds", num_seeds)):
        if count != batch:
            message = f"`{name}` must have {batch} entries, but got {count}. Give one a picture."
            raise ShapeError(message)

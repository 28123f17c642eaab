"""Things in front of the face."""

import math

import torch
from torch import Tensor

from advaug.augment.corruptions.face_frame import FaceFrame
from advaug.augment.corruptions.scene import Scene
from advaug.augment.masks import add_masks
from advaug.augment.occlusion import occlude

__all__ = ["bar", "hand", "mask", "patch", "sunglasses"]


def patch(scene: Scene, coverage: float) -> Tensor:
    """Hide a part of the square's area behind a rectangle: noise, one colour or stripes."""
    return _occluded(scene, coverage, ("noise", "flat", "stripes"))


def hand(scene: Scene, coverage: float) -> Tensor:
    """Hide a part of the square's area behind a hand in a skin colour."""
    return _occluded(scene, coverage, ("blob",))


def bar(scene: Scene, width: float) -> Tensor:
    """Put a round bar of any colour and direction across the middle; `width` in sides."""
    angle, offset, *colour = scene.draw(5)
    u, v = scene.coordinates()
    angle = math.pi * angle
    across = v * angle.cos() - u * angle.sin() + 0.4 * (offset - 0.5)
    pixels = across.abs() * scene.square.side
    cover = (width * scene.square.side / 2 + 0.5 - pixels).clamp(0, 1)
    shade = (1 - 0.6 * (2 * across / width).square()).clamp(min=0.4)
    return _laid_over(scene.images, torch.cat(colour, 1)[:, :, None] * shade[:, None], cover)


def mask(scene: Scene, top: float) -> Tensor:
    """Put on a mask of any style whose upper edge is at `top` on the nose: 0 root, 1 tip.

    Above 1 it is worn under the nose.
    """
    return add_masks(scene.images, _landmarks(scene), seeds=scene.keys, top=top)


def sunglasses(scene: Scene, size: float) -> Tensor:
    """Put on sunglasses; the lenses reach `size` eye widths to either side of the eye's centre."""
    face = FaceFrame(_landmarks(scene), scene)
    opacity, red, green, blue = scene.draw(4)
    tint = 0.02 + 0.1 * torch.cat([red, green, blue], 1)[:, :, None]
    lenses = [face.lens(eye, size) for eye in ("left", "right")]
    left, right = lenses
    frame = face.stick(left.inner, right.inner)
    for lens, ear in ((left, 0), (right, 16)):
        frame = torch.maximum(frame, face.stick(lens.outer, face.local[:, ear]))
    # The temple of a far eye goes back behind its lens.
    images = _laid_over(scene.images, tint / 2, frame)
    for lens in lenses:
        images = _laid_over(images, tint, (0.8 + 0.19 * opacity) * lens.cover)
    return images


def _landmarks(scene: Scene) -> Tensor:
    assert scene.landmarks is not None  # `corrupt` refuses a call without them
    return scene.landmarks


def _occluded(scene: Scene, coverage: float, kinds: tuple[str, ...]) -> Tensor:
    rows, columns = scene.window()
    occluded = scene.images.clone()
    square = scene.images[..., rows, columns]
    occluded[..., rows, columns] = occlude(
        square, scene.keys, coverage=(coverage, coverage), kinds=kinds
    )
    return occluded


def _laid_over(images: Tensor, colour: Tensor, cover: Tensor) -> Tensor:
    """Mix in a colour `(B, 3, ...)` where the cover `(B, H, W)` is above 0."""
    return images + cover[:, None] * (colour - images)

"""Landmark-C: a benchmark of corruptions under which landmarks stay where they are.

Twenty kinds of five severities each, after ImageNet-C and COCO-C, with the lights and occluders
that faces meet. A second group of kinds, which no augmentation of this library resembles, is
reported separately. `docs/corruptions_definition.md` defines them for citing and for
re-implementing. The result for a picture depends on the picture, its seed, its landmarks where
needed, and nothing else.
"""

import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from advaug.augment._random import hash_integers
from advaug.augment.corruptions import blur, digital, light, noise, occluders
from advaug.augment.corruptions.scene import Corruption, Scene, Square
from advaug.augment.corruptions.unlike import UNLIKE
from advaug.base.checks import check_choice, check_rgb, check_seeds
from advaug.base.precision import widen
from advaug.errors import ShapeError

__all__ = [
    "BENCHMARK",
    "BENCHMARK_VERSION",
    "CORRUPTIONS",
    "GROUPS",
    "SEVERITIES",
    "UNLIKE",
    "Corruption",
    "Square",
    "check_kinds",
    "check_severities",
    "corrupt",
]

BENCHMARK = "Landmark-C"
BENCHMARK_VERSION = 1
"""Raised whenever the same seed would give another picture."""

SEVERITIES = (1, 2, 3, 4, 5)


CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian_noise": Corruption(
        noise.gaussian_noise, (0.05, 0.1, 0.15, 0.22, 0.3), "standard deviation"
    ),
    "shot_noise": Corruption(noise.shot_noise, (120, 40, 16, 8, 4), "photons a cell"),
    "impulse_noise": Corruption(noise.impulse_noise, (0.02, 0.05, 0.1, 0.17, 0.27), "share"),
    "defocus_blur": Corruption(blur.defocus_blur, (0.02, 0.035, 0.05, 0.065, 0.08), "radius"),
    "motion_blur": Corruption(blur.motion_blur, (0.06, 0.1, 0.14, 0.185, 0.23), "length"),
    "zoom_blur": Corruption(blur.zoom_blur, (0.07, 0.14, 0.21, 0.28, 0.35), "reach"),
    "brightness": Corruption(
        light.brightness, (0.35, 0.65, 1.0, 1.4, 1.9), "share of the way to white"
    ),
    "contrast": Corruption(light.contrast, (0.5, 0.35, 0.22, 0.14, 0.08), "factor"),
    "low_light": Corruption(noise.low_light, (0.5, 0.37, 0.27, 0.2, 0.14), "light"),
    "side_light": Corruption(light.side_light, (0.6, 0.8, 0.9, 0.96, 0.99), "depth"),
    "cast_shadow": Corruption(light.cast_shadow, (0.4, 0.55, 0.7, 0.8, 0.88), "depth"),
    "fog": Corruption(light.fog, (0.2, 0.33, 0.45, 0.56, 0.65), "density"),
    "colour_cast": Corruption(light.colour_cast, (0.3, 0.55, 0.8, 1.05, 1.3), "strength"),
    "jpeg": Corruption(digital.jpeg, (25, 12, 7, 5, 3), "quality"),
    "pixelation": Corruption(digital.pixelation, (40, 30, 22, 16, 12), "cells a side"),
    "patch": Corruption(occluders.patch, (0.02, 0.05, 0.09, 0.14, 0.2), "share of the area"),
    "bar": Corruption(occluders.bar, (0.03, 0.06, 0.1, 0.145, 0.195), "width"),
    "hand": Corruption(occluders.hand, (0.02, 0.045, 0.075, 0.11, 0.15), "share of the area"),
    "sunglasses": Corruption(
        occluders.sunglasses, (0.7, 0.95, 1.2, 1.4, 1.6), "half a lens, widths of an eye", face=True
    ),
    "mask": Corruption(
        occluders.mask, (1.3, 0.95, 0.7, 0.45, 0.2), "upper edge on the nose", face=True
    ),
}
"""The benchmark's kinds by name, many of them similar to what this library trains on.

Lengths are in units of the side of the face's square.
"""

GROUPS: Mapping[str, Mapping[str, Corruption]] = {"akin": CORRUPTIONS, "unlike": UNLIKE}
"""Kinds akin to what this library trains on, and those that are not; never combine the two."""

_KINDS: Mapping[str, Corruption] = {**CORRUPTIONS, **UNLIKE}


def corrupt(
    images: Tensor,
    kind: str,
    severity: int,
    *,
    seeds: Tensor | Sequence[int],
    landmarks: Tensor | None = None,
    square: Square | None = None,
) -> Tensor:
    """Corrupt every picture of a batch.

    Picture `i` depends only on `images[i]`, `seeds[i]`, `landmarks[i]` and the square. So an
    evaluation sees the same pixels in every batch, and up to rounding on every device. For the same
    seed the kinds are independent of each other; the severities of a kind differ only in strength.

    Args:
        images: RGB, in `[0, 1]`.
        kind: A name of `CORRUPTIONS` or `UNLIKE`.
        severity: 1 to 5.
        seeds: One integer per picture, such as its index in the data set. A tensor should be on the
            CPU, because its values are read there.
        landmarks: In pixels; required for kinds whose `face` is True, otherwise ignored.
        square: The square around the face, whose side is the unit of every strength; the same in
            all pictures. None for crops of faces: the whole picture.

    Returns:
        New pictures in `[0, 1]`, of the dtype and on the device of `images`.

    Raises:
        ShapeError: If a shape is not one of those below.
        TypeError: If `images` is not floating point.
        ValueError: If `kind` or `severity` is unknown, if `landmarks` are needed and missing or not
            finite, or if the square does not overlap the pictures.

    Shape:
        - images: `(B, 3, H, W)`
        - seeds: `(B,)`
        - landmarks: `(B, 68, 2)`
        - returns: `(B, 3, H, W)`
    """
    check_kinds([kind])
    check_severities([severity])
    check_rgb(images, floating=True)
    seeds = torch.as_tensor(seeds).cpu()
    check_seeds(seeds, len(images))
    corruption = _KINDS[kind]
    height, width = images.shape[-2:]
    square = Square.inside(height, width) if square is None else square
    _check_square(square, height, width)
    wide = widen(images)
    scene = Scene(
        images=wide,
        keys=_keys(kind, seeds),
        square=square,
        landmarks=_face_landmarks(kind, landmarks, wide) if corruption.face else None,
    )
    if len(images) == 0:
        return images.clone()
    corrupted = corruption.apply(scene, corruption.strengths[severity - 1])
    return corrupted.clamp(0, 1).to(images.dtype)


def check_kinds(kinds: Sequence[str], group: str | None = None) -> None:
    """Raise unless all `kinds` are known, in the group if one is named, and there is at least one.

    Raises:
        ValueError: Also if the group is unknown.
    """
    if group is not None:
        check_choice("group", group, tuple(GROUPS))
    known = _KINDS if group is None else GROUPS[group]
    unknown = [kind for kind in kinds if kind not in known]
    if unknown or not kinds:
        got = ", ".join(map(repr, unknown)) if unknown else "none"
        msg = f"`kind` must be one of {', '.join(known)}, but got {got}. Choose one of them."
        raise ValueError(msg)


def check_severities(severities: Sequence[int]) -> None:
    """Raise unless all `severities` are from 1 to 5 and there is at least one."""
    unknown = [severity for severity in severities if severity not in SEVERITIES]
    if unknown or not severities:
        got = ", ".join(map(repr, unknown)) if unknown else "none"
        msg = (
            f"`severity` must be from 1 to 5, but got {got}. Choose one of these; severity 0 is "
            "the picture itself."
        )
        raise ValueError(msg)


def _keys(kind: str, seeds: Tensor) -> Tensor:
    """Turn seeds into numbers that differ from those of any other kind."""
    return hash_integers(hash_integers(seeds) ^ zlib.crc32(kind.encode()))


def _face_landmarks(kind: str, landmarks: Tensor | None, images: Tensor) -> Tensor:
    if landmarks is None or landmarks.shape != (len(images), 68, 2):
        got = "None" if landmarks is None else tuple(landmarks.shape)
        others = ", ".join(name for name, other in _KINDS.items() if not other.face)
        msg = (
            f"`landmarks` must be ({len(images)}, 68, 2) for {kind!r}, but got {got}. Pass the "
            f"faces' landmarks, or choose a kind that needs none: {others}."
        )
        raise ShapeError(msg)
    if not landmarks.isfinite().all():
        msg = (
            f"`landmarks` must be finite for {kind!r}, but got some that are not. Leave out faces "
            "with missing points."
        )
        raise ValueError(msg)
    return landmarks.to(images)


def _check_square(square: Square, height: int, width: int) -> None:
    left, top, side = square
    # At least one pixel's centre inside; NaN fails every comparison.
    fits = side >= 1 and left + side > 0.5 and top + side > 0.5
    if not (fits and left < width - 0.5 and top < height - 0.5):
        msg = (
            f"`square` must be a pixel or more and overlap pictures of {height} x {width} pixels, "
            f"but got {square}. Give left, top and side in pixels."
        )
        raise ValueError(msg)

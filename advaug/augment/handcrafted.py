"""The handcrafted augmentation of the paper's baselines, batched on the device by kornia.

Mirror, rotation, scale, translation, hue, saturation, contrast, brightness and noise, drawn once
per sample and applied to the pictures together with their landmarks or heatmaps. Rotation, scale
and translation are one affine map, so pixels are interpolated once.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from kornia.enhance import (
    adjust_brightness,
    adjust_contrast_with_mean_subtraction,
    adjust_hue,
    adjust_saturation_with_gray_subtraction,
)
from kornia.geometry.transform import get_affine_matrix2d
from torch import Tensor, nn

from advaug.augment._geometry import change_where, inside, move, send
from advaug.base.checks import check_ranges, check_rgb, check_within, require_floating
from advaug.base.distributed import apart, rank
from advaug.base.precision import full_precision
from advaug.errors import ShapeError

__all__ = ["HandcraftedAugmentation", "Target"]

Target = Tensor | tuple[Tensor, Tensor]
"""Landmarks `(B, N, 2)` or heatmaps `(B, N, h, w)`, optionally with `visible` `(B, N)`."""

# In this order, each with the value that changes nothing.
_COLOURS: tuple[tuple[Callable[[Tensor, Tensor], Tensor], float], ...] = (
    (adjust_hue, 0.0),
    (adjust_saturation_with_gray_subtraction, 1.0),
    (adjust_contrast_with_mean_subtraction, 1.0),
    (adjust_brightness, 0.0),
)


class HandcraftedAugmentation(nn.Module):
    """Move and recolour pictures together with their landmarks.

    The defaults are those of the paper's code base. As there, a `hue` of 0.2 paints some faces
    green or violet; 0.05 keeps them within skin colours. The module draws from its own generator on
    the CPU: it neither reads nor changes the global random state, it does not wait for the device
    (with kornia 0.9 or newer), and `state_dict()` carries the generator for an exact resume.

    Pictures may leave `[0, 1]`, as adversarial ones do: only samples whose colours change, or that
    get noise, are clamped.

    Args:
        flip_permutation: Which landmark gets whose label after a mirror, as in
            `LandmarkScheme.flip_permutation`. Required if `flip` is above 0.
        flip: Probability of a mirror, `x -> W - 1 - x`.
        rotation: Largest angle to either side, in degrees.
        rotation_probability: Probability of a rotation.
        scale: Smallest and largest magnification; `(1, 1)` turns it off.
        translation: Largest shift to either side, as a fraction of the width and height.
        brightness: Largest value that is added or subtracted.
        contrast: Smallest and largest factor about the picture's mean grey; `(1, 1)` turns it off.
        saturation: Smallest and largest factor about each pixel's grey; `(1, 1)` turns it off.
        hue: Largest turn of the colours to either side, as a fraction of the HSV circle. On a CPU
            it takes longer than everything else together.
        noise: Standard deviation of the Gaussian noise, which is added last.
        probability: Probability that anything happens to a sample at all.
        seed: Start of the random generator.

    Raises:
        ValueError: If an argument is out of its range, or `flip_permutation` is missing or is not
            an involution.

    Shape:
        - images: `(B, 3, H, W)`
        - target: landmarks `(B, N, 2)` or heatmaps `(B, N, h, w)`, or a pair of either with
          `visible` `(B, N)` bool
        - returns: the same two kinds

    Examples:
        >>> augmentation = HandcraftedAugmentation(flip_permutation=FACE_68.flip_permutation)
        >>> images, (landmarks, visible) = augmentation(images, (landmarks, visible))
    """

    def __init__(
        self,
        *,
        flip_permutation: Sequence[int] | None = None,
        flip: float = 0.5,
        rotation: float = 30.0,
        rotation_probability: float = 0.5,
        scale: tuple[float, float] = (0.885, 1.285),
        translation: float = 0.05,
        brightness: float = 32 / 255,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: float = 0.2,
        noise: float = 0.0,
        probability: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_within(0, 1, flip=flip, rotation_probability=rotation_probability)
        check_within(0, 1, probability=probability, translation=translation)
        check_within(0, 1, brightness=brightness)
        check_within(0, 180, rotation=rotation)
        check_within(0, 0.5, hue=hue)
        check_within(0, math.inf, noise=noise)
        check_ranges(scale=scale, contrast=contrast, saturation=saturation)
        _check_permutation(flip_permutation, flip)
        self.flip_permutation = None if flip_permutation is None else torch.tensor(flip_permutation)
        self.flip = flip
        self.rotation = rotation
        self.rotation_probability = rotation_probability
        self.scale = scale
        self.translation = translation
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.noise = noise
        self.probability = probability
        self.generator = torch.Generator().manual_seed(seed)

    def get_extra_state(self) -> Tensor:
        """Return the state of the random generator, for `state_dict()`."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Put the random generator back to a state of `get_extra_state`."""
        self.generator.set_state(state.cpu())

    def forward(self, images: Tensor, target: Target) -> tuple[Tensor, Target]:
        """Return `images` and `target` after the changes; neither is changed in place.

        A landmark that leaves the picture becomes invisible if `target` carries `visible`. Heatmaps
        are warped with the picture, so their Gaussians grow and shrink with it. If their width
        matters, draw them again from the moved landmarks.

        Raises:
            ShapeError: If a shape is not one of those above or the batches differ.
            TypeError: If `images` or `target` is not floating point, or `visible` not bool.
        """
        check_rgb(images, floating=True)
        main, visible = target if isinstance(target, (tuple, list)) else (target, None)
        _check_target(main, visible, len(images), self.flip_permutation)
        size = (images.shape[-2], images.shape[-1])
        changes = self._draw(len(images), size)
        changed = move(_recolour(images, changes.colours), changes.flip, changes.matrix, size)
        changed = self._add_noise(changed, changes).to(images.dtype)
        moved = move(self._relabel(main, changes), changes.flip, changes.matrix, size)
        main = moved.to(main.dtype)
        if visible is None:
            return changed, main
        visible = self._relabel(visible, changes)
        return changed, (main, visible if main.ndim == 4 else visible & inside(main, size))

    def _draw(self, batch: int, size: tuple[int, int]) -> "_Changes":
        # All columns are always drawn, so that turning one change off does not affect the others.
        columns = self._uniform(batch, 11).unbind(1)
        applied = columns[0] < self.probability
        rotated = applied & (columns[2] < self.rotation_probability)

        def between(low: float, high: float, uniform: Tensor, neutral: float) -> Tensor:
            return torch.where(applied, low + (high - low) * uniform, neutral)

        def around_zero(reach: float, uniform: Tensor) -> Tensor:
            return between(-reach, reach, uniform, 0.0)

        angle = torch.where(rotated, around_zero(self.rotation, columns[3]), 0.0)
        scale = between(*self.scale, columns[4], 1.0)
        shift = torch.stack([around_zero(self.translation, u) for u in columns[5:7]], dim=1)
        brightness = around_zero(self.brightness, columns[7])
        contrast = between(*self.contrast, columns[8], 1.0)
        saturation = between(*self.saturation, columns[9], 1.0)
        hue = around_zero(self.hue, columns[10]) * (2 * math.pi)
        extent = torch.tensor([size[1], size[0]], dtype=torch.float64)
        centre = ((extent - 1) / 2).expand(batch, 2)
        both = scale[:, None].expand(batch, 2)
        return _Changes(
            applied=applied,
            flip=applied & (columns[1] < self.flip),
            matrix=get_affine_matrix2d(shift * extent, centre, both, angle),
            colours=torch.stack([hue, saturation, contrast, brightness]),
        )

    def _uniform(self, rows: int, columns: int) -> Tensor:
        """Numbers of this process's own, from a generator whose state all processes share."""
        shared = torch.rand(rows, columns, generator=self.generator, dtype=torch.float64)
        if rank() == 0 or rows == 0:
            return shared
        own = torch.Generator().manual_seed(apart(int(shared[0, 0] * 2**53)))
        return torch.rand(rows, columns, generator=own, dtype=torch.float64)

    def _relabel(self, values: Tensor, changes: "_Changes") -> Tensor:
        """Swap left and right along the landmarks of the mirrored samples."""
        if self.flip_permutation is None or not changes.flip.any():
            return values
        kept = torch.arange(len(self.flip_permutation))
        order = torch.where(changes.flip[:, None], self.flip_permutation, kept)
        samples = torch.arange(len(values), device=values.device)[:, None]
        return values[samples, order.to(values.device, non_blocking=True)]

    def _add_noise(self, images: Tensor, changes: "_Changes") -> Tensor:
        if self.noise == 0:
            return images
        # Drawn on the device from our own seed: a transfer would cost more than everything else.
        seed = apart(int(torch.randint(2**62, (), generator=self.generator)))
        generator = torch.Generator(images.device).manual_seed(seed)
        noise = torch.empty_like(images).normal_(std=self.noise, generator=generator)
        return change_where(changes.applied, lambda clean: (clean + noise).clamp(0, 1), images)


class _Changes(NamedTuple):
    """What happens to each sample, on the CPU, where reading a value stalls no device."""

    applied: Tensor  # (B,) bool
    flip: Tensor  # (B,) bool
    matrix: Tensor  # (B, 3, 3), after the mirror, from pixels to pixels
    colours: Tensor  # (4, B), one row for each of `_COLOURS`


@full_precision
def _recolour(images: Tensor, colours: Tensor) -> Tensor:
    needed = colours != torch.tensor([neutral for _, neutral in _COLOURS])[:, None]

    def adjusted(images: Tensor) -> Tensor:
        images = images.clamp(0, 1)  # kornia's functions expect this range
        for (adjust, _), factor, any_sample in zip(_COLOURS, colours, needed.any(1), strict=True):
            if any_sample:
                images = adjust(images, send(factor, images))
        return images

    return change_where(needed.any(0), adjusted, images)


def _check_target(
    main: Tensor, visible: Tensor | None, batch: int, permutation: Tensor | None
) -> None:
    """Raise unless `main` holds the landmarks or heatmaps of `batch` samples, and `visible` fits.

    Args:
        main: Landmarks `(B, N, 2)` or heatmaps `(B, N, h, w)`.
        visible: `(B, N)` bool.
        batch: Number of samples.
        permutation: `(N,)`, which landmark gets whose label after a mirror.
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
    require_floating("target", main, "Convert it with `.float()`.")
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


def _check_permutation(permutation: Sequence[int] | None, flip: float) -> None:
    """Raise unless a `flip` above 0 has its permutation of labels, which undoes itself."""
    if permutation is None:
        if flip > 0:
            msg = (
                f"`flip_permutation` must be given for a `flip` above 0, but got flip={flip} and "
                "None. Pass the scheme's, such as `advaug.schemes.FACE_68.flip_permutation`, or "
                "`flip=0`."
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

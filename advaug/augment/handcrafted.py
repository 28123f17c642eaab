"""The handcrafted augmentation of the paper's baselines, batched on the device.

Mirror, rotation, scale, translation, brightness, contrast, saturation, hue and noise, drawn once
per sample and applied to the pictures together with their landmarks or heatmaps. Whatever is
geometric is one affine map, so pixels are interpolated once; whatever is colour is one matrix.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advaug._precision import widen
from advaug.errors import ShapeError

__all__ = ["HandcraftedAugmentation", "Target"]

Target = Tensor | tuple[Tensor, Tensor]
"""Landmarks `(B, N, 2)` or heatmaps `(B, N, h, w)`, alone or with `visible` `(B, N)`."""


# NTSC: luma, then two axes of chroma in whose plane a hue is an angle.
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


class HandcraftedAugmentation(nn.Module):
    """Move and recolour pictures together with their landmarks.

    The defaults are the list that the paper's code base trains with. As there, a `hue` of 0.2
    paints some faces green or violet; 0.05 keeps them in the colours of skin. The module draws
    from its own generator on the CPU: the global random state is neither read nor changed, the
    device is never waited for, and `state_dict()` carries the generator for an exact resume.

    Args:
        flip_permutation: Which landmark takes whose label after a mirror, as in
            `LandmarkScheme.flip_permutation`. Required if `flip` is above 0.
        flip: Probability of a mirror, `x -> W - 1 - x`.
        rotation: Largest angle to either side, in degrees.
        rotation_probability: Probability of a rotation.
        scale: Smallest and largest magnification; `(1, 1)` turns it off.
        translation: Largest shift to either side, as a fraction of the width and height.
        brightness: Largest value that is added or subtracted.
        contrast: Smallest and largest factor about the picture's mean grey; `(1, 1)` turns it off.
        saturation: Smallest and largest factor about each pixel's grey; `(1, 1)` turns it off.
        hue: Largest turn of the colours to either side, as a fraction of the colour circle, at
            constant grey.
        noise: Standard deviation of the Gaussian noise, last of all.
        probability: Probability that anything happens to a sample at all.
        seed: Start of the random generator.

    Raises:
        ValueError: If an argument is out of its range, or `flip_permutation` is missing or no
            involution.

    Shape:
        - images: `(B, 3, H, W)` in `[0, 1]`
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
        _check_within(0, 1, flip=flip, rotation_probability=rotation_probability)
        _check_within(0, 1, probability=probability, translation=translation, brightness=brightness)
        _check_within(0, 180, rotation=rotation)
        _check_within(0, 0.5, hue=hue)
        _check_within(0, math.inf, noise=noise)
        _check_ranges(scale=scale, contrast=contrast, saturation=saturation)
        if flip_permutation is not None:
            _check_involution(flip_permutation)
        elif flip > 0:
            msg = (
                f"`flip_permutation` must be given for a `flip` above 0, but got flip={flip} and "
                "None. Pass the scheme's, such as `FACE_68.flip_permutation`, or `flip=0`."
            )
            raise ValueError(msg)
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

        A landmark that leaves the picture becomes invisible where `target` carries `visible`.
        Heatmaps are warped with the picture, so their Gaussians grow and shrink with it; draw them
        anew from moved landmarks where their width matters.

        Raises:
            ShapeError: If a shape is not one of those above or the batches differ.
            TypeError: If `images` or `target` is not floating point, or `visible` not bool.
        """
        _check_images(images)
        main, visible = target if isinstance(target, (tuple, list)) else (target, None)
        self._check_target(len(images), main, visible)
        size = (images.shape[-2], images.shape[-1])
        changes = self._draw(len(images))
        # Autocast would round coordinates to eight bits.
        with torch.autocast(images.device.type, enabled=False):
            images = self._add_noise(_warp(_recolour(images, changes), changes, size), changes)
            transform = _warp if main.ndim == 4 else _move
            main = transform(self._relabel(main, changes), changes, size)
        if visible is None:
            return images, main
        visible = self._relabel(visible, changes)
        return images, (main, visible if main.ndim == 4 else visible & _inside(main, size))

    def _check_target(self, batch: int, main: Tensor, visible: Tensor | None) -> None:
        if main.ndim not in (3, 4) or (main.ndim == 3 and main.shape[-1] != 2):
            msg = (
                "`target` must be landmarks (B, N, 2) or heatmaps (B, N, h, w), but got "
                f"{tuple(main.shape)}. Pass `visible` as the second of a pair."
            )
            raise ShapeError(msg)
        number = main.shape[1] if self.flip_permutation is None else len(self.flip_permutation)
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

    def _draw(self, batch: int) -> "_Changes":
        # All columns are always drawn: turning one change off leaves the others as they were.
        columns = torch.rand(batch, 11, generator=self.generator, dtype=torch.float64).unbind(1)
        applied = columns[0] < self.probability
        rotated = applied & (columns[2] < self.rotation_probability)

        def between(low: float, high: float, uniform: Tensor, neutral: float) -> Tensor:
            return torch.where(applied, low + (high - low) * uniform, neutral)

        def around_zero(reach: float, uniform: Tensor) -> Tensor:
            return between(-reach, reach, uniform, 0.0)

        angle = torch.where(rotated, around_zero(self.rotation, columns[3]), 0.0)
        return _Changes(
            applied=applied,
            flip=applied & (columns[1] < self.flip),
            angle=angle.deg2rad(),
            scale=between(*self.scale, columns[4], 1.0),
            shift=torch.stack([around_zero(self.translation, u) for u in columns[5:7]], dim=1),
            brightness=around_zero(self.brightness, columns[7]),
            contrast=between(*self.contrast, columns[8], 1.0),
            saturation=between(*self.saturation, columns[9], 1.0),
            hue=around_zero(self.hue, columns[10]) * (2 * math.pi),
        )

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
        # Drawn on the device from a seed of our own: a transfer would cost more than the rest.
        seed = int(torch.randint(2**62, (), generator=self.generator))
        generator = torch.Generator(images.device).manual_seed(seed)
        noise = torch.randn(
            images.shape, generator=generator, device=images.device, dtype=images.dtype
        )
        return _where(changes.applied, (images + self.noise * noise).clamp(0, 1), images)


class _Changes(NamedTuple):
    """What happens to each sample: `(B,)` on the CPU, where reading a value stalls no device."""

    applied: Tensor
    flip: Tensor
    angle: Tensor  # radians
    scale: Tensor
    shift: Tensor  # (B, 2), fractions of the width and height
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # radians

    @property
    def still(self) -> Tensor:
        """Which samples need no interpolation."""
        return (self.angle == 0) & (self.scale == 1) & (self.shift == 0).all(1)

    @property
    def recoloured(self) -> Tensor:
        """Which samples change their colours."""
        kept = (self.brightness == 0) & (self.hue == 0)
        return ~(kept & (self.contrast == 1) & (self.saturation == 1))

    def linear(self) -> Tensor:
        """Return the map of pixels about the centre, `(B, 2, 2)`: mirror, then turn and scale."""
        cosine, sine = self.scale * self.angle.cos(), self.scale * self.angle.sin()
        mirror = 1.0 - 2.0 * self.flip
        return torch.stack([cosine * mirror, -sine, sine * mirror, cosine], 1).view(-1, 2, 2)


def _move(landmarks: Tensor, changes: _Changes, size: tuple[int, int]) -> Tensor:
    """Map landmarks `(B, N, 2)` in pixels of a picture of `size`."""
    extent = torch.tensor([size[1], size[0]], dtype=torch.float64)
    centre = (extent - 1) / 2
    linear = changes.linear()
    offset = centre + changes.shift * extent - linear @ centre
    points = widen(landmarks)
    # Sums rather than a matrix product, which TF32 would round to a tenth of a pixel.
    moved = (points[:, :, None] * _send(linear, points)[:, None]).sum(-1)
    return (moved + _send(offset, points)[:, None]).to(landmarks.dtype)


def _inside(landmarks: Tensor, size: tuple[int, int]) -> Tensor:
    """Tell which landmarks `(B, N, 2)` lie on a pixel of a picture of `size`."""
    x, y = landmarks.unbind(-1)
    return (x >= -0.5) & (x < size[1] - 0.5) & (y >= -0.5) & (y < size[0] - 0.5)


def _warp(maps: Tensor, changes: _Changes, size: tuple[int, int]) -> Tensor:
    """Warp pictures of `size`, or heatmaps of any stride over them, `(B, C, h, w)`."""
    mirrored = changes.still & changes.flip
    copied = _where(mirrored, maps.flip(-1), maps) if mirrored.any() else maps
    if changes.still.all():
        return copied
    wide = widen(maps)
    warped = F.grid_sample(wide, _grid(wide, changes, size), align_corners=False)
    return _where(~changes.still, warped.to(maps.dtype), copied)


def _grid(maps: Tensor, changes: _Changes, size: tuple[int, int]) -> Tensor:
    """Say where each pixel of the result lies in `maps`, `(B, h, w, 2)`.

    In coordinates from -1 to 1 between the outer edges of the border pixels, which the picture and
    its heatmaps share whatever their strides: one map serves both, with no shift between them.
    """
    extent = torch.tensor([size[1], size[0]], dtype=torch.float64)
    # (D^-1 A D)^-1, where D takes these coordinates to pixels: A^-1 is A^T / scale^2.
    back = changes.linear().mT / changes.scale.square()[:, None, None]
    back = back * extent / extent[:, None]
    x, y = (torch.arange(0.5, n, dtype=torch.float64) * (2 / n) - 1 for n in maps.shape[:1:-1])
    x = x - 2 * changes.shift[:, :1]
    y = y - 2 * changes.shift[:, 1:]
    columns = x[:, :, None] * back[:, None, :, 0]
    rows = y[:, :, None] * back[:, None, :, 1]
    # The only full-size sum is made on the device.
    return _send(columns, maps)[:, None] + _send(rows, maps)[:, :, None]


def _recolour(images: Tensor, changes: _Changes) -> Tensor:
    """Apply hue, saturation, contrast and brightness as one matrix and one offset."""
    recoloured = changes.recoloured
    if not recoloured.any():
        return images
    wide = widen(images)
    grey = _send(torch.tensor(_YIQ[0]), wide)
    contrast = _send(changes.contrast, wide)
    mean = (wide.mean((2, 3)) * grey).sum(1)
    offset = (1 - contrast) * mean + _send(changes.brightness, wide)
    matrix = _send(changes.contrast[:, None, None] * _chroma(changes), wide)
    mixed = torch.baddbmm(offset[:, None, None], matrix, wide.flatten(2)).clamp(0, 1)
    return _where(recoloured, mixed.view_as(wide).to(images.dtype), images)


def _chroma(changes: _Changes) -> Tensor:
    """Return the RGB matrix that turns and scales the chroma at constant luma, `(B, 3, 3)`."""
    yiq = torch.tensor(_YIQ, dtype=torch.float64)
    turn = torch.zeros(len(changes.hue), 3, 3, dtype=torch.float64)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = changes.saturation * changes.hue.cos()
    turn[:, 2, 1] = changes.saturation * changes.hue.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    return torch.linalg.inv(yiq) @ turn @ yiq


def _send(values: Tensor, like: Tensor) -> Tensor:
    """Bring values from the CPU to the device and type of `like` without waiting."""
    return values.to(like.dtype).to(like.device, non_blocking=True)


def _where(mask: Tensor, changed: Tensor, kept: Tensor) -> Tensor:
    """Take the samples of `changed` where the CPU's `mask` `(B,)` says so."""
    if mask.all():
        return changed
    return torch.where(_send(mask, kept).bool()[:, None, None, None], changed, kept)


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        msg = (
            f"`images` must have shape (B, 3, H, W), but got {tuple(images.shape)}. "
            "Give a batch of RGB pictures."
        )
        raise ShapeError(msg)
    _check_floating("images", images, "Divide them by 255.")


def _check_floating(name: str, values: Tensor, fix: str) -> None:
    if not values.is_floating_point():
        msg = f"`{name}` must be floating point, but got {values.dtype}. {fix}"
        raise TypeError(msg)


def _check_within(low: float, high: float, **values: float) -> None:
    for name, value in values.items():
        if not low <= value <= high:
            msg = f"`{name}` must be from {low} to {high}, but got {value}. Choose one in between."
            raise ValueError(msg)


def _check_ranges(**ranges: tuple[float, float]) -> None:
    for name, (low, high) in ranges.items():
        if not 0 < low <= high < math.inf:
            msg = (
                f"`{name}` must be a pair of factors above 0, the smaller one first, but got "
                f"{(low, high)}. Choose (1, 1) to turn it off."
            )
            raise ValueError(msg)


def _check_involution(permutation: Sequence[int]) -> None:
    count = len(permutation)
    valid = all(0 <= image < count for image in permutation)
    if not valid or any(permutation[permutation[index]] != index for index in range(count)):
        msg = (
            "`flip_permutation` must be a permutation that undoes itself, but got one that does "
            "not. Give for every landmark the index of its mirror image."
        )
        raise ValueError(msg)

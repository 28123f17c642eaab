"""Shapes drawn in the frame of a face, batched: lenses and sticks, for sunglasses."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from advaug.augment.corruptions.scene import Scene

__all__ = ["FaceFrame", "Lens"]

# The outer and the inner corner and all points of each eye, and the direction from in to out.
_EYES = {"left": (36, 39, slice(36, 42), -1), "right": (45, 42, slice(42, 48), 1)}
_NOSE_ROOT, _NOSE_TIP = 27, 30
_LENS_HEIGHT = 0.6  # half of it, in lengths of the nose, for a lens of size 1
_STICK = 0.045  # half its thickness, in lengths of the nose


class Lens(NamedTuple):
    """A lens of a pair of glasses.

    Attributes:
        cover: `(B, H, W)` in `[0, 1]`.
        inner: Where the bridge begins, `(B, 2)` in the frame of the face.
        outer: Where the temple begins, in the same frame.
    """

    cover: Tensor
    inner: Tensor
    outer: Tensor


class FaceFrame:
    """Pixels and landmarks with x along the eyes and y down the face, from the nose's root.

    Args:
        landmarks: `(B, 68, 2)` in pixels.
        scene: Provides the pixels.

    Attributes:
        local: `(B, 68, 2)`, the landmarks in the frame, pixels.
    """

    def __init__(self, landmarks: Tensor, scene: Scene) -> None:
        eyes = landmarks[:, _EYES["right"][2]].mean(1) - landmarks[:, _EYES["left"][2]].mean(1)
        along = eyes / torch.linalg.vector_norm(eyes, dim=1, keepdim=True).clamp(min=1e-6)
        down = torch.stack([-along[:, 1], along[:, 0]], 1)
        axes = torch.stack([along, down], 2)
        root = landmarks[:, _NOSE_ROOT]
        self.local = (landmarks - root[:, None]) @ axes
        self._nose = torch.linalg.vector_norm(self.local[:, _NOSE_TIP], dim=1).clamp(min=1)
        height, width = scene.size
        x = torch.arange(width, dtype=along.dtype, device=along.device)[None, :]
        y = torch.arange(height, dtype=along.dtype, device=along.device)[:, None]
        x, y = x - _on_maps(root[:, 0]), y - _on_maps(root[:, 1])
        cosine, sine = _on_maps(along[:, 0]), _on_maps(along[:, 1])
        self._x, self._y = cosine * x + sine * y, cosine * y - sine * x

    def lens(self, eye: Literal["left", "right"], size: float) -> Lens:
        """Draw a lens, between an ellipse and a rectangle, around an eye."""
        outer, inner, points, direction = _EYES[eye]
        centre = self.local[:, points].mean(1)
        # A far eye is narrow, and so is its lens.
        wide = (size * (self.local[:, outer, 0] - self.local[:, inner, 0]).abs()).clamp(min=1)
        high = (size * _LENS_HEIGHT * self._nose).clamp(min=1)
        x = (self._x - _on_maps(centre[:, 0])) / _on_maps(wide)
        y = (self._y - _on_maps(centre[:, 1])) / _on_maps(high)
        radius = (x.abs() ** 3 + y.abs() ** 3) ** (1 / 3)
        cover = ((1 - radius) * _on_maps(torch.minimum(wide, high)) + 0.5).clamp(0, 1)
        reach = torch.stack([direction * 0.95 * wide, -0.35 * high], 1)
        return Lens(cover, centre + reach * reach.new_tensor([-1, 1]), centre + reach)

    def stick(self, start: Tensor, end: Tensor) -> Tensor:
        """Draw a stick between two points `(B, 2)` of the frame: `(B, H, W)` in `[0, 1]`."""
        way = end - start
        x, y = self._x - _on_maps(start[:, 0]), self._y - _on_maps(start[:, 1])
        across, down = _on_maps(way[:, 0]), _on_maps(way[:, 1])
        length = _on_maps(way.square().sum(1).clamp(min=1e-6))
        share = ((x * across + y * down) / length).clamp(0, 1)
        distance = torch.hypot(x - share * across, y - share * down)
        return (_on_maps(_STICK * self._nose).clamp(min=0.5) + 0.5 - distance).clamp(0, 1)


def _on_maps(values: Tensor) -> Tensor:
    """Reshape one number per picture, `(B,)`, to broadcast over maps `(B, H, W)`."""
    return values[:, None, None]

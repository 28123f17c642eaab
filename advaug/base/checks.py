"""Checks of arguments that more than one file makes, and their error messages.

A check that belongs to one option lives with that option.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from advaug.base.precision import widen
from advaug.errors import ShapeError

__all__ = [
    "CUT_OFF",
    "check_at_least_one",
    "check_choice",
    "check_divisible",
    "check_error",
    "check_images",
    "check_kind",
    "check_not_negative",
    "check_ranges",
    "check_rgb",
    "check_seeds",
    "check_target_device",
    "check_target_tensors",
    "check_told",
    "check_unit_pictures",
    "check_values",
    "check_within",
    "describe",
    "require_axes",
    "require_floating",
    "require_same_shape",
]

PIXEL_TOLERANCE = 0.05  # beyond rounding, half precision and the overshoot of a bicubic resize
CUT_OFF = (
    "the detector's output must carry a graph to its input, but its error does not depend on the "
    "pictures. Do not detach them on the way through the detector, nor run a part of it under "
    "`no_grad`; to freeze a part use `requires_grad_(False)`."
)
SSIM_WINDOW = 11  # pixels: the side of the window of Eq. 9


def describe(value: Any) -> str:  # noqa: ANN401 # that is its job
    """A value's type and shape in a few words, for error messages."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, dict):
        return f"a dict with the keys {list(value)}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, tuple | list):
        parts = ", ".join(describe(part) for part in value[:4])
        return f"a {type(value).__name__} of {len(value)}: {parts}"
    return f"a {type(value).__name__}"


def require_axes(name: str, tensor: Tensor, axes: str) -> None:
    """Raise unless `tensor` has as many axes as `axes`, such as "(B, N, 2)", names."""
    if tensor.ndim != axes.count(",") + 1:
        short = tensor.ndim == axes.count(",")
        fix = f"Add the batch: `{name}[None]`." if short else "Bring it to these axes."
        msg = f"`{name}` must be {axes}, but got {tuple(tensor.shape)}. {fix}"
        raise ShapeError(msg)


def require_same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless two tensors have one shape."""
    if tensor.shape != other.shape:
        msg = (
            f"`{name}` must have the shape of {other_name}, {tuple(other.shape)}, but got "
            f"{tuple(tensor.shape)}. Bring one to the shape of the other."
        )
        raise ShapeError(msg)


def require_floating(name: str, values: Tensor, fix: str) -> None:
    """Raise unless `values` is floating point."""
    if not values.is_floating_point():
        msg = f"`{name}` must be floating point, but got {values.dtype}. {fix}"
        raise TypeError(msg)


def check_choice(name: str, value: object, choices: Iterable[object], more: str = "") -> None:
    """Raise on a value that is not one of a few, naming these and what `more` says."""
    known = list(choices)
    if value not in known:
        words = ", ".join(map(str, known))
        msg = f"`{name}` must be one of {words}{more}, but got {value!r}. Choose one."
        raise ValueError(msg)


def check_not_negative(**options: object) -> None:
    """Raise on a number that is negative or NaN; anything else passes."""
    for name, value in options.items():
        if isinstance(value, int | float) and not value >= 0:
            msg = f"`{name}` must not be negative, but got {value}. Choose 0 or a larger number."
            raise ValueError(msg)


def check_at_least_one(**counts: int) -> None:
    """Raise unless each of `counts`, by the name of its argument, is positive."""
    for name, count in counts.items():
        if count < 1:
            msg = f"`{name}` must be at least 1, but got {count}. Choose a positive number."
            raise ValueError(msg)


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


def check_kind(name: str, value: object, kind: type[Any]) -> None:
    """Raise unless an option is of its own class, which has checked what is in it."""
    if not isinstance(value, kind):
        msg = (
            f"`{name}` must be of type {kind.__name__}, but got {describe(value)}. Leave it out, "
            f"or pass `{kind.__name__}(...)`."
        )
        raise TypeError(msg)


def check_unit_pictures(images: Tensor, *, beyond: float = 0.0) -> None:
    """Raise unless `images` is floating point, and on a CPU also in `[0, 1]`.

    On other devices a look at the values would be one wait for each batch.

    Args:
        images: Of any shape.
        beyond: How far they may leave `[0, 1]`.
    """
    require_floating("images", images, "For 0..255 use `images.float() / 255`.")
    if images.device.type != "cpu" or images.numel() == 0 or torch.compiler.is_compiling():
        return
    low, high = float(images.amin()), float(images.amax())
    if low < -beyond - PIXEL_TOLERANCE or high > 1 + beyond + PIXEL_TOLERANCE:
        msg = (
            f"`images` must be in [0, 1], but got values from {low:.4g} to {high:.4g}. Change "
            "pictures before you normalise them, and divide 0..255 pictures by 255."
        )
        raise ValueError(msg)


def check_seeds(seeds: Tensor, batch: int) -> None:
    """Raise unless `seeds` holds one integer for each of `batch` pictures."""
    if seeds.shape != (batch,) or seeds.is_floating_point():
        msg = (
            f"`seeds` must be {batch} integers, one per picture, but got "
            f"{seeds.dtype} of shape {tuple(seeds.shape)}. Use the pictures' indices."
        )
        raise ShapeError(msg)


def check_rgb(images: Tensor, *, floating: bool = False) -> None:
    """Raise unless `images` is a batch of RGB pictures, and floating point where that is asked."""
    if images.ndim != 4 or images.shape[1] != 3:
        msg = (
            f"`images` must have shape (B, 3, H, W), but got {tuple(images.shape)}. "
            "Give a batch of RGB pictures."
        )
        raise ShapeError(msg)
    if floating:
        require_floating("images", images, "Divide them by 255.")


def check_divisible(images: Tensor, divisor: int) -> None:
    """Raise unless height and width of `images` are divisible by `divisor`."""
    height, width = images.shape[-2:]
    if height % divisor or width % divisor:
        fitting = (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        msg = (
            f"`images` must have a height and width divisible by {divisor}, but got "
            f"{(height, width)}. Pad or resize to {fitting}."
        )
        raise ShapeError(msg)


def check_images(images: Any, reference: Tensor, channels: int = 3) -> None:  # noqa: ANN401 # that is what it checks
    """Raise unless `images` is a batch that a network with parameter `reference` accepts."""
    if not isinstance(images, Tensor):
        msg = (
            f"`images` must be a tensor (B, {channels}, H, W), but got {describe(images)}. Stack "
            "the pictures as a tensor, or pass a list of tensors."
        )
        raise TypeError(msg)
    if images.ndim != 4 or images.shape[1] != channels or images.shape[0] == 0:
        msg = (
            f"`images` must be (B, {channels}, H, W) with B >= 1, but got {tuple(images.shape)}."
            f"{_shape_fix(images, channels)}"
        )
        raise ShapeError(msg)
    if not images.is_floating_point():
        deep = "" if images.dtype == torch.uint8 else ", for 16 bits `images.float() / 65535`"
        msg = (
            f"`images` must be floating point, but got {images.dtype}. "
            f"For 0..255 use `images.float() / 255`{deep}."
        )
        raise TypeError(msg)
    if images.device != reference.device:
        msg = (
            f"`images` must be on the adversary's device, {reference.device}, but got "
            f"{images.device}. Move one: `adversary.to(images.device)`."
        )
        raise ValueError(msg)
    if min(images.shape[-2:]) < SSIM_WINDOW:
        msg = (
            f"`images` must have sides of at least {SSIM_WINDOW} pixels, the window of SSIM, but "
            f"got {tuple(images.shape[-2:])}. Use larger pictures."
        )
        raise ShapeError(msg)
    if reference.dtype in (torch.float16, torch.bfloat16):
        msg = (
            f"the adversary must be in float32, but is in {reference.dtype}. Use "
            "`adversary.float()`; its pictures may be in half precision, or it may run in autocast."
        )
        raise TypeError(msg)
    if widen(images).dtype != reference.dtype:
        msg = (
            f"`images` must fit the adversary's {reference.dtype}, but got {images.dtype}. "
            "Use `images.float()` and an adversary in float32, under autocast if you like."
        )
        raise TypeError(msg)


def _shape_fix(images: Tensor, channels: int) -> str:
    """What to do about pictures of another shape."""
    if images.ndim == 5:
        return " Volumes are attacked slice by slice: move the depth into the batch."
    if images.ndim == 3:
        return " Add the batch: `images[None]`."
    if images.ndim == 4 and images.shape[-1] == channels:
        return " Put the channels before the rows: `images.permute(0, 3, 1, 2)`."
    if images.ndim == 4 and images.shape[0] > 0:
        count = images.shape[1]
        return f" For pictures of {count} channels build the adversary with `channels={count}`."
    return " Leave out batches without pictures." if images.ndim == 4 else ""


def check_target_tensors(target: Any, images: Tensor) -> None:  # noqa: ANN401 # any task's target
    """Raise unless every tensor of the target has the images' batch size, device and dtype."""
    check_target_device(target, images)
    for value in _tensors(target):
        # A list may hold a target for each picture.
        whole = not isinstance(target, list)
        if whole and (value.ndim == 0 or value.shape[0] != images.shape[0]):
            msg = (
                f"`target` must have the batch size of `images`, {images.shape[0]}, but got "
                f"{tuple(value.shape)}. Give a target for each picture."
            )
            raise ShapeError(msg)
        if value.dtype == torch.float64 != images.dtype:
            msg = (
                f"`target` must not be wider than the {images.dtype} of `images`, but got "
                f"{value.dtype}. Use `target.float()`."
            )
            raise TypeError(msg)


def check_target_device(target: Any, images: Tensor) -> None:  # noqa: ANN401 # any target
    """Raise unless every tensor of the target is where the images are."""
    for value in _tensors(target):
        if value.device != images.device:
            msg = (
                f"`target` must be on the device of `images`, {images.device}, but got "
                f"{value.device}. Use `target.to(images.device)`."
            )
            raise ValueError(msg)


def _tensors(value: Any) -> list[Tensor]:  # noqa: ANN401 # any nesting
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in _tensors(part)]
    return []


def check_values(
    images: Tensor, structure: Tensor, threshold: float, *, normalised: bool = False
) -> None:
    """Raise if pictures are not in `[0, 1]` or no landmark is visible.

    Reads the values back from the device: one synchronisation.

    Args:
        images: In `[0, 1]`, after the PixelSpec.
        structure: Structure map S of the batch.
        threshold: Of the semantic mask: S stays below it where no landmark is visible.
        normalised: Whether there is a PixelSpec.
    """
    low, high, bottom, top = torch.stack(
        [images.amin(), images.amax(), structure.amin(), structure.amax()]
    ).tolist()
    if not low >= -PIXEL_TOLERANCE or not high <= 1 + PIXEL_TOLERANCE:  # `not`, for NaN
        undone = " once `pixels` is undone" if normalised else ""
        msg = (
            f"`images` must be in [0, 1]{undone}, but got values from {low:.4g} to {high:.4g}. "
            f"{_range_fix(low, high, normalised=normalised)}"
        )
        raise ValueError(msg)
    if not (bottom == bottom and top == top):
        msg = (
            "`target` must be finite where a landmark is visible, but got NaN. Say which landmarks "
            "are visible: `(target, visible)`."
        )
        raise ValueError(msg)
    if bottom < -PIXEL_TOLERANCE or top > 1 + PIXEL_TOLERANCE:
        msg = (
            "`target` must give heatmaps in [0, 1] with peak 1, but got values from "
            f"{bottom:.4g} to {top:.4g}. Divide by the peak."
        )
        raise ValueError(msg)
    if top < threshold:
        msg = (
            "`target` must show at least one visible landmark in the batch, but the highest value "
            f"of all heatmaps is {top:.4g}. Leave such batches out; if the landmarks are there, "
            "check that they are in pixels of the picture and that heatmaps have peak 1."
        )
        raise ValueError(msg)


def _range_fix(low: float, high: float, *, normalised: bool) -> str:
    """What to do about pictures beyond [0, 1]."""
    if math.isnan(low):
        return "Look for the step that made it."
    if normalised and high > 2:
        return "For 0..255 pictures pass `adversary.pixels.from_unit(images / 255)`."
    if normalised:
        return "Build the adversary with the PixelSpec that these pictures were made with."
    if low < 0:
        return "For pictures normalised for a detector pass `pixels=PixelSpec(mean, std)`."
    if high > 255:
        return "Divide 16-bit pictures by 65535, or by the largest value that they can have."
    if high > 2:
        return "Divide 0..255 pictures by 255, others by the largest value that they can have."
    return "Look for the step that made it."


def check_error(error: Any, batch: int, *, read: bool) -> None:  # noqa: ANN401 # any task's result
    """Raise unless a task's error is `(B,)`, differentiable and, if it may be `read`, finite.

    Where gradients are disabled it need not be differentiable.
    """
    if not isinstance(error, Tensor) or error.shape != (batch,):
        msg = (
            f"the task's error must be one value per sample, ({batch},), but got "
            f"{describe(error)}. Take the mean over everything except the batch."
        )
        raise ShapeError(msg)
    if torch.is_grad_enabled() and not error.requires_grad:
        raise ValueError(CUT_OFF)
    if read and not bool(error.detach().isfinite().all()):
        msg = (
            "the detector's output must be finite, but its error on the adversarial pictures is "
            "not. Lower its learning rate or clip its gradients."
        )
        raise ValueError(msg)


def check_told(errors: Any, batch: int) -> None:  # noqa: ANN401 # that is what it checks
    """Raise unless `errors` is `(B,)` and has a graph, through which its weights will come."""
    if not isinstance(errors, Tensor) or errors.shape != (batch,):
        msg = (
            f"`errors` must be one value for each picture of the batch, ({batch},), but got "
            f"{describe(errors)}. Tell them before they are reduced to a loss."
        )
        raise ShapeError(msg)
    if not errors.requires_grad:
        msg = (
            "`errors` must carry a graph to the detector's output, but has none. Tell the errors "
            "that the loss is made from, not a detached copy."
        )
        raise ValueError(msg)

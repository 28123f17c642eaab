"""Every check of what the caller hands to the adversary: its options, then each call's inputs."""

from typing import Any

import torch
from torch import Tensor, nn

from advaug._precision import widen
from advaug._ssim import SSIM_WINDOW
from advaug.attacker import UNetAttacker
from advaug.discriminator import PatchDiscriminator
from advaug.errors import ShapeError
from advaug.functional import SEMANTIC_THRESHOLD
from advaug.tasks import LandmarkTask, describe

__all__ = [
    "check_choice",
    "check_error",
    "check_images",
    "check_not_negative",
    "check_schedule",
    "check_structure",
    "check_target_tensors",
    "check_task",
    "check_values",
]

PIXEL_TOLERANCE = 0.05  # beyond rounding, half precision and the overshoot of a bicubic resize


def check_images(images: Any, reference: Tensor) -> None:  # noqa: ANN401 # that is what it checks
    """Raise unless `images` is a batch that a network with parameter `reference` can take."""
    if not isinstance(images, Tensor):
        msg = f"`images` must be a tensor (B, 3, H, W), but got {describe(images)}."
        raise TypeError(msg)
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[0] == 0:
        msg = f"`images` must be (B, 3, H, W) with B >= 1, but got {tuple(images.shape)}."
        raise ShapeError(msg)
    if not images.is_floating_point():
        msg = (
            f"`images` must be floating point, but got {images.dtype}. "
            "For 0..255 use `images.float() / 255`."
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
    if widen(images).dtype != reference.dtype:
        msg = (
            f"`images` must fit the adversary's {reference.dtype}, but got {images.dtype}. "
            "Use `images.float()` and an adversary in float32, under autocast if you like."
        )
        raise TypeError(msg)


def check_target_tensors(target: Any, images: Tensor) -> None:  # noqa: ANN401 # any task's target
    """Raise unless every tensor of the target has the images' batch size, device and dtype."""
    for value in _tensors(target):
        if value.device != images.device:
            msg = (
                f"`target` must be on the device of `images`, {images.device}, but got "
                f"{value.device}. Use `target.to(images.device)`."
            )
            raise ValueError(msg)
        # A list may hold a target for each picture.
        whole = not isinstance(target, list)
        if whole and (value.ndim == 0 or value.shape[0] != images.shape[0]):
            msg = (
                f"`target` must have the batch size of `images`, {images.shape[0]}, but got "
                f"{tuple(value.shape)}."
            )
            raise ShapeError(msg)
        if value.dtype == torch.float64 != images.dtype:
            msg = (
                f"`target` must not be wider than the {images.dtype} of `images`, but got "
                f"{value.dtype}. Use `target.float()`."
            )
            raise TypeError(msg)


def _tensors(value: Any) -> list[Tensor]:  # noqa: ANN401 # any nesting
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in _tensors(part)]
    return []


def check_values(images: Tensor, structure: Tensor) -> None:
    """Raise where pictures are not in `[0, 1]` or no landmark is to be seen.

    Reads the values back from the device: one synchronisation.

    Args:
        images: In `[0, 1]`, after the PixelSpec.
        structure: Structure map S of the batch.
    """
    low, high, bottom, top = torch.stack(
        [images.amin(), images.amax(), structure.amin(), structure.amax()]
    ).tolist()
    if not low >= -PIXEL_TOLERANCE or not high <= 1 + PIXEL_TOLERANCE:  # `not`, for NaN
        fix = "Look for the step that made it."
        if high > 2 and low >= 0:
            fix = "Divide 0..255 pictures by 255."
        elif low < 0:
            fix = "For pictures normalised for a detector pass `pixels=PixelSpec(mean, std)`."
        msg = f"`images` must be in [0, 1], but got values from {low:.4g} to {high:.4g}. {fix}"
        raise ValueError(msg)
    if not (bottom == bottom and top == top):
        msg = "`target` must be finite where a landmark is visible, but got NaN."
        raise ValueError(msg)
    if bottom < -PIXEL_TOLERANCE or top > 1 + PIXEL_TOLERANCE:
        msg = (
            "`target` must give heatmaps in [0, 1] with peak 1, but got values from "
            f"{bottom:.4g} to {top:.4g}. Divide by the peak."
        )
        raise ValueError(msg)
    if top < SEMANTIC_THRESHOLD:
        msg = (
            "`target` must show at least one visible landmark in the batch, but the highest value "
            f"of all heatmaps is {top:.4g}. Leave such batches out; if the landmarks are there, "
            "check that they are in pixels of the picture and that heatmaps have peak 1."
        )
        raise ValueError(msg)


def check_error(error: Any, batch: int, *, read: bool) -> None:  # noqa: ANN401 # any task's result
    """Raise unless a task's error is `(B,)`, differentiable and, if it may be `read`, finite.

    Where gradients are disabled it need not be differentiable.
    """
    if not isinstance(error, Tensor) or error.shape != (batch,):
        msg = (
            f"the task's error must be one value per sample, ({batch},), but got {describe(error)}."
        )
        raise ShapeError(msg)
    if torch.is_grad_enabled() and not error.requires_grad:
        msg = (
            "the detector's output must carry a graph to its input, but its error has none. Do "
            "not run the detector under `no_grad`, and do not detach its output."
        )
        raise ValueError(msg)
    if read and not bool(error.detach().isfinite().all()):
        msg = (
            "the detector's output must be finite, but its error on the adversarial pictures is "
            "not. Lower its learning rate or clip its gradients."
        )
        raise ValueError(msg)


def check_task(task: object) -> None:
    """Raise unless an object has the two methods of a task."""
    if not isinstance(task, LandmarkTask):
        msg = (
            "`task` must have the methods error(output, target) and landmark_heatmaps(target, "
            f"size), but got {describe(task)}. Pass HeatmapTask() or CoordinateTask()."
        )
        raise TypeError(msg)


def check_not_negative(**options: object) -> None:
    """Raise on a number that is negative or NaN, and on anything else but modules, words, None."""
    for name, value in options.items():
        if isinstance(value, int | float) and not value >= 0:
            msg = f"`{name}` must not be negative, but got {value}."
            raise ValueError(msg)
        if name == "reconstruction_weight" and isinstance(value, str):
            msg = (
                f"`{name}` must be a number or a ReconstructionController, but got {value!r}. "
                "Leave it out for the default controller."
            )
            raise TypeError(msg)


def check_schedule(
    mode: str,
    transform: object,
    attacker_every: int,
    discriminator_every: int,
    adversarial_fraction: float,
) -> None:
    """Raise where the ways to save time are out of range or exclude each other."""
    if transform is not None and mode in ("shared", "fused"):
        msg = (
            f"`mode` must be 'alternating' or 'auto' with a `transform`, after which attack and "
            f"defence see different pictures, but got {mode!r}. Leave one of the two out."
        )
        raise ValueError(msg)
    every = {"attacker_every": attacker_every, "discriminator_every": discriminator_every}
    for name, value in every.items():
        if not isinstance(value, int) or value < 1:
            msg = f"`{name}` must be a whole number of steps from 1, but got {value!r}."
            raise ValueError(msg)
    if not 0 < adversarial_fraction <= 1:
        msg = (
            f"`adversarial_fraction` must be above 0 and at most 1, but got {adversarial_fraction}."
            " For a plain training leave the adversary out."
        )
        raise ValueError(msg)


def check_structure(
    name: str, network: nn.Module | None, told: bool, structure: bool | str
) -> None:
    """Raise where one of our networks was built to take S and will not get it, or the reverse."""
    ours = isinstance(network, UNetAttacker | PatchDiscriminator)
    if ours and network.structure != told:
        msg = (
            f"`{name}` must be built with `structure={told}` for an adversary with "
            f"`structure={structure!r}`, but has `structure={network.structure}`. Change either."
        )
        raise ValueError(msg)


def check_choice(name: str, value: str, choices: tuple[str, ...], more: str = "") -> None:
    """Raise on an unknown word, naming the known ones."""
    if value not in choices:
        msg = f"`{name}` must be one of {choices}{more}, but got {value!r}."
        raise ValueError(msg)

"""A detector to be measured, from any source: our weights, a user's function, an ONNX file.

In every case it becomes a module, a way to read its output, and a description of its pictures.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advaug.base.checks import check_choice, describe
from advaug.base.user_code import load_object
from advaug.evaluation.evaluate import Decode
from advaug.heatmaps import decode_heatmaps
from advaug.pixels import PixelSpec

__all__ = ["LoadedDetector", "decode_output", "digest", "load_function", "load_weights"]

UNCHANGED = PixelSpec()
READINGS = ("auto", "heatmaps", "coordinates")


@dataclass(frozen=True)
class LoadedDetector:
    """A detector and what is needed to measure it.

    Attributes:
        name: What reports call it.
        module: From pictures, normalised as `pixels` says, to whatever `decode` reads.
        decode: From the output and `(height, width)` to landmarks `(B, N, 2)` in pixels.
        pixels: How it expects its pictures.
        fingerprint: Differs between detectors whose weights differ.
        image_size: The only side of pictures that it accepts; None if it accepts several.
    """

    name: str
    module: nn.Module = field(repr=False)
    decode: Decode = field(repr=False)
    pixels: PixelSpec
    fingerprint: str
    image_size: int | None = None

    def find(self, images: Tensor) -> Tensor:
        """Landmarks `(B, N, 2)` in pixels of pictures `(B, 3, H, W)` in `[0, 1]`."""
        size = (images.shape[-2], images.shape[-1])
        return self.decode(self.module(self.pixels.from_unit(images)), size)

    def rehearse(self, image_size: int, device: torch.device | str = "cpu") -> int:
        """Try it on an empty picture, before anything long begins.

        Args:
            image_size: Side of the pictures to come.
            device: Where the module is.

        Returns:
            N, the number of its landmarks.

        Raises:
            ValueError: If it does not accept such a picture, or its output is not landmarks.
        """
        if self.image_size not in (None, image_size):
            msg = (
                f"`image_size` must be {self.image_size}, for which {self.name} was built, but got "
                f"{image_size}. Pass that one, or leave `--image-size` out."
            )
            raise ValueError(msg)
        try:
            with torch.no_grad():
                found = self.find(torch.zeros(1, 3, image_size, image_size, device=device))
        except Exception as error:  # a user's module may raise anything
            msg = (
                f"{self.name} must give landmarks for pictures of {image_size} x {image_size} "
                f"pixels, but got {type(error).__name__}: {error}. Check the image size that it "
                "was trained at, and how its output is read."
            )
            raise ValueError(msg) from error
        return _check_landmarks(found, self.name)


def decode_output(reading: str = "auto") -> Decode:
    """Return the function that reads heatmaps or coordinates from a detector's output.

    In a list of stages or steps only the last one counts.

    Args:
        reading: "heatmaps" for `(B, N, h, w)`, "coordinates" for `(B, N, 2)` in pixels of the
            picture, "auto" to tell them apart by the number of axes.

    Raises:
        ValueError: If `reading` is unknown.
    """
    check_choice("decode", reading, READINGS)

    def decode(output: Any, image_size: tuple[int, int]) -> Tensor:  # noqa: ANN401 # any detector's
        last = output if isinstance(output, Tensor) else output[-1]
        heatmaps = last.ndim == 4 if reading == "auto" else reading == "heatmaps"
        return decode_heatmaps(last, image_size=image_size) if heatmaps else last

    return decode


def load_weights(path: str | os.PathLike[str], device: torch.device | str) -> LoadedDetector:
    """Load one of the library's detectors from the file that its `save` wrote.

    Args:
        path: A safetensors file.
        device: Where to put it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file was not written by a detector's `save`.
    """
    from advaug import detectors

    path = Path(path)
    if not path.exists():
        msg = (
            f"`weights` must be a file that a detector has saved, but there is no {path}. Check it."
        )
        raise FileNotFoundError(msg)
    name = _saved_class(path)
    if name not in detectors.__all__:
        msg = (
            f"`weights` must be a file that {', '.join(sorted(detectors.__all__))} has saved, but "
            f"got {name or 'another format'} in {path}. Use `--detector` or `--onnx` for others."
        )
        raise ValueError(msg)
    module: nn.Module = getattr(detectors, name).load(path, device).eval()
    return LoadedDetector(
        f"{name} ({path.name})",
        module,
        decode_output(),
        getattr(module, "pixels", UNCHANGED),
        digest(path.read_bytes()),
        image_size=getattr(module, "fixed_size", None),
    )


def load_function(spec: str, device: torch.device | str) -> LoadedDetector:
    """Load any detector from a function without arguments.

    It returns `(module, decode)` or `(module, decode, pixels)`. `decode` is "heatmaps",
    "coordinates", or a callable from the output and `(height, width)` to landmarks `(B, N, 2)` in
    pixels. `pixels` is a `PixelSpec`, required if the module does not expect pictures in
    `[0, 1]`.

    Args:
        spec: "package.module:name". The current folder is searched first.
        device: Where to put it.

    Raises:
        ValueError: If there is no such function, or it returns something else.
    """
    module, reading, pixels = _made_parts(spec, load_object(spec, "--detector"))
    module = module.to(device).eval()
    return LoadedDetector(
        spec,
        module,
        decode_output(reading) if isinstance(reading, str) else reading,
        pixels,
        digest(*map(_as_bytes, module.state_dict().values())),
    )


def _saved_class(path: Path) -> str | None:
    """Name of the class that saved a file; None if it is not one of ours."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            words = (file.metadata() or {}).get("format", "")
    except SafetensorError:
        return None
    return words.removeprefix("advaug.").split("/")[0] or None


def _made_parts(spec: str, made: Any) -> tuple[nn.Module, str | Decode, PixelSpec]:  # noqa: ANN401
    """The module, how its output is read, and how it expects its pictures."""
    match made:
        case (nn.Module(), reading, *rest) if isinstance(reading, str) or callable(reading):
            match rest:
                case []:
                    return made[0], made[1], UNCHANGED
                case [PixelSpec() as pixels]:
                    return made[0], made[1], pixels
    msg = (
        f"`--detector` {spec} must return (module, decode) or (module, decode, PixelSpec), but "
        f'got {describe(made)}. Return, for example, `module, "heatmaps"`.'
    )
    raise ValueError(msg)


def digest(*parts: bytes) -> str:
    """A fingerprint of some bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _as_bytes(value: Tensor) -> bytes:
    # NumPy has no bfloat16.
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _check_landmarks(found: Any, name: str) -> int:  # noqa: ANN401 # any module's output
    """Return N, or raise unless `found` is `(1, N, 2)` and finite."""
    shaped = isinstance(found, Tensor) and found.ndim == 3 and found.shape[::2] == (1, 2)
    if not shaped:
        msg = (
            f"the output of {name} must be read as landmarks (1, N, 2), but got "
            f"{describe(found)}. Say how to read it in what a function for `--detector` returns: "
            '`(module, "heatmaps")`, `(module, "coordinates")` or `(module, decode)` with a '
            "function of yours."
        )
        raise ValueError(msg)
    if not found.isfinite().all():
        msg = (
            f"the landmarks of {name} must be finite, but got NaN or infinity for an empty "
            "picture. Check its weights, and that it is in evaluation mode."
        )
        raise ValueError(msg)
    return found.shape[1]

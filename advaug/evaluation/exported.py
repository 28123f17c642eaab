"""An exported detector: an ONNX file that onnxruntime runs."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advaug.evaluation.loaded import LoadedDetector, decode_output, digest
from advaug.pixels import PixelSpec

__all__ = ["load_onnx"]

UNCHANGED = PixelSpec()


def load_onnx(
    path: str | os.PathLike[str], device: torch.device | str, *, pixels: PixelSpec = UNCHANGED
) -> LoadedDetector:
    """Load an exported detector. Requires onnxruntime, which the extra `onnx` installs.

    Its first input is pictures `(B, 3, H, W)`, its last output heatmaps `(B, N, h, w)` or
    coordinates `(B, N, 2)` in pixels.

    Args:
        path: An ONNX file.
        device: Where it runs if onnxruntime can use it; otherwise it runs on the CPU.
        pixels: How it expects its pictures.

    Raises:
        ImportError: If onnxruntime is missing.
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not an ONNX model, or does not accept pictures.
    """
    path = Path(path)
    data = path.read_bytes()
    module = _OnnxModule(path, torch.device(device))
    _, _, height, width = module.input_shape
    if height != width:
        msg = (
            f"`--onnx` {path} must accept square pictures, but got {height} x {width}. Export it "
            "with a square input."
        )
        raise ValueError(msg)
    return LoadedDetector(
        path.name,
        module,
        decode_output(),
        pixels,
        digest(data),
        image_size=height,
    )


class _OnnxModule(nn.Module):
    """An ONNX file that is called like the module it was exported from."""

    def __init__(self, path: Path, device: torch.device) -> None:
        super().__init__()
        self.session = _session(path, device)
        first = self.session.get_inputs()[0]
        if len(first.shape) != 4:
            msg = (
                f"`--onnx` {path} must accept pictures (B, 3, H, W), but got an input of shape "
                f"{first.shape}. Export a detector of pictures."
            )
            raise ValueError(msg)
        self.input_name: str = first.name
        # A name stands for a free dimension.
        self.input_shape = [side if isinstance(side, int) else None for side in first.shape]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return all outputs, even of a file that was exported for one batch size."""
        fixed = self.input_shape[0] or len(images)
        parts = [self._run(part, fixed) for part in images.float().cpu().split(fixed)]
        return [torch.cat(part).to(images.device) for part in zip(*parts, strict=True)]

    def _run(self, images: Tensor, size: int) -> list[Tensor]:
        count = len(images)
        filled = torch.cat([images, images.new_zeros(size - count, *images.shape[1:])])
        found = self.session.run(None, {self.input_name: filled.numpy()})
        return [torch.from_numpy(part)[:count] for part in found]


def _session(path: Path, device: torch.device) -> Any:  # noqa: ANN401 # onnxruntime is untyped
    try:
        import onnxruntime
    except ImportError as error:
        msg = (
            f"onnxruntime must be installed to run {path}, but got: {error}. Run "
            "`pip install 'advaug[onnx]'`."
        )
        raise ImportError(msg) from error
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    known = onnxruntime.get_available_providers()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers = [name for name in [*wanted, "CPUExecutionProvider"] if name in known]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has a class for each reason
        msg = (
            f"`--onnx` must be an ONNX model that onnxruntime can run, but got "
            f"{type(error).__name__} for {path}: {error}. Export it again."
        )
        raise ValueError(msg) from error

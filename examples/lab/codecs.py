"""Between a dataset's landmarks and what a kind of detector learns from and gives."""

from typing import Any, Protocol

from torch import Tensor

from advaug.heatmaps import decode_heatmaps, encode_heatmaps
from advaug.tasks import CoordinateTask, HeatmapTask, LandmarkTask

__all__ = ["Codec", "CoordinateCodec", "HeatmapCodec"]

Size = tuple[int, int]


class Codec(Protocol):
    """What the trainer and the evaluation need to know about a kind of detector."""

    task: LandmarkTask

    def encode(self, landmarks: Tensor, visible: Tensor, image_size: Size) -> Any:  # noqa: ANN401 # the task's
        """Target for the task from landmarks `(B, N, 2)` in pixels and `visible` `(B, N)`."""
        ...

    def decode(self, output: Any, image_size: Size) -> Tensor:  # noqa: ANN401 # the detector's
        """Landmarks `(B, N, 2)` in pixels from the detector's output."""
        ...


class HeatmapCodec:
    """For detectors that give heatmaps, or a list of stages of which the last one counts.

    Args:
        stride: Side of the picture over side of the heatmaps.
    """

    def __init__(self, stride: int = 1) -> None:
        self.task = HeatmapTask()
        self.stride = stride

    def encode(self, landmarks: Tensor, visible: Tensor, image_size: Size) -> tuple[Tensor, Tensor]:
        """Heatmaps `(B, N, H / stride, W / stride)` and `visible`."""
        size = (image_size[0] // self.stride, image_size[1] // self.stride)
        return encode_heatmaps(landmarks, size, image_size=image_size, visible=visible), visible

    def decode(self, output: Tensor | list[Tensor], image_size: Size) -> Tensor:
        """Landmarks `(B, N, 2)` from the last stage."""
        last = output if isinstance(output, Tensor) else output[-1]
        return decode_heatmaps(last, image_size=image_size)


class CoordinateCodec:
    """For detectors that give coordinates in pixels, or a list of steps of which the last counts.

    Args:
        task: The task, with its normaliser.
    """

    def __init__(self, task: CoordinateTask | None = None) -> None:
        self.task = task or CoordinateTask()

    def encode(self, landmarks: Tensor, visible: Tensor, image_size: Size) -> tuple[Tensor, Tensor]:
        """The landmarks themselves, and `visible`."""
        return landmarks, visible

    def decode(self, output: Tensor | list[Tensor], image_size: Size) -> Tensor:
        """Landmarks `(B, N, 2)` of the last step."""
        return output if isinstance(output, Tensor) else output[-1]

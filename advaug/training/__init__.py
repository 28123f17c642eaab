"""The trainer that the examples share. Needs the extra `examples`."""

from advaug.training.codecs import Codec, CoordinateCodec, HeatmapCodec
from advaug.training.data import Batch, InMemoryLandmarks, TrainingPictures
from advaug.training.graphs import CapturedStep
from advaug.training.streaming import StreamedLandmarks
from advaug.training.trainer import Trainer, TrainingConfig

__all__ = [
    "Batch",
    "CapturedStep",
    "Codec",
    "CoordinateCodec",
    "HeatmapCodec",
    "InMemoryLandmarks",
    "StreamedLandmarks",
    "Trainer",
    "TrainingConfig",
    "TrainingPictures",
]

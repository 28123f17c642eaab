"""The trainer that the examples share. Needs the extra `examples`."""

from advaug.training.codecs import Codec, CoordinateCodec, HeatmapCodec
from advaug.training.data import Batch, InMemoryLandmarks
from advaug.training.trainer import Trainer, TrainingConfig

__all__ = [
    "Batch",
    "Codec",
    "CoordinateCodec",
    "HeatmapCodec",
    "InMemoryLandmarks",
    "Trainer",
    "TrainingConfig",
]

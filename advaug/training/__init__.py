"""What your own trainer can use: pictures in memory or streamed, and captured steps."""

from advaug.training.graphs import CapturedStep
from advaug.training.loading import Batch, InMemoryLandmarks, TrainingPictures
from advaug.training.streaming import StreamedLandmarks

__all__ = ["Batch", "CapturedStep", "InMemoryLandmarks", "StreamedLandmarks", "TrainingPictures"]

"""Sample-adaptive adversarial training for landmark and pose detectors."""

from advaug.adversary import AdversarialBatch, SampleAdaptiveAdversary
from advaug.appearance import RandomAppearance
from advaug.attacker import UNetAttacker
from advaug.controller import ReconstructionController
from advaug.discriminator import PatchDiscriminator
from advaug.errors import DatasetError, ShapeError
from advaug.heatmaps import decode_heatmaps, encode_heatmaps
from advaug.pixels import PixelSpec
from advaug.regions import RandomRegions
from advaug.report import Health, StepLosses, StepReport
from advaug.tasks import CoordinateTask, HeatmapTask, LandmarkTask

__all__ = [
    "AdversarialBatch",
    "CoordinateTask",
    "DatasetError",
    "Health",
    "HeatmapTask",
    "LandmarkTask",
    "PatchDiscriminator",
    "PixelSpec",
    "RandomAppearance",
    "RandomRegions",
    "ReconstructionController",
    "SampleAdaptiveAdversary",
    "ShapeError",
    "StepLosses",
    "StepReport",
    "UNetAttacker",
    "decode_heatmaps",
    "encode_heatmaps",
]

__version__ = "0.1.0"

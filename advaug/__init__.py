"""Sample-adaptive adversarial training for landmark and pose detectors."""

from advaug.adversary import AdversarialBatch, SampleAdaptiveAdversary
from advaug.errors import DatasetError, ShapeError
from advaug.heatmaps import decode_heatmaps, encode_heatmaps
from advaug.networks.attacker import UNetAttacker
from advaug.networks.discriminator import PatchDiscriminator
from advaug.options import Objective, Schedule, View
from advaug.pixels import PixelSpec
from advaug.report import Health, StepLosses, StepReport
from advaug.step.controller import ReconstructionController
from advaug.tasks import CoordinateTask, HeatmapTask, LandmarkTask
from advaug.view.appearance import RandomAppearance
from advaug.view.regions import RandomRegions

__all__ = [
    "AdversarialBatch",
    "CoordinateTask",
    "DatasetError",
    "Health",
    "HeatmapTask",
    "LandmarkTask",
    "Objective",
    "PatchDiscriminator",
    "PixelSpec",
    "RandomAppearance",
    "RandomRegions",
    "ReconstructionController",
    "SampleAdaptiveAdversary",
    "Schedule",
    "ShapeError",
    "StepLosses",
    "StepReport",
    "UNetAttacker",
    "View",
    "decode_heatmaps",
    "encode_heatmaps",
]

__version__ = "0.1.0"

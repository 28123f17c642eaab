"""What a user would pick instead of the adversary, behind the same call."""

from advaug.baselines._defence import Defence
from advaug.baselines.advmix import AdvMix, MixingNet
from advaug.baselines.augmax import AugMax
from advaug.baselines.geometry import HardestGeometry
from advaug.baselines.hardest import HardestAppearance
from advaug.baselines.pgd import PGDAdversary
from advaug.baselines.prime import PRIME
from advaug.baselines.second_copy import SecondCopy
from advaug.baselines.stability import StabilityTraining
from advaug.baselines.virtual import VirtualAdversary

__all__ = [
    "PRIME",
    "AdvMix",
    "AugMax",
    "Defence",
    "HardestAppearance",
    "HardestGeometry",
    "MixingNet",
    "PGDAdversary",
    "SecondCopy",
    "StabilityTraining",
    "VirtualAdversary",
]

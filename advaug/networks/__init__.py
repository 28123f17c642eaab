"""The adversary's networks, and the U-Net and layers that they share."""

from advaug.networks.attacker import UNetAttacker
from advaug.networks.discriminator import PatchDiscriminator
from advaug.networks.mixing import MixingAttacker

__all__ = ["MixingAttacker", "PatchDiscriminator", "UNetAttacker"]

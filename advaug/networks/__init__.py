"""The adversary's two networks, and the U-Net and layers that they share."""

from advaug.networks.attacker import UNetAttacker
from advaug.networks.discriminator import PatchDiscriminator

__all__ = ["PatchDiscriminator", "UNetAttacker"]

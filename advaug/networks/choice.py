"""The adversary's two networks: given ones, or the defaults."""

from typing import Literal

from torch import nn

from advaug.base.checks import check_choice
from advaug.networks.attacker import UNetAttacker
from advaug.networks.discriminator import PatchDiscriminator

__all__ = ["Structure", "choose_networks"]

Structure = bool | Literal["discriminator"]


def choose_networks(
    attacker: nn.Module | None,
    discriminator: nn.Module | Literal["default"] | None,
    networks: Literal["light", "paper"],
    structure: Structure,
) -> tuple[nn.Module, nn.Module | None]:
    """Attacker and discriminator as the arguments of these names ask for.

    Raises:
        ValueError: If an argument is unknown, or a network takes S where it gets none, or the
            other way round.
    """
    check_choice("networks", networks, ("light", "paper"))
    if isinstance(structure, str):
        check_choice("structure", structure, ("discriminator",), ", True or False")
    told = {"attacker": structure is True, "discriminator": bool(structure)}
    paper = networks == "paper"
    if attacker is None:
        make = UNetAttacker.paper if paper else UNetAttacker
        attacker = make(structure=told["attacker"])
    if isinstance(discriminator, str):
        check_choice("discriminator", discriminator, ("default",), ", a module or None")
        make = PatchDiscriminator.paper if paper else PatchDiscriminator
        discriminator = make(structure=told["discriminator"])
    for name, network in (("attacker", attacker), ("discriminator", discriminator)):
        _check_structure(name, network, told[name], structure)
    return attacker, discriminator


def _check_structure(
    name: str, network: nn.Module | None, told: bool, structure: bool | str
) -> None:
    """Raise where one of our networks was built to take S and will not get it, or the reverse."""
    ours = isinstance(network, UNetAttacker | PatchDiscriminator)
    if ours and network.structure != told:
        msg = (
            f"`{name}` must be built with `structure={told}` for an adversary with "
            f"`structure={structure!r}`, but has `structure={network.structure}`. Change either."
        )
        raise ValueError(msg)

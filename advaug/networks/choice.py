"""The adversary's two networks: those given, or the defaults."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from advaug.base.checks import check_choice, describe
from advaug.networks.attacker import UNetAttacker
from advaug.networks.discriminator import PatchDiscriminator
from advaug.networks.mixing import MixingAttacker

__all__ = ["Structure", "choose_networks", "seeded"]

Structure = bool | Literal["discriminator"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights from `seed`, and leave the global random state as it is."""
    before = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.default_generator.set_state(before)


def choose_networks(
    attacker: nn.Module | None,
    discriminator: nn.Module | Literal["default"] | None,
    structure: Structure,
    channels: int,
    seed: int,
) -> tuple[nn.Module, nn.Module | None]:
    """Attacker and discriminator for these arguments.

    Raises:
        TypeError, ValueError: If an argument is unknown, or one of our networks was built for
            another number of channels, or requires S and gets none, or the other way round.
    """
    _check_structure_word(structure)
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
        msg = f"`channels` must be a whole number from 1, but got {channels!r}. RGB has 3."
        raise ValueError(msg)
    told = {"attacker": structure is True, "discriminator": bool(structure)}
    with seeded(seed):
        if attacker is None:
            attacker = UNetAttacker(structure=told["attacker"], channels=channels)
        if isinstance(discriminator, str):
            check_choice("discriminator", discriminator, ("default",), ", a module or None")
            discriminator = PatchDiscriminator(structure=told["discriminator"], channels=channels)
    for name, network in (("attacker", attacker), ("discriminator", discriminator)):
        if network is not None and not isinstance(network, nn.Module):
            msg = f"`{name}` must be an nn.Module, but got {describe(network)}. Build it first."
            raise TypeError(msg)
        _check_ours(name, network, told[name], structure, channels)
    return attacker, discriminator


def _check_structure_word(structure: object) -> None:
    if isinstance(structure, str):
        check_choice("structure", structure, ("discriminator",), ", True or False")
    elif not isinstance(structure, bool):
        msg = (
            f"`structure` must be 'discriminator', True or False, but got {structure!r}. It says "
            "who is told the structure map S."
        )
        raise TypeError(msg)


def _check_ours(
    name: str, network: nn.Module | None, told: bool, structure: bool | str, channels: int
) -> None:
    """Raise where one of our networks was built for other inputs than it will get."""
    if not isinstance(network, UNetAttacker | MixingAttacker | PatchDiscriminator):
        return
    for argument, built, needed, fact in (
        ("structure", network.structure, told, f"structure={structure!r}"),
        ("channels", network.channels, channels, f"channels={channels}"),
    ):
        if built != needed:
            msg = (
                f"`{name}` must be built with `{argument}={needed}` for an adversary with "
                f"`{fact}`, but has `{argument}={built}`. Change either."
            )
            raise ValueError(msg)

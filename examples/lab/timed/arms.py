"""The ways to train that a timed study compares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch.optim import Adam

from advaug import HeatmapTask, PatchDiscriminator, SampleAdaptiveAdversary, UNetAttacker
from lab.study.own import Change
from lab.timed.settings import COMMITTEE, Settings

__all__ = ["ARMS", "Arm", "arm_of"]

ATTACKER_RATE = 1e-3  # ten times the default: runs are short
LITERAL: Mapping[str, Any] = {
    "structure": True,
    "regions": None,
    "appearance": None,
    "reconstruction_weight": 1.0,
    "adversarial_limit": None,
    "batch_norm": "shared",
    "mode": "alternating",
}

MakeAdversary = Callable[[Settings, int], SampleAdaptiveAdversary]


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        title: What the tables call it.
        own: What is done to half of the training pictures, by name; None for nothing.
        make: Builds the adversary from the settings and a seed; None for none.
        attacked: What the adversary gets: "all" pictures of the batch in a call of its own, beside
            the detector's pass over them, or the second "half", which the detector then learns
            from through the adversary only.
    """

    title: str
    own: Change | None = None
    make: MakeAdversary | None = None
    attacked: Literal["all", "half"] = "all"


def half(settings: Settings, seed: int) -> SampleAdaptiveAdversary:
    """The paper's call with the library's defaults, for half of each batch."""
    networks = {}
    if settings.attacker_width is not None:
        width = settings.attacker_width
        networks["attacker"] = UNetAttacker(base_width=width, structure=False)
        networks["discriminator"] = PatchDiscriminator(base_width=width)
    # An adversarial picture that is still whole (β = .4) counts as much as a clean one.
    return SampleAdaptiveAdversary(
        HeatmapTask(),
        **networks,
        batch_norm="shared",
        loss_weight=2.5,
        optimizer=_optimizer,
        seed=seed,
    )


def literal(settings: Settings, seed: int) -> SampleAdaptiveAdversary:
    """The paper's method to the letter."""
    if settings.attacker_width is None:
        attacker, discriminator = (
            UNetAttacker.paper(settings.image_size),
            PatchDiscriminator.paper(),
        )
    else:
        attacker = UNetAttacker(base_width=settings.attacker_width, structure=True, coarse=0)
        discriminator = PatchDiscriminator(base_width=settings.attacker_width)
    return SampleAdaptiveAdversary(
        HeatmapTask(),
        attacker=attacker,
        discriminator=discriminator,
        optimizer=_optimizer,
        seed=seed,
        **LITERAL,
    )


_optimizer = partial(Adam, lr=ATTACKER_RATE, betas=(0.5, 0.999), fused=True)

ARMS: Mapping[str, Arm] = {
    "plain": Arm("plain"),
    "appearance": Arm("half of the pictures in the random appearance", own="appearance"),
    "erasing": Arm("half of the pictures erased", own="erasing"),
    "saat-half": Arm("SAAT, the paper's call on half of each batch", make=half, attacked="half"),
    "literal": Arm("SAAT, the paper to the letter", make=literal),
}


def arm_of(name: str) -> Arm:
    """The arm of that name; the committee trains plainly."""
    return ARMS["plain" if name == COMMITTEE else name]

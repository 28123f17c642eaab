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
MakeAdversary = Callable[[Settings, int], SampleAdaptiveAdversary]


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        title: What the tables call it.
        own: What is done to half of the training pictures, by name; None for nothing.
        make: Builds the adversary from the settings and a seed; None for none.
        attacked: Where the adversary's pictures are: in the "batch" itself, which it augments; in
            the second "half" of it, which the detector then sees in the adversary's call only; or
            beside "all" of it, in a call of their own.
    """

    title: str
    own: Change | None = None
    make: MakeAdversary | None = None
    attacked: Literal["batch", "half", "all"] = "batch"


def augment(settings: Settings, seed: int) -> SampleAdaptiveAdversary:
    """The library's defaults: half of each batch comes back attacked."""
    networks = _networks(settings, structure=False)
    return SampleAdaptiveAdversary(**networks, optimizer=_optimizer, seed=seed)


def half(settings: Settings, seed: int) -> SampleAdaptiveAdversary:
    """The paper's call with the library's defaults, for half of each batch."""
    return SampleAdaptiveAdversary(
        HeatmapTask(),
        batch_norm="shared",
        loss_weight=2.5,  # a picture that is still whole (β = .4) counts as much as a clean one
        optimizer=_optimizer,
        seed=seed,
        **_networks(settings, structure=False),
    )


def literal(settings: Settings, seed: int) -> SampleAdaptiveAdversary:
    """The paper's method to the letter."""
    return SampleAdaptiveAdversary.paper(
        HeatmapTask(),
        settings.image_size,
        optimizer=_optimizer,
        seed=seed,
        **_networks(settings, structure=True),
    )


def _networks(settings: Settings, *, structure: bool) -> dict[str, Any]:
    """Narrow networks beside narrow detectors; else the library's own."""
    if settings.attacker_width is None:
        return {}
    width, coarse = settings.attacker_width, 0 if structure else 1
    return {
        "attacker": UNetAttacker(base_width=width, structure=structure, coarse=coarse),
        "discriminator": PatchDiscriminator(base_width=width),
    }


_optimizer = partial(Adam, lr=ATTACKER_RATE, betas=(0.5, 0.999), fused=True)

ARMS: Mapping[str, Arm] = {
    "plain": Arm("plain"),
    "appearance": Arm("half of the pictures in the random appearance", own="appearance"),
    "erasing": Arm("half of the pictures erased", own="erasing"),
    "saat": Arm("SAAT, half of each batch attacked", make=augment),
    "saat-half": Arm("SAAT, the paper's call on half of each batch", make=half, attacked="half"),
    "literal": Arm("SAAT, the paper to the letter", make=literal, attacked="all"),
}


def arm_of(name: str) -> Arm:
    """The arm of that name; the committee trains plainly."""
    return ARMS["plain" if name == COMMITTEE else name]

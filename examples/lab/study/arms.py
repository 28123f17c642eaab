"""The ways to train that a study compares: an arm is one entry of `ARMS`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch.optim import Adam

from advaug import (
    HeatmapTask,
    Objective,
    PatchDiscriminator,
    SampleAdaptiveAdversary,
    Schedule,
    UNetAttacker,
    View,
)
from advaug.baselines import AugMax, Defence, HardestGeometry
from advaug.networks.mixing import MixingAttacker
from advaug.step.controller import ReconstructionController
from advaug.view.appearance import RandomAppearance
from lab.study.own import Change
from lab.study.settings import COMMITTEE, Settings
from lab.study.trials import Adaptive, Average, Geometry, Growing, GrowingAppearance, MakeTrial

__all__ = ["ARMS", "Arm", "arm_of"]

ATTACKER_RATE = 1e-3  # ten times the default: runs are short
MakeAdversary = Callable[[Settings, int], SampleAdaptiveAdversary | Defence]


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        title: What it does, in the list of arms.
        own: How half of the training pictures are changed, by name; None for nothing.
        make: Builds the adversary, or another defence, from the settings and a seed; None for none.
        attacked: Which pictures the adversary gets. `"batch"`: all, and it attacks some of them by
            `augment`. `"rest"`: the second half of the batch by `augment`, while `own` changes the
            first. `"half"`: the second half, in a separate call. `"all"`: the whole batch, in a
            call beside the detector's.
        told: Whether the adversary is told how wrong the detector is on each picture.
        trial: Builds what computes the loss of a step differently; None for the usual loss.
    """

    title: str
    own: Change | None = None
    make: MakeAdversary | None = None
    attacked: Literal["batch", "rest", "half", "all"] = "batch"
    told: bool = False
    trial: MakeTrial | None = None


def augment(
    settings: Settings, seed: int, *, share: float | None = None
) -> SampleAdaptiveAdversary:
    """The library's defaults; `share` is the part of its pictures that is attacked."""
    networks = _networks(settings, structure=False)
    schedule = Schedule(share=share)
    return SampleAdaptiveAdversary(**networks, schedule=schedule, optimizer=_optimizer, seed=seed)


def mixing(settings: Settings, seed: int) -> SampleAdaptiveAdversary:
    """As `augment`, with an attacker that mixes random changes into the whole picture."""
    width = settings.attacker_width
    attacker = MixingAttacker() if width is None else MixingAttacker(base_width=width)
    networks = {**_networks(settings, structure=False), "attacker": attacker}
    view = View(regions=None)
    return SampleAdaptiveAdversary(**networks, view=view, optimizer=_optimizer, seed=seed)


def growing(settings: Settings, seed: int) -> SampleAdaptiveAdversary:
    """As `augment`, with an attack and an appearance that somebody makes stronger."""
    return SampleAdaptiveAdversary(
        objective=Objective(reconstruction_weight=ReconstructionController()),
        view=View(appearance=GrowingAppearance(RandomAppearance(clamp=False))),
        optimizer=_optimizer,
        seed=seed,
        **_networks(settings, structure=False),
    )


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


def baseline(method: Callable[..., Defence]) -> MakeAdversary:
    """A builder of one of `advaug.baselines`, whose pictures count as much as clean ones."""
    return lambda settings, seed: method(HeatmapTask(), batch_norm="shared", seed=seed)


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
    "plain": Arm("nothing is added"),
    # Changes of half of one's own pictures, which learn nothing.
    "appearance": Arm("half of the pictures in the random appearance", own="appearance"),
    "erasing": Arm("half of the pictures erased", own="erasing"),
    "prime": Arm("half of the pictures changed by PRIME", own="prime"),
    # The hardest of random changes, on half of each batch.
    "augmax": Arm("AugMax on half of each batch", make=baseline(AugMax), attacked="half"),
    "geometry": Arm(
        "the hardest of three geometries on half of each batch",
        make=baseline(HardestGeometry),
        attacked="half",
    ),
    # The method.
    "saat": Arm("SAAT, half of each batch attacked", make=augment),
    "saat-quarter": Arm(
        "SAAT, a quarter of each batch attacked", make=partial(augment, share=0.25)
    ),
    "saat-told": Arm("SAAT, told the error of each picture", make=augment, told=True),
    "saat-erasing": Arm(
        "SAAT on half of each batch, the other half erased",
        own="erasing",
        make=partial(augment, share=1.0),
        attacked="rest",
    ),
    "mixing": Arm("SAAT with an attacker that mixes random changes", make=mixing),
    "saat-half": Arm("SAAT, the paper's call on half of each batch", make=half, attacked="half"),
    "literal": Arm("SAAT, the paper to the letter", make=literal, attacked="all"),
    # Trials of attacks that do what the world does.
    "saat-geometry": Arm(
        "SAAT on half of each batch, which is moved in the way that a network chooses",
        make=partial(augment, share=1.0),
        trial=lambda detector, count, seed: Geometry(seed),
    ),
    "saat-adaptive": Arm(
        "SAAT on half of each batch, easy pictures more often than hard ones",
        make=partial(augment, share=1.0),
        trial=lambda detector, count, seed: Adaptive(count, seed),
    ),
    "saat-growing": Arm(
        "SAAT that grows from weak to full over the first half of the run",
        make=growing,
        trial=lambda detector, count, seed: Growing(),
    ),
    "saat-average": Arm(
        "as saat-half, but the attack is on an average of the detector",
        make=half,
        trial=lambda detector, count, seed: Average(detector),
    ),
}


def arm_of(name: str) -> Arm:
    """The arm of that name; the committee trains plainly."""
    return ARMS["plain" if name == COMMITTEE else name]

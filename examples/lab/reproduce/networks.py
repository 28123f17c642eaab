"""The detectors, the adversaries and the augmentations of the runs."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam

from advaug import (
    CoordinateTask,
    LandmarkTask,
    Objective,
    PatchDiscriminator,
    SampleAdaptiveAdversary,
    UNetAttacker,
)
from advaug.augment import HandcraftedAugmentation, RandomOcclusion
from advaug.augment.handcrafted import Target
from advaug.detectors import MDM, HourglassNet
from advaug.schemes import LandmarkScheme
from lab.codecs import CoordinateCodec, HeatmapCodec
from lab.reproduce.settings import Budget

__all__ = [
    "ABLATIONS",
    "CoveredAugmentation",
    "codec_of",
    "load_detector",
    "make_adversary",
    "make_detector",
]

STACKS = {"hg1": 1, "hg2": 2}


def _objective(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 # of the class
    return {"objective": replace(Objective.paper(), **fields)}


ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "beta-1": _objective(beta=1.0),
    "beta-0.5": _objective(beta=0.5),
    "beta-0.1": _objective(beta=0.1),
    "beta-0": _objective(beta=0.0),
    "lambda-1": _objective(relaxation=1.0),
    "lambda-0.5": _objective(relaxation=0.5),
    "lambda-0": _objective(relaxation=0.0),
    "beta-0-lambda-0": _objective(beta=0.0, relaxation=0.0),
    "no-S": {"structure": False},
    "no-LR": _objective(reconstruction_weight=0.0),
    "no-D": {"discriminator": None},
    "no-D-LR": {"discriminator": None, **_objective(reconstruction_weight=0.0)},
}
"""Tables 6 and 7: what each row replaces in the literal method."""


def make_detector(name: str, mean_shape: Tensor, budget: Budget) -> MDM | HourglassNet:
    """A detector with fresh weights from the global random state.

    Args:
        name: "mdm", "hg1" or "hg2".
        mean_shape: `(N, 2)` of the training pictures, in their pixels.
        budget: Decides its size.
    """
    if name == "mdm":
        side = budget.image_size
        # The pictures are crops of faces: a shape that is known in their pixels keeps its place.
        whole = (-0.5, -0.5, side - 0.5, side - 0.5)
        return MDM(mean_shape, mean_box=whole, **budget.mdm)
    return HourglassNet(len(mean_shape), STACKS[name], **budget.hourglass)


def load_detector(name: str, path: Path, num_landmarks: int) -> MDM | HourglassNet:
    """Read a detector that must be of this name and number of landmarks.

    Raises:
        ValueError: If the file holds another one.
        OSError: If it cannot be read.
    """
    detector = (MDM if name == "mdm" else HourglassNet).load(path)
    arguments = detector.arguments
    found = arguments.get("num_landmarks", len(arguments.get("mean_shape", ())))
    if found != num_landmarks:
        msg = (
            f"`--weights` must be of a detector of {num_landmarks} landmarks for these pictures, "
            f"but {path} has {found}. Give one that was trained on such pictures."
        )
        raise ValueError(msg)
    if name != "mdm" and arguments["stacks"] != STACKS[name]:
        msg = (
            f"`--weights` must be of an hourglass of {STACKS[name]} stacks for {name}, but {path} "
            f"has {arguments['stacks']}. Name the row that it belongs to."
        )
        raise ValueError(msg)
    return detector


def codec_of(
    detector: MDM | HourglassNet, scheme: LandmarkScheme
) -> HeatmapCodec | CoordinateCodec:
    """What the detector learns from and gives."""
    if isinstance(detector, MDM):
        return CoordinateCodec(CoordinateTask(normalizer=scheme.eye_corners or "box"))
    return HeatmapCodec(detector.arguments["out_stride"])


def make_adversary(
    way: str, task: LandmarkTask, budget: Budget, seed: int
) -> SampleAdaptiveAdversary | None:
    """The adversary of a way to train: None, the library's own, the literal one or an ablation."""
    if way == "plain":
        return None
    optimizer = partial(Adam, lr=budget.adversary_rate, betas=(0.5, 0.999))
    common: dict[str, Any] = {"optimizer": optimizer, "seed": seed}
    if way == "augment":
        return SampleAdaptiveAdversary(task, **common, **_narrow(budget, seed, literal=False))
    changes = ABLATIONS.get(way, {})
    told = changes.get("structure", True)
    narrow = _narrow(budget, seed, literal=True, structure=told)
    return SampleAdaptiveAdversary.paper(task, budget.image_size, **common, **{**narrow, **changes})


def _narrow(budget: Budget, seed: int, *, literal: bool, structure: bool = True) -> dict[str, Any]:
    """Networks as narrow as the detectors, for budgets that say so."""
    width = budget.attacker_width
    if width is None:
        return {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        attacker = UNetAttacker(
            budget.image_size if literal else None,
            base_width=width,
            dropout=0.5 if literal else 0.0,
            structure=structure and literal,
            coarse=0 if literal else 1,
        )
        discriminator = PatchDiscriminator(base_width=width, structure=structure)
    return {"attacker": attacker, "discriminator": discriminator}


class CoveredAugmentation(HandcraftedAugmentation):
    """The handcrafted augmentation, and then a patch of noise on half of the pictures (Table 5).

    Args:
        seed: Of both.
        options: Those of `HandcraftedAugmentation`.
    """

    def __init__(self, *, seed: int = 0, **options: Any) -> None:  # noqa: ANN401 # the base's
        super().__init__(seed=seed, **options)
        self.cover = RandomOcclusion(kinds=("noise",), probability=0.5, seed=seed)

    def forward(self, images: Tensor, target: Target) -> tuple[Tensor, Target]:
        """As there."""
        images, target = super().forward(images, target)
        return self.cover(images), target

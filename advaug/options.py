"""The adversary's options, in three groups that validate themselves."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from advaug.base.checks import check_choice, check_not_negative, describe
from advaug.step.controller import ReconstructionController
from advaug.view.appearance import RandomAppearance
from advaug.view.regions import RandomRegions

__all__ = ["Objective", "Schedule", "View"]

Transform = Callable[[Tensor, Any], tuple[Tensor, Any]]
Regions = Callable[[Tensor], Tensor]
Appearance = Callable[[Tensor], Tensor]
MODES = ("auto", "alternating", "shared", "fused")


@dataclass(frozen=True)
class Objective:
    """What the attacker learns, Eq. 3 to 7, and how far its pictures are trusted, Eq. 9.

    Attributes:
        relaxation: λ of Eq. 3, in units of the error.
        beta: `"adaptive"` (Eq. 9), `"semantic"` (Eq. 9 with the SSIM of the semantic regions only),
            or a constant (Table 6).
        reconstruction_weight: Weight of L_R in Eq. 7: a number, 0 for none (Table 7, "w/o L_R"),
            or a controller; None for a `ReconstructionController()` with its defaults.
        adversarial_weight: Weight of L_A in Eq. 7.
        adversarial_limit: How hard L_A may pull at each I_adv, relative to L_F. Without a limit L_A
            drowns L_F while the detector is weak, and the attacker learns to do nothing. None
            removes the limit (the literal paper).
        adversarial_form: `"non_saturating"`, or `"minimax"` for the literal Eq. 4.

    Raises:
        ValueError, TypeError: If a value is unknown or out of its range.
    """

    relaxation: float = 0.1
    beta: Literal["adaptive", "semantic"] | float = "adaptive"
    reconstruction_weight: float | ReconstructionController | None = None
    adversarial_weight: float = 1.0
    adversarial_limit: float | None = 0.5
    adversarial_form: Literal["non_saturating", "minimax"] = "non_saturating"

    def __post_init__(self) -> None:
        """Raise if a value is unknown or out of its range."""
        check_choice("adversarial_form", self.adversarial_form, ("non_saturating", "minimax"))
        if isinstance(self.beta, str):
            check_choice("beta", self.beta, ("adaptive", "semantic"), " or a number")
        weight = self.reconstruction_weight
        if not isinstance(weight, int | float | ReconstructionController | None):
            msg = (
                "`reconstruction_weight` must be a number or a ReconstructionController, but got "
                f"{describe(weight)}. Leave it out for the default controller."
            )
            raise TypeError(msg)
        check_not_negative(
            relaxation=self.relaxation,
            beta=self.beta,
            reconstruction_weight=weight,
            adversarial_weight=self.adversarial_weight,
            adversarial_limit=self.adversarial_limit,
        )

    @classmethod
    def paper(cls) -> "Objective":
        """The literal Eq. 3 to 9: every weight is 1, and nothing is limited or controlled."""
        return cls(reconstruction_weight=1.0, adversarial_limit=None, adversarial_form="minimax")


@dataclass(frozen=True)
class View:
    """Where the attacker may draw, and how the detector sees what it drew.

    Attributes:
        regions: A callable from pictures I to a map `(B, 1, H, W)` in `[0, 1]` that multiplies the
            perturbation; `"random"` for `RandomRegions()`; None for the whole picture (the paper).
        appearance: A differentiable callable from pictures in about `[0, 1]` to pictures of the
            same shape, through which the detector sees I_adv; `"random"` for
            `RandomAppearance(clamp=False)`; None for I_adv itself (the paper).
        transform: Handcrafted transform of the adversarial pictures and their target, applied after
            β is known: a callable `(images, target) -> (images, target)`. Only the paper's call
            uses it, and only in mode `"alternating"`, because attack and defence then see different
            pictures.

    Raises:
        ValueError, TypeError: If a value is neither a callable nor a known word.
    """

    regions: Regions | Literal["random"] | None = "random"
    appearance: Appearance | Literal["random"] | None = "random"
    transform: Transform | None = None

    def __post_init__(self) -> None:
        """Replace words by what they stand for, and raise if a value is invalid."""
        kinds = {"regions": RandomRegions, "appearance": RandomAppearance}
        for name, make in kinds.items():
            value = getattr(self, name)
            if isinstance(value, str):
                check_choice(name, value, ("random",), ", a callable or None")
                made = make() if name == "regions" else RandomAppearance(clamp=False)
                object.__setattr__(self, name, made)
            elif value is not None and not callable(value):
                fix = "Leave it out for the default."
                if name == "regions" and _count(value):
                    fix = f"For {value} regions use `RandomRegions({value})`."
                msg = f"`{name}` must be 'random', a callable or None, but got {value!r}. {fix}"
                raise TypeError(msg)
        if self.transform is not None and not callable(self.transform):
            msg = (
                "`transform` must be a callable (images, target) -> (images, target) or None, but "
                f"got {describe(self.transform)}. Leave it out for none."
            )
            raise TypeError(msg)

    @classmethod
    def paper(cls) -> "View":
        """The literal Eq. 2: the whole picture, which the detector sees as it is."""
        return cls(regions=None, appearance=None)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Schedule:
    """Which pictures are attacked, and who learns when.

    Attributes:
        mode: How the paper's call runs the detector: `"alternating"` (the paper), `"shared"` or
            `"fused"`, which give the same gradients from fewer passes; see `advaug.step.modes`.
            `"auto"` picks the cheapest that is exact for the detector of each call.
        attacker_every: The attacker learns in every n-th call only.
        discriminator_every: The discriminator learns in every n-th call only; None for whenever the
            attacker does.
        share: Part of each batch that is attacked. None means half in `augment`, where an attacked
            picture replaces the clean one, and all in the paper's call, where both are used.

    Raises:
        ValueError: If a value is unknown or out of its range.
    """

    mode: Literal["auto", "alternating", "shared", "fused"] = "auto"
    attacker_every: int = 1
    discriminator_every: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        """Raise if a value is unknown or out of its range."""
        check_choice("mode", self.mode, MODES)
        for name in ("attacker_every", "discriminator_every"):
            value = getattr(self, name)
            if value is None and name == "discriminator_every":
                continue
            if value is None or not _count(value) or value < 1:
                msg = f"`{name}` must be a whole number of steps from 1, but got {value!r}."
                raise ValueError(msg)
        if self.share is not None and not (math.isfinite(self.share) and 0 < self.share <= 1):
            msg = (
                f"`share` must be above 0 and at most 1, but got {self.share}. For plain training "
                "leave the adversary out."
            )
            raise ValueError(msg)

    @classmethod
    def paper(cls) -> "Schedule":
        """The paper's order: attack, then defend, on the whole of each batch."""
        return cls(mode="alternating", share=1.0)

"""Attacks that are tried: each makes the loss of a step in its own way.

They are not in the library. What pays moves there; the guide to studies says what came out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from advaug.augment._geometry import inside
from advaug.base.precision import widen
from advaug.networks.choice import seeded
from advaug.step.loan import private_randomness
from lab.codecs import HeatmapCodec
from lab.study.average import averaged
from lab.study.warp import NUMBERS, warp_of

__all__ = ["Adaptive", "Average", "Geometry", "Growing", "MakeTrial", "Step", "Trial"]

MakeTrial = Callable[[nn.Module, int, int], "Trial"]
"""From the detector, the number of training pictures and a seed."""

FARTHEST, CLOSEST = 0.9, 0.1  # how often the easiest and the hardest pictures are attacked
FOLLOW = 0.5  # of a picture's running error, for each time that it is seen
WEAK, FULL = 0.99, 0.9  # similarity that the attack is held to
DECAY = 0.99  # of the average that is attacked
GEOMETRY_RATE = 1e-3


@dataclass(frozen=True)
class Step:
    """What a trial makes its loss from.

    Attributes:
        images: `(B, 3, H, W)`, after the augmentation.
        landmarks: `(B, N, 2)`.
        visible: `(B, N)` bool.
        numbers: Which training pictures these are, `(B,)`.
        progress: Part of the run that is behind, in `[0, 1)`.
        detector: That learns.
        adversary: The arm's.
        codec: The detector's.
    """

    images: Tensor
    landmarks: Tensor
    visible: Tensor
    numbers: Tensor
    progress: float
    detector: nn.Module
    adversary: Any
    codec: HeatmapCodec

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` of the pictures."""
        return self.images.shape[-2], self.images.shape[-1]

    def errors(self, images: Tensor, landmarks: Tensor, visible: Tensor) -> Tensor:
        """Of the detector on pictures, `(B,)`."""
        target = self.codec.encode(landmarks, visible, self.size)
        return self.codec.task.error(self.detector(images), target)


class Trial(nn.Module):
    """Abstract: a trial says what the loss of a step is. `state_dict` has all that it remembers.

    Attributes:
        moves: Whether it moves the second half of each batch itself, in the place of the
            augmentation.
    """

    moves = False

    def loss(self, step: Step) -> Tensor:
        """What the detector learns from."""
        raise NotImplementedError

    def learned(self, detector: nn.Module) -> None:
        """Called when the backward and the detector's step are done."""


class Geometry(Trial):
    """The second half of each batch is attacked, and moved in a way that a network chooses.

    The network says for each picture where the warp's numbers should lie, and normal noise is
    added: hardness from the network, diversity from the noise. It climbs the detector's own error,
    whose gradient comes to the numbers through the warped picture and through the moved landmarks.
    """

    moves = True

    def __init__(self, seed: int) -> None:
        super().__init__()
        with seeded(seed):
            last = nn.Linear(32 * 4 * 4, NUMBERS)
            self.network = nn.Sequential(
                nn.AdaptiveAvgPool2d(16),
                nn.Conv2d(3, 16, 4, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(16, 32, 4, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Flatten(),
                last,
            )
        nn.init.zeros_(last.weight)
        self.optimizer = Adam(self.network.parameters(), lr=GEOMETRY_RATE, maximize=True)
        self.generator = torch.Generator().manual_seed(seed)

    def loss(self, step: Step) -> Tensor:
        """As there."""
        half = len(step.images) // 2
        images, landmarks, visible = (
            values[half:] for values in (step.images, step.landmarks, step.visible)
        )
        warp = warp_of(self.numbers(images), step.size)
        attacked = step.adversary.augment(images, (landmarks, visible))
        moved = warp.landmarks(landmarks.nan_to_num())  # NaN would spoil the gradient
        return step.errors(
            torch.cat([step.images[:half], warp.images(attacked)]),
            torch.cat([step.landmarks[:half], moved]),
            torch.cat([step.visible[:half], visible & inside(moved, step.size)]),
        ).mean()

    def numbers(self, images: Tensor) -> Tensor:
        """Of a warp for each picture, `(B, NUMBERS)`."""
        place = widen(self.network(images)).tanh()
        with private_randomness(self.generator, images.device):
            return (place + torch.randn_like(place)).tanh()

    def learned(self, detector: nn.Module) -> None:
        """As there."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def get_extra_state(self) -> dict[str, Any]:
        """What an exact resume needs beside the weights."""
        generator = self.generator.get_state()
        return {"optimizer": self.optimizer.state_dict(), "generator": generator}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take up where the state was taken."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())


class Adaptive(Trial):
    """Half of each batch is attacked: hard pictures rarely, easy ones often.

    A picture is as hard as the detector's running error on it, relative to the others of its batch,
    each time that it was shown without an attack.
    """

    running: Tensor

    def __init__(self, count: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("running", torch.full((count,), torch.nan))
        self.generator = torch.Generator().manual_seed(seed)

    def loss(self, step: Step) -> Tensor:
        """As there."""
        chosen = self.choose(step.numbers)
        labels = step.landmarks[chosen], step.visible[chosen]
        theirs = step.adversary.augment(step.images[chosen], labels)
        images = step.images.index_copy(0, chosen, theirs)
        errors = step.errors(images, step.landmarks, step.visible)
        attacked = torch.zeros_like(step.numbers, dtype=torch.bool)
        attacked[chosen] = step.adversary.attacked
        self.record(step.numbers, errors.detach(), attacked)
        return errors.mean()

    def chances(self, numbers: Tensor) -> Tensor:
        """How often each of these pictures should be attacked, `(B,)`: the part that is harder."""
        own, known = self.running[numbers], self.running.isfinite().sum()
        harder = (self.running > own[:, None]).sum(dim=1) / known
        return torch.where(own.isnan(), 0.5, harder).clamp(CLOSEST, FARTHEST)

    def choose(self, numbers: Tensor) -> Tensor:
        """Places in the batch of the half that is attacked, `(B // 2,)`."""
        with private_randomness(self.generator, numbers.device):
            drawn = torch.rand(len(numbers), device=numbers.device).logit()
        scores = self.chances(numbers).logit() + drawn
        return scores.argsort(descending=True)[: len(numbers) // 2]

    @torch.no_grad()
    def record(self, numbers: Tensor, errors: Tensor, attacked: Tensor) -> None:
        """Remember the errors `(B,)` of the pictures that nobody has attacked."""
        numbers, errors = numbers[~attacked], widen(errors[~attacked])
        before, now = self.running[numbers], errors / errors.mean()
        self.running[numbers] = torch.where(before.isnan(), now, before.lerp(now, FOLLOW))

    def get_extra_state(self) -> Tensor:
        """The random generator's state."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Take up where the state was taken."""
        self.generator.set_state(state.cpu())


class GrowingAppearance(nn.Module):
    """A mixture of pictures with their appearance.

    Args:
        appearance: From pictures to pictures.

    Attributes:
        strength: 0 for the pictures as they are, 1 for the appearance.
    """

    def __init__(self, appearance: nn.Module) -> None:
        super().__init__()
        self.appearance = appearance
        self.strength = 1.0

    def forward(self, images: Tensor) -> Tensor:
        """Mix."""
        return torch.lerp(images, self.appearance(images), self.strength)


class Growing(Trial):
    """As SAAT; attack and appearance grow from weak to full over the first half of the run."""

    def loss(self, step: Step) -> Tensor:
        """As there."""
        strength = min(1.0, 2 * step.progress)
        step.adversary.appearance.strength = strength
        step.adversary.reconstruction_weight.target = WEAK + (FULL - WEAK) * strength
        images = step.adversary.augment(step.images, (step.landmarks, step.visible))
        return step.errors(images, step.landmarks, step.visible).mean()


class Average(Trial):
    """The second half of each batch attacks an average of the detector, which learns from it."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.average = averaged(detector, DECAY)

    def loss(self, step: Step) -> Tensor:
        """As there."""
        half = len(step.images) // 2
        own, theirs = (
            (step.images[part], step.landmarks[part], step.visible[part])
            for part in (slice(None, half), slice(half, None))
        )
        errors, adversary = step.errors(*own), step.adversary
        target = step.codec.encode(*theirs[1:], step.size)
        attack = adversary.attack(self.average, theirs[0], target)
        defended = step.errors(attack.images, *theirs[1:])
        return errors.mean() + adversary.loss_weight * (attack.beta * defended).mean()

    def learned(self, detector: nn.Module) -> None:
        """As there."""
        self.average.update_parameters(detector)

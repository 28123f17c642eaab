"""The adversary between its steps: networks, optimizers, what is random, and its checkpoint.

Both entries to it, `advaug.step.in_batch` and `advaug.step.paper_call`, build on this. How it
learns is in `advaug.step.learning`.
"""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from advaug.base.distributed import broadcast
from advaug.networks.choice import Structure
from advaug.options import Objective, Schedule, View
from advaug.pixels import PixelSpec
from advaug.report import RunningMeans, StepReport
from advaug.step.controller import ReconstructionController
from advaug.step.home import Home
from advaug.step.lesson import Lesson
from advaug.step.quota import Quota
from advaug.step.randomness import private_randomness
from advaug.step.stepping import Stepper

__all__ = ["Due", "Learner", "MakeOptimizer", "adam"]

NO_GRADIENT = (
    "no gradient came back to the pictures of the adversary's last call, so the attacker learned "
    "nothing from it. `adversary.health()` counts such calls."
)
OURS = ("advaug.", "torch.")  # where a warning should not point
MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


class Due(NamedTuple):
    """Who learns in a step."""

    attacker: bool
    discriminator: bool


class Learner(nn.Module):
    """What both entries to the adversary share.

    Args:
        attacker: A(I, S, z).
        discriminator: D(I, S), or None.
        structure: Which network gets S.
        pixels: How the detector expects its pictures.
        objective: The weights of Eq. 3 to 9.
        view: Where the attacker may draw, and how the detector sees it.
        schedule: Who learns when.
        make_optimizer: Called once for each network.
        seed: Seed of everything random.

    Attributes:
        report: What the last step in which the attacker learned did; None before the first.
        stepper: Takes the optimizers' steps.
        quota: How many pictures `augment` has got and attacked.
    """

    def __init__(
        self,
        attacker: nn.Module,
        discriminator: nn.Module | None,
        *,
        structure: Structure,
        pixels: PixelSpec,
        objective: Objective,
        view: View,
        schedule: Schedule,
        make_optimizer: MakeOptimizer,
        seed: int,
    ) -> None:
        super().__init__()
        weight = objective.reconstruction_weight
        self.attacker = attacker
        self.discriminator = discriminator
        self.structure: Structure = structure
        self.pixels = pixels
        self.objective = objective
        self.view = view
        # Registered, so that those that are modules move with this one.
        self.regions, self.appearance = view.regions, view.appearance
        self.schedule = schedule
        self.reconstruction_weight = ReconstructionController() if weight is None else weight
        self.running_means = RunningMeans()
        self.attacker_optimizer = make_optimizer(attacker.parameters())
        self.discriminator_optimizer = (
            None if discriminator is None else make_optimizer(discriminator.parameters())
        )
        self.report: StepReport | None = None
        self.stepper = Stepper()
        self._pending: Lesson | None = None  # waits for the caller's backward
        self._unanswered = 0  # calls in a row whose pictures got no gradient
        self._generator = torch.Generator().manual_seed(seed)
        self._home = Home()
        self._calls = 0
        self.quota = Quota()
        self.register_load_state_dict_pre_hook(_check_networks)

    def leave_behind(self) -> None:
        """Stop waiting for the backward of the last call."""
        lesson, self._pending = self._pending, None
        if lesson is not None and lesson.waits:
            self._unanswered += 1
            if self._unanswered == 1:
                warnings.warn(NO_GRADIENT, stacklevel=_level_of_caller())

    def due(self) -> Due:
        """Who learns in this call."""
        if self._calls == 0:
            broadcast(self)  # all processes of a run start from the same weights
        every = self.schedule.attacker_every
        critic_every = self.schedule.discriminator_every or every
        return Due(
            attacker=self._calls % every == 0,
            discriminator=self.discriminator is not None and self._calls % critic_every == 0,
        )

    @property
    def reference(self) -> Tensor:
        """A tensor that has the adversary's device and dtype."""
        return next(self.attacker.parameters(), self.running_means.values)

    def reads(self, device: torch.device) -> bool:
        """Whether values may be read back: always on a CPU, otherwise in the first call only."""
        return device.type == "cpu" or self._calls == 0

    @contextlib.contextmanager
    def captured(self) -> Iterator[None]:
        """Inside, a call is recorded and not run, so it is not counted."""
        calls, quota = self._calls, self.quota.state_dict()
        yield
        self._calls = calls
        self.quota.load_state_dict(quota)

    @contextlib.contextmanager
    def replayed(self, device: torch.device) -> Iterator[None]:
        """Inside, a recorded call runs, with private random numbers, and is counted."""
        with private_randomness(self._generator, device):
            yield
        self._calls += 1

    def compile(self, **options: Any) -> None:  # noqa: ANN401 # torch.compile's
        """Compile attacker and discriminator in place, with `torch.compile`'s options."""
        self.attacker.compile(**options)
        if self.discriminator is not None:
            self.discriminator.compile(**options)

    def get_extra_state(self) -> dict[str, Any]:
        """What an exact resume needs besides weights and buffers."""
        discriminator = self.discriminator_optimizer
        return {
            "attacker_optimizer": self.attacker_optimizer.state_dict(),
            "discriminator_optimizer": None
            if discriminator is None
            else discriminator.state_dict(),
            "generator": self._generator.get_state(),
            "loss_scale": self.stepper.state_dict(),
            "calls": self._calls,
            "quota": self.quota.state_dict(),
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_extra_state`."""
        self.attacker_optimizer.load_state_dict(state["attacker_optimizer"])
        if self.discriminator_optimizer is not None:
            self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        self._generator.set_state(state["generator"].cpu())
        self.stepper.load_state_dict(state["loss_scale"])
        self._calls = state["calls"]
        self.quota.load_state_dict(state["quota"])


def _level_of_caller() -> int:
    """Of the first frame that is neither ours nor PyTorch's, as `warnings.warn` counts them."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(OURS):
        frame, level = frame.f_back, level + 1
    return level


def _check_networks(
    learner: nn.Module,
    state: Mapping[str, Any],
    prefix: str,
    _metadata: Any,  # noqa: ANN401 # PyTorch's
    strict: bool,
    *_reports: list[str],
) -> None:
    """Raise where a checkpoint holds other networks, before PyTorch copies those that fit."""
    for name in ("attacker", "discriminator"):
        network, start = getattr(learner, name), f"{prefix}{name}."
        ours = {} if network is None else {start + k: v for k, v in network.state_dict().items()}
        theirs = {key: value for key, value in state.items() if key.startswith(start)}
        differ = sorted(ours.keys() ^ theirs.keys()) if strict else []
        shapes = [(k, _shape(theirs[k]), _shape(ours[k])) for k in ours.keys() & theirs.keys()]
        other = sorted(facts for facts in shapes if facts[1] != facts[2])
        if differ:
            fact = f"`{differ[0]}` is only in {'it' if differ[0] in theirs else 'this one'}"
        elif other:
            fact = "`{}` is {} in it and {} here".format(*other[0])
        else:
            continue
        msg = (
            f"`state_dict` must be that of an adversary with the same networks, but {fact}. Build "
            "the adversary with the arguments of the run that saved it."
        )
        raise ValueError(msg)


def _shape(value: Any) -> tuple[int, ...]:  # noqa: ANN401 # a tensor, or a module's extra state
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def adam(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The paper's choice."""
    return Adam(parameters, lr=1e-4, betas=(0.5, 0.999), fused=True)

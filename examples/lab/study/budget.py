"""How many steps each run may take, so that all of them end in time."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Budget", "Costs", "Equal", "budget_of"]

Equal = Literal["time", "steps"]  # what all runs of a study have the same of

FINISH = 8.0  # seconds to write tables and to end
SAFETY = 0.94  # of the time that seems to be left for training
SLOWER = 1.3  # measuring beside others, against measuring by itself, when all of it is shared


@dataclass(frozen=True)
class Costs:
    """What was measured on this machine.

    Attributes:
        steps: Seconds of a step by arm, with nothing else on the device.
        picture: Seconds to measure one picture, likewise.
        build: Seconds until a run takes its first replayed step, beside the others.
        throughput: Steps that all processes together take in a second, each counted by the seconds
            that it costs by itself: 1 where sharing the device neither gains nor loses, 2 on two
            processor cores.
    """

    steps: Mapping[str, float]
    picture: float
    build: float
    throughput: float


@dataclass(frozen=True)
class Budget:
    """The plan of a study.

    Attributes:
        steps: Of a run, by arm: the same time for every arm, or the same number.
        seconds: What these cost by themselves: of each run, or of one of the dearest arm.
        training: Seconds of the whole study for training, building among them.
        measuring: Seconds of the whole study for measuring.
    """

    steps: Mapping[str, int]
    seconds: float
    training: float
    measuring: float


def budget_of(
    costs: Costs,
    *,
    runs: Sequence[str],
    processes: int,
    pictures: int,
    left: float,
    equal: Equal = "time",
) -> Budget:
    """Share out the time that is left.

    Args:
        costs: Measured.
        runs: The arms of those to be trained, in their order.
        processes: That train at the same time.
        pictures: That each run is measured on, all conditions together.
        left: Seconds until everything must have ended.
        equal: "time" for runs that cost the same time, "steps" for runs of as many steps.

    Raises:
        ValueError: If there is no time for a single step of the dearest arm.
    """
    processes = min(processes, len(runs))
    rounds = -(-len(runs) // processes)
    measuring = SLOWER * len(runs) * pictures * costs.picture / max(1.0, costs.throughput)
    training = left - FINISH - measuring
    speed = SAFETY * costs.throughput / processes  # of one process among the others
    # A run is given seconds or steps: how many of them a step is, and how long one of them lasts.
    price, length = dict(costs.steps), dict.fromkeys(costs.steps, 1.0)
    if equal == "steps":
        price, length = length, price
    whole = _last_end([length[arm] for arm in runs], processes)
    given = speed * (training - rounds * costs.build) / whole
    steps = {arm: int(given / each) for arm, each in price.items()}
    if min(steps.values()) < 1:
        more = whole * max(price.values()) / speed
        needed = more + FINISH + measuring + rounds * costs.build
        several = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        msg = (
            f"`--minutes` must leave time for {several}, but got {max(left, 0) / 60:.1f} minutes "
            f"after the timing, and a single step of each takes {needed / 60:.1f}. Give more "
            "minutes, or fewer arms or seeds."
        )
        raise ValueError(msg)
    seconds = given * max(length.values())
    return Budget(steps, seconds, training, measuring)


def _last_end(lengths: Sequence[float], processes: int) -> float:
    """When the last of some runs ends, each of which goes to whoever is free first."""
    free = [0.0] * processes
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free)

"""How many steps each run may take, so that all of them end in time."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Budget", "Costs", "budget_of"]

FINISH = 8.0  # seconds to write tables and to end
SAFETY = 0.94  # of the time that seems to be left for training
SLOWER = 1.3  # measuring beside others, against measuring alone, when all of it is shared


@dataclass(frozen=True)
class Costs:
    """What was measured on this machine.

    Attributes:
        steps: Seconds of a step by arm, with nothing else on the device.
        picture: Seconds to measure one picture, likewise.
        build: Seconds until a run takes its first replayed step, beside the others.
        throughput: Steps that all processes together take in a second, each counted by the seconds
            that it costs alone: 1 where sharing the device neither gains nor loses, 2 on two
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
        steps: Of a run, by arm: the same time for every arm.
        seconds: What these cost alone, of each run.
        training: Seconds of the whole study for training, building among them.
        measuring: Seconds of the whole study for measuring.
    """

    steps: Mapping[str, int]
    seconds: float
    training: float
    measuring: float


def budget_of(costs: Costs, *, runs: int, processes: int, pictures: int, left: float) -> Budget:
    """Share out the time that is left.

    Args:
        costs: Measured.
        runs: To be trained.
        processes: That train at the same time.
        pictures: That each run is measured on, all conditions together.
        left: Seconds until everything must have ended.

    Raises:
        ValueError: If there is no time for a single step of the dearest arm.
    """
    rounds = -(-runs // processes)
    shared = max(1.0, costs.throughput)
    measuring = SLOWER * runs * pictures * costs.picture / shared
    training = left - FINISH - measuring
    stepping = SAFETY * (training - rounds * costs.build)
    seconds = stepping / rounds * costs.throughput / min(processes, runs)
    steps = {arm: int(seconds / cost) for arm, cost in costs.steps.items()}
    if min(steps.values()) < 1:
        dearest = max(costs.steps, key=lambda arm: costs.steps[arm])
        more = rounds * min(processes, runs) * costs.steps[dearest] / (SAFETY * costs.throughput)
        needed = more + FINISH + measuring + rounds * costs.build
        msg = (
            f"`--minutes` must leave time for {runs} runs, but got {max(left, 0) / 60:.1f} minutes "
            f"after the timing, and a single step of each takes {needed / 60:.1f}. Give more "
            "minutes, or fewer arms or seeds."
        )
        raise ValueError(msg)
    return Budget(steps, seconds, training, measuring)

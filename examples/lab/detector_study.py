"""What 100 steps of SAAT do to three detectors that others wrote, on synthetic faces.

Each detector learns plainly first; from there two twins learn on with its optimizer, one plainly
and one with SAAT, on the same pictures in the same order. Printed, for every seed and over the
seeds: the NME on clean held-back faces before and after, the NME on the adversarial copies of those
faces, and how many times larger the task's error is on them than on the clean ones.

    python examples/benchmark.py detectors --output runs/detector_study.json
"""

import argparse
import copy
import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from third_party import simcc, smp_unet, vitpose
from torch import Tensor, nn

from advaug import HeatmapTask, SampleAdaptiveAdversary
from advaug.datasets import SyntheticFaces
from advaug.evaluation import nme, predict
from advaug.tasks import LandmarkTask
from advaug.training import Batch, InMemoryLandmarks


class Case(NamedTuple):
    """A detector, and what it learns from and gives."""

    make: Callable[[], nn.Module]
    task: LandmarkTask
    target: Callable[[Batch], Any]
    decode: Callable[[Any, tuple[int, int]], Tensor]


CASES = {
    "ViTPose": Case(
        vitpose.make_detector,
        HeatmapTask(output=vitpose.maps),
        vitpose.make_target,
        vitpose.decode,
    ),
    "U-Net": Case(smp_unet.make_detector, HeatmapTask(), smp_unet.make_target, smp_unet.decode),
    "SimCC": Case(
        simcc.SimCC, simcc.SimCCTask(), lambda batch: (batch.landmarks, batch.visible), simcc.decode
    ),
}
LEARNING_RATE, RATE = 1e-3, 3e-4  # of the detector; of attacker and discriminator
COLUMNS = ("start", "plain", "saat", "plain_attacked", "saat_attacked", "raised", "ssim")


class Learner(NamedTuple):
    """A detector and the optimizer that it has learned with so far."""

    detector: nn.Module
    optimizer: torch.optim.Optimizer

    @classmethod
    def new(cls, detector: nn.Module) -> "Learner":
        """Start."""
        return cls(detector, torch.optim.Adam(detector.parameters(), lr=LEARNING_RATE))


def train(
    case: Case,
    learner: Learner,
    data: InMemoryLandmarks,
    steps: Iterable[int],
    seed: int,
    adversary: SampleAdaptiveAdversary | None = None,
) -> nn.Module:
    """The plain loop, with the adversary's loss where there is one."""
    detector, optimizer = learner
    detector.train()
    for step in steps:
        batch = data.batch(step, 8, seed=seed)
        target = case.target(batch)
        loss = case.task.error(detector(batch.images), target).mean()
        if adversary is not None:
            loss = loss + adversary(detector, batch.images, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return detector.eval()


def make_adversary(task: LandmarkTask, seed: int) -> SampleAdaptiveAdversary:
    """As by default, but quicker to learn: it has 100 steps, not 200,000."""
    return SampleAdaptiveAdversary(
        task,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=RATE, betas=(0.5, 0.999)),
        seed=seed,
    )


def compare(
    case: Case, data: InMemoryLandmarks, held_back: Batch, seed: int, warm_up: int, steps: int
) -> dict[str, float]:
    """Train the twins from one start and measure them."""
    torch.manual_seed(seed)
    after = range(warm_up, warm_up + steps)
    learner = Learner.new(case.make())
    start = train(case, learner, data, range(warm_up), seed)
    # Copied together, the optimizer's parameters remain the detector's.
    twin, other = copy.deepcopy(learner), copy.deepcopy(learner)
    plain = train(case, twin, data, after, seed)
    adversary = make_adversary(case.task, seed)
    saat = train(case, other, data, after, seed, adversary)
    images, target = held_back.images, case.target(held_back)
    attack = adversary.attack(saat, images, target, update=False)

    def measure(detector: nn.Module, pictures: Tensor) -> float:
        found = predict(detector, case.decode, pictures)
        truth, shown = held_back.landmarks, held_back.visible
        return nme(found, truth, normalizer="inter_ocular", visible=shown).nanmean().item()

    def error(pictures: Tensor) -> float:
        with torch.no_grad():
            return case.task.error(saat(pictures), target).mean().item()

    return {
        "start": measure(start, images),
        "plain": measure(plain, images),
        "saat": measure(saat, images),
        "plain_attacked": measure(plain, attack.images),
        "saat_attacked": measure(saat, attack.images),
        "raised": error(attack.images) / error(images),
        "ssim": attack.ssim.mean().item(),
    }


def summarise(name: str, runs: list[dict[str, float]]) -> str:
    """One row of the table: mean and standard deviation over the seeds."""
    cells = []
    for column in COLUMNS:
        scale = 1 if column in ("raised", "ssim") else 100
        values = [scale * run[column] for run in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        cells.append(f"{statistics.mean(values):.2f} ± {spread:.2f}")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Run every detector under every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detectors", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--warm-up", type=int, default=600, help="plain steps before the twins part"
    )
    parser.add_argument("--steps", type=int, default=100, help="steps of each twin")
    parser.add_argument("--faces", type=int, default=1000, help="to train on; a tenth is held back")
    parser.add_argument("--output", type=Path, help="a json file for the numbers of every seed")
    options = parser.parse_args()
    data = InMemoryLandmarks(SyntheticFaces(options.faces, image_size=64))
    others = SyntheticFaces(max(options.faces // 10, 1), split="val", image_size=64)
    held_back = InMemoryLandmarks(others)[:]
    results: dict[str, list[dict[str, float]]] = {}
    for name in options.detectors:
        case, results[name] = CASES[name], []
        for seed in range(options.seeds):
            run = compare(case, data, held_back, seed, options.warm_up, options.steps)
            results[name].append(run)
            print(name, seed, {key: round(value, 4) for key, value in run.items()}, flush=True)
    print(f"| detector | {' | '.join(COLUMNS)} |\n|{' --- |' * (len(COLUMNS) + 1)}")
    for name, runs in results.items():
        print(summarise(name, runs))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

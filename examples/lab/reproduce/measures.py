"""From the errors of runs, or from the networks themselves, to the numbers of a table."""

import json
import statistics
import time

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from advaug.detectors import MDM, HourglassNet
from advaug.evaluation.metrics import auc, failure_rate
from lab.reproduce.networks import make_detector
from lab.reproduce.rows import Column, Ours, PaperTable
from lab.reproduce.runs import Bench
from lab.reproduce.settings import BUDGETS
from lab.reproduce.sources import FACE_68
from lab.trainer import write_json

__all__ = ["apart_of", "cell_of"]

Found = list[float] | str
SIDE = BUDGETS["paper"].image_size
EXTREMES = {"lowest": min, "highest": max}


def cell_of(bench: Bench, table: PaperTable, column: Column, ours: Ours) -> Found:
    """What a row has in a column: a number a seed, or a word."""
    if table.test is None:
        return _of_network(bench, ours.detector, column.measure)
    runs = bench.runs_of(ours)
    if column.measure in EXTREMES:
        extreme = EXTREMES[column.measure]
        return [
            extreme(_percent(found[column.subset]) for found in bench.observations(run))
            for run in runs
        ]
    errors = [bench.errors(run, table.test)[column.subset] for run in runs]
    return [_summary(found, column.measure) for found in errors]


def apart_of(bench: Bench, table: PaperTable, ours: Ours) -> dict[str, list[float]]:
    """NME on visible and occluded landmarks, a number a seed; empty if the set does not know."""
    if table.test is None or ours.watched:
        return {}
    found: dict[str, list[float]] = {}
    for run in bench.runs_of(ours):
        for part, errors in bench.errors_apart(run, table.test).items():
            for subset in dict.fromkeys(column.subset for column in table.columns):
                found.setdefault(f"{subset}, {part}", []).append(_percent(errors[subset]))
    return found


def _percent(errors: Tensor) -> float:
    return 100 * errors.nanmean().item()


def _summary(errors: Tensor, measure: str) -> float:
    if measure == "nme":
        return _percent(errors)
    if measure == "failure_rate":
        return 100 * failure_rate(errors, threshold=0.1)
    return auc(errors, threshold=0.1)


def _of_network(bench: Bench, name: str, measure: str) -> Found:
    """Of the paper's networks, whatever the budget: nothing in here is trained."""
    if measure == "sub_nets":
        return "no"
    if measure == "stacks":
        return "none" if name == "mdm" else [float(name[-1])]
    path = bench.settings.output / f"network_{name}_{bench.settings.device}.json"
    if not path.exists():
        write_json(path, _measure_network(bench, name))
    return [json.loads(path.read_text())[measure]]


@torch.no_grad()
def _measure_network(bench: Bench, name: str) -> dict[str, float]:
    """Millions of parameters, thousand millions of multiplications, pictures a second."""
    torch.manual_seed(0)
    shape = SIDE / 4 + SIDE / 2 * torch.rand(FACE_68.num_landmarks, 2)
    detector = make_detector(name, shape, BUDGETS["paper"]).eval()
    picture = torch.zeros(1, 3, SIDE, SIDE)
    with FlopCounterMode(display=False) as counter:
        detector(picture)
    device = bench.settings.device
    seconds = _seconds(detector.to(device), picture.to(device), bench.settings.budget.timings)
    return {
        "parameters": sum(p.numel() for p in detector.parameters()) / 1e6,
        "operations": counter.get_total_flops() / 2e9,  # it counts additions as well
        "rate": 1 / seconds,
    }


def _seconds(detector: MDM | HourglassNet, picture: Tensor, repeats: int) -> float:
    """Median time of one picture, from tensor to tensor, after one that warms up."""
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        detector(picture)
        if picture.is_cuda:
            torch.cuda.synchronize(picture.device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])

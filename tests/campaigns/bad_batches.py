"""Give the adversary batches that are broken, or only odd, and hold its state against a twin's.

From the folder `tests`: python -m campaigns.bad_batches --batches 300 --seed 0
"""

import argparse
import copy
import math
import random
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from campaigns.faces import table
from torch import Tensor
from toys import CoordinateToy, HeatmapToy, differences, snapshot, task_and_batch, tiny_adversary

Change = Callable[[Tensor, random.Random], Any]


def _some(tensor: Tensor, value: float, draw: random.Random) -> Tensor:
    """One value, one sample or all of them replaced."""
    changed = tensor.clone()
    way = draw.randrange(3)
    if way == 0:
        changed.view(-1)[draw.randrange(changed.numel())] = value
    elif way == 1:
        changed[draw.randrange(len(changed))] = value
    else:
        changed[:] = value
    return changed


IMAGES: dict[str, Change] = {
    "not a number": lambda x, draw: _some(x, math.nan, draw),
    "infinite": lambda x, draw: _some(x, draw.choice((math.inf, -math.inf)), draw),
    "in 0..255": lambda x, draw: 255 * x,
    "in 0..65535": lambda x, draw: 65535 * x,
    "in [-1, 1]": lambda x, draw: 2 * x - 1,
    "normalised": lambda x, draw: (x - 0.45) / 0.22,
    "bytes": lambda x, draw: (255 * x).byte(),
    "double": lambda x, draw: x.double(),
    "complex": lambda x, draw: x.to(torch.complex64),
    "channels last": lambda x, draw: x.permute(0, 2, 3, 1),
    "of another number of channels": lambda x, draw: x[:, : draw.choice((1, 2))],
    "without a batch": lambda x, draw: x[0],
    "with an axis too many": lambda x, draw: x[None],
    "empty": lambda x, draw: x[:0],
    "fewer than targets": lambda x, draw: x[:-1],
    "tiny": lambda x, draw: x[..., : draw.choice((1, 4, 9)), :],
    "of no pixels": lambda x, draw: x[..., :0],
    "an array": lambda x, draw: x.numpy(),
    "a list": lambda x, draw: list(x),
    "nothing": lambda x, draw: None,
    "black": lambda x, draw: torch.zeros_like(x),
    "white": lambda x, draw: torch.ones_like(x),
}
TARGETS: dict[str, Change] = {
    "not a number": lambda t, draw: _some(t, math.nan, draw),
    "infinite": lambda t, draw: _some(t, math.inf, draw),
    "far away": lambda t, draw: _some(t, 1e30, draw),
    "bytes": lambda t, draw: t.byte(),
    "double": lambda t, draw: t.double(),
    "without a batch": lambda t, draw: t[0],
    "cut": lambda t, draw: t[..., :1],
    "fewer landmarks": lambda t, draw: t[:, :-1],
    "no landmarks": lambda t, draw: t[:, :0],
    "fewer than pictures": lambda t, draw: t[:-1],
    "in 0..1": lambda t, draw: t / 32,
    "in 0..255": lambda t, draw: 255 * t,
    "none visible": lambda t, draw: (t, torch.zeros(t.shape[:2], dtype=torch.bool)),
    "one visible": lambda t, draw: (t, torch.eye(*t.shape[:2]).bool() & (torch.arange(3) < 1)),
    "another visible": lambda t, draw: (t, torch.ones(len(t), 7, dtype=torch.bool)),
    "visible as text": lambda t, draw: (t, "all"),
    "a triple": lambda t, draw: (t, t, t),
    "a dict": lambda t, draw: {"landmarks": t},
    "nothing": lambda t, draw: None,
    "zero": lambda t, draw: torch.zeros_like(t),
}


def one(draw: random.Random) -> tuple[str, str | None]:
    """One batch; give what became of it, and where it was broken if that is not as promised."""
    kind = draw.choice(("heatmap", "coordinate"))
    task, images, target = task_and_batch(kind, seed=draw.randrange(100))
    detector = HeatmapToy(dropout=0.0) if kind == "heatmap" else CoordinateToy(dropout=0.0)
    adversary = tiny_adversary(task, mode=draw.choice(("auto", "alternating")))
    if draw.random() < 0.5:
        adversary(detector, images, target).backward()
    twin, other = copy.deepcopy(adversary), copy.deepcopy(detector)
    part, changes = draw.choice((("pictures", IMAGES), ("targets", TARGETS)))
    name = draw.choice(list(changes))
    where = f"{part}, {name}, {kind}"
    bad_images = changes[name](images, draw) if part == "pictures" else images
    bad_target = changes[name](target, draw) if part == "targets" else target
    before = snapshot(_state(adversary, detector))
    try:
        adversary(detector, bad_images, bad_target).backward()
    except (ValueError, TypeError):
        if differences(before, _state(adversary, detector)):
            return "state that moved before a refusal", where
    except Exception as error:
        return "other exceptions", f"{where}: {type(error).__name__}: {error}"[:300]
    else:
        # The loss of the next good batch tells of every state; running means may be NaN at first.
        held = [*adversary.parameters(), *detector.state_dict().values()]
        held.append(adversary(detector, images, target).detach())
        if all(each.isfinite().all() for each in held):
            return "taken, and all is finite", None
        return "state that is poisoned", where
    if _differ((adversary, detector), (twin, other), images, target):
        return "losses that differ afterwards", where
    return "refused as promised", None


def _differ(used: tuple[Any, Any], fresh: tuple[Any, Any], images: Tensor, target: Tensor) -> bool:
    """Whether a good batch after a refused one gives something else than without it."""
    losses = []
    for adversary, detector in (used, fresh):
        torch.manual_seed(0)
        losses.append(adversary(detector, images, target).detach())
    return not torch.equal(*losses)


def _state(adversary: Any, detector: Any) -> list[Any]:
    gradients = [p.grad for p in detector.parameters()]
    return [adversary.state_dict(), detector.state_dict(), gradients, torch.get_rng_state()]


MUST_NOT = (
    "losses that differ afterwards",
    "other exceptions",
    "state that is poisoned",
    "state that moved before a refusal",
)


def campaign(batches: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Try `batches` batches; the counts of what must not happen are always there."""
    draw = random.Random(seed)
    counts = Counter(dict.fromkeys(MUST_NOT, 0))
    others: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(batches):
            result, words = one(draw)
            counts["batches"] += 1
            counts[result] += 1
            others += [words] if words else []
    return counts, others


def main() -> None:
    """Run at full size and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts, others = campaign(arguments.batches, arguments.seed)
    print(table("bad batches", counts), *others, sep="\n")


if __name__ == "__main__":
    main()

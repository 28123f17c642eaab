"""What an example is asked to do: its recipe, its settings, and the arguments that give them."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

__all__ = ["PAPER", "Experiment", "Recipe", "add_arguments", "experiment_from"]


@dataclass(frozen=True)
class Recipe:
    """How a detector is trained.

    Attributes:
        steps: Optimizer steps of each run.
        batch_size: Pictures a step.
        image_size: Side of the pictures.
        learning_rate: Of the detector.
        decay: The paper's factor every 25,000 steps, or None for a cosine to zero.
        adversary_learning_rate: Of attacker and discriminator.
        literal: Whether the adversary is the literal method, in the paper's size and order.
        adversary_sees: Which pictures the adversary gets, as in `Trainer`.
    """

    steps: int
    batch_size: int
    image_size: int
    learning_rate: float
    decay: float | None = None
    adversary_learning_rate: float = 1e-4
    literal: bool = False
    adversary_sees: Literal["batch", "augmented", "again"] = "batch"


PAPER = Recipe(
    steps=200_000,
    batch_size=8,
    image_size=256,
    learning_rate=2e-4,
    decay=0.97,
    literal=True,
    adversary_sees="augmented",
)


@dataclass(frozen=True)
class Experiment:
    """What the two runs of a comparison share.

    Attributes:
        data: Kind of the pictures, such as "synthetic".
        root: Folder of the pictures.
        recipe: How.
        seed: Of everything random.
        device: "auto", "cpu" or "cuda".
        output: Folder of the results.
        resume: Whether to go on with what the folder holds.
        arms: Which runs: "plain", "saat" or both.
        skip_broken: Whether broken files are left out.
        annotations: File of what is in the pictures, for kinds that have one.
        stream: Whether training pictures are read as they are needed, even if they fit in memory.
        workers: Processes that read pictures.
    """

    data: str
    root: Path | None
    recipe: Recipe
    seed: int
    device: str
    output: Path
    resume: bool
    arms: tuple[str, ...]
    skip_broken: bool
    annotations: Path | None = None
    stream: bool = False
    workers: int = 2


def add_arguments(
    parser: argparse.ArgumentParser, kinds: Sequence[str] = ("synthetic", "pts", "300w")
) -> None:
    """Give a parser the arguments that all examples have.

    Args:
        parser: Of the example.
        kinds: What `--data` may be, the default first.
    """
    add = parser.add_argument
    add("--data", choices=kinds, default=kinds[0])
    add("--root", type=Path, help="folder of the pictures, for all data that is not synthetic")
    add("--preset", choices=("small", "paper"), default="small", help="paper: the paper's recipe")
    add("--steps", type=int, help="optimizer steps of each run")
    add("--batch-size", type=int)
    add("--image-size", type=int)
    add("--seed", type=int, default=0)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--output", type=Path, default=Path("runs") / Path(sys.argv[0]).stem)
    add("--resume", action="store_true", help="go on with the run that --output holds")
    add("--no-saat", action="store_true", help="train only plainly")
    add("--no-compare", action="store_true", help="train only with SAAT")
    add("--skip-broken", action="store_true", help="leave broken files out instead of stopping")
    add("--stream", action="store_true", help="never keep the training pictures in memory")
    add("--workers", type=int, default=2, help="processes that read pictures")


def experiment_from(arguments: argparse.Namespace, small: Recipe) -> Experiment:
    """Settle the arguments: what is not given comes from the preset.

    Args:
        arguments: Parsed.
        small: The recipe of `--preset small`.

    Raises:
        ValueError: If arguments are out of range or do not go together.
    """
    given = {
        name: getattr(arguments, name)
        for name in ("steps", "batch_size", "image_size")
        if getattr(arguments, name) is not None
    }
    for name, value in given.items():
        if value < 1:
            msg = f"`--{name.replace('_', '-')}` must be at least 1, but got {value}."
            raise ValueError(msg)
    if arguments.data != "synthetic" and arguments.root is None:
        msg = f"`--root` must name the folder of the pictures for `--data {arguments.data}`."
        raise ValueError(msg)
    if arguments.workers < 0:
        msg = f"`--workers` must not be negative, but got {arguments.workers}."
        raise ValueError(msg)
    arms = ("saat",) if arguments.no_compare else ("plain", "saat")
    return Experiment(
        data=arguments.data,
        root=arguments.root,
        recipe=replace(PAPER if arguments.preset == "paper" else small, **given),
        seed=arguments.seed,
        device=arguments.device,
        output=arguments.output,
        resume=arguments.resume,
        arms=("plain",) if arguments.no_saat else arms,
        skip_broken=arguments.skip_broken,
        annotations=getattr(arguments, "annotations", None),
        stream=arguments.stream,
        workers=arguments.workers,
    )

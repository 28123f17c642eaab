"""What a training step costs: plainly, adversarially, and with SAAT in each of its modes.

    python examples/benchmark.py step --device cuda --precision bfloat16 --captured --markdown
    python examples/benchmark.py step --image-size 128 --threads 2 --markdown
    python examples/benchmark.py step --device cuda --precision bfloat16 --sweep
    python examples/benchmark.py step --inference --threads 1

Ratios are taken within each round of one run, in which every arm has its turn, and the median over
the rounds counts.
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

from lab.benchmarks.arms import ARMS, DTYPES, Settings
from lab.benchmarks.inference import WAYS, benchmark_inference
from lab.benchmarks.measures import Clock, device_name, write_text
from lab.benchmarks.sweep import sweep
from lab.benchmarks.table import benchmark_steps


def main() -> int:
    """Parse the arguments, measure, print, and write where that is asked for."""
    parser = _parser()
    arguments = parser.parse_args()
    try:
        _check(arguments)
        settings = _settings(arguments)
        text, results = _measure(settings, arguments)
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        parser.error(str(error))
    print(text)
    if arguments.output is not None:
        save(arguments.output, _name(arguments), text, results)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--detector", default="hg1", help="hg1 (default), hg2, mdm, vitpose or timm:NAME")
    add("--image-size", type=int, default=256, help="side of the pictures (default 256)")
    add("--batch-size", type=int, default=8, help="pictures a step (default 8)")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--precision", choices=tuple(DTYPES), default="float32", help="of autocast")
    add("--compile", action="store_true", help="compile detector, attacker and discriminator")
    add("--channels-last", action="store_true", help="lay pictures and weights out so")
    add("--threads", type=int, help="threads on a CPU (default: PyTorch's own choice)")
    add("--clock", choices=("wall", "processor"), default="wall", help="on a CPU; see the docs")
    add("--repeats", type=int, default=5, help="rounds (default 5)")
    add("--steps", type=int, default=1, help="steps of an arm in a round (default 1)")
    add("--arms", nargs="+", choices=tuple(ARMS), metavar="ARM", help=f"some of {', '.join(ARMS)}")
    add("--captured", action="store_true", help="add steps that are replayed as CUDA graphs")
    add("--sweep", action="store_true", help="time as the batch and as the side grows")
    add("--sweep-batches", type=int, nargs="+", default=[8, 16, 32, 64, 128])
    add("--sweep-sides", type=int, nargs="+", default=[128, 192, 256, 384, 512])
    add("--inference", action="store_true", help="latency and throughput of HG*1, HG*2 and MDM")
    add("--ways", nargs="+", choices=WAYS, default=WAYS, help="to run them (default: all)")
    add("--markdown", action="store_true", help="print Markdown tables")
    add("--output", type=Path, help="folder for the tables, the numbers and the plot")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    counts = ("batch_size", "repeats", "steps", "threads")
    for name in counts:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            msg = f"`--{name.replace('_', '-')}` must be at least 1, but got {value}."
            raise ValueError(msg)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        msg = "`--device cuda` needs a CUDA device, but there is none. Leave it out for the CPU."
        raise ValueError(msg)
    if arguments.clock == "processor" and (arguments.device != "cpu" or arguments.threads != 1):
        msg = (
            "`--clock processor` adds up the time of all threads, which means something for one "
            "alone. Use `--device cpu --threads 1`, or the wall clock."
        )
        raise ValueError(msg)


def _settings(arguments: argparse.Namespace) -> Settings:
    """The settings of the run; sets the number of threads and lets a GPU use its matrix units."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if arguments.device == "cuda":
        torch.backends.cudnn.benchmark = True
        # Convolutions use TF32 by default: so that float32 means one thing, products do as well.
        torch.set_float32_matmul_precision("high")
    return Settings(
        detector=arguments.detector,
        image_size=arguments.image_size,
        batch_size=arguments.batch_size,
        device=torch.device(arguments.device),
        precision=arguments.precision,
        compile=arguments.compile,
        channels_last=arguments.channels_last,
    )


def _measure(settings: Settings, arguments: argparse.Namespace) -> tuple[str, dict[str, object]]:
    clock = Clock(settings.device, arguments.clock)
    if arguments.inference:
        text, results = benchmark_inference(settings, arguments, clock)
    elif arguments.sweep:
        output = arguments.output
        picture = None if output is None else output / f"{_name(arguments)}.png"
        text, results = sweep(settings, arguments, clock, picture)
    else:
        text, results = benchmark_steps(settings, arguments, clock)
    shown = "hg1, hg2, mdm" if arguments.inference else settings.detector
    about = describe(shown, settings, clock)
    return f"{about}\n\n{text}", {"about": about, "command": sys.argv[1:], **results}


def describe(detectors: str, settings: Settings, clock: Clock) -> str:
    """What was measured where, in a line."""
    precision = settings.precision
    if settings.device.type == "cuda" and precision == "float32":
        precision = "float32 (TF32)"
    extras = [name for name in ("compile", "channels_last") if getattr(settings, name)]
    parts = (
        f"{detectors}, {settings.image_size} px, batch {settings.batch_size}",
        ", ".join([precision, *extras]),
        device_name(settings.device),
        clock.name,
        f"torch {torch.__version__}",
        f"{datetime.now(UTC):%Y-%m-%d}",
    )
    return "; ".join(parts)


def _name(arguments: argparse.Namespace) -> str:
    """A name for the files of this run."""
    kind = next((kind for kind in ("inference", "sweep") if getattr(arguments, kind)), "step")
    detector = "" if arguments.inference else f"-{arguments.detector.replace(':', '-')}"
    sizes = f"{arguments.image_size}px-batch{arguments.batch_size}"
    compiled = "-compiled" if arguments.compile else ""
    return f"{kind}{detector}-{sizes}-{arguments.device}-{arguments.precision}{compiled}"


def save(folder: Path, name: str, text: str, results: dict[str, object]) -> None:
    """Write the tables and the numbers behind them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{name}.md", text)
    write_text(folder / f"{name}.json", json.dumps(results, indent=2))


if __name__ == "__main__":
    sys.exit(main())

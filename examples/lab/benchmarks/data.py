"""Measure how many pictures one core corrupts and masks in a second of its time.

python examples/benchmark.py data --image-size 256 --markdown
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import torch

from advaug.augment import add_masks, occlude
from advaug.augment.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from advaug.datasets import SyntheticFaces

Work = Callable[[], object]


def main() -> int:
    """Parse the arguments, measure, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--image-size", type=int, default=256, help="side of the pictures (default 256)")
    add("--batch-size", type=int, default=8, help="pictures a call (default 8)")
    add("--repeats", type=int, default=5, help="rounds, of which the median counts (default 5)")
    add("--threads", type=int, default=1, help="threads of PyTorch (default 1)")
    add("--markdown", action="store_true", help="print a Markdown table")
    arguments = parser.parse_args()
    if min(arguments.batch_size, arguments.repeats, arguments.threads) < 1:
        parser.error("`--batch-size`, `--repeats` and `--threads` must be at least 1.")
    torch.set_num_threads(arguments.threads)
    try:
        works = prepare(arguments.image_size, arguments.batch_size)
    except ValueError as error:
        parser.error(str(error))
    rates = {
        name: arguments.batch_size / seconds
        for name, seconds in measure(works, arguments.repeats).items()
    }
    print(format_rates(rates, markdown=arguments.markdown))
    return 0


def prepare(side: int, batch: int) -> dict[str, Mapping[str, Work]]:
    """What is measured: for each row of the table the calls whose mean time counts."""
    faces = [SyntheticFaces(batch, split="val", image_size=side)[number] for number in range(batch)]
    images = torch.stack([face.image for face in faces])
    landmarks = torch.stack([face.landmarks for face in faces])
    seeds = torch.arange(batch)

    def corruption(kind: str, severity: int) -> Work:
        return lambda: corrupt(images, kind, severity, seeds=seeds, landmarks=landmarks)

    works: dict[str, Mapping[str, Work]] = {
        kind: {str(severity): corruption(kind, severity) for severity in SEVERITIES}
        for kind in CORRUPTIONS
    }
    works["add_masks, any style"] = {"": lambda: add_masks(images, landmarks, seeds=seeds)}
    works["occlude, any kind"] = {"": lambda: occlude(images, seeds)}
    return works


def measure(works: Mapping[str, Mapping[str, Work]], repeats: int) -> dict[str, float]:
    """Seconds of one core a call: the mean over a row's calls of their medians.

    Time of the processor, not of the clock, so that other processes hardly count. The rounds go
    through all rows in turn, so that a slow moment falls on all of them alike.
    """
    times = {(row, name): [] for row, calls in works.items() for name in calls}
    for number in range(repeats + 1):
        for row, name in times:
            start = time.process_time()
            works[row][name]()
            if number > 0:  # the first round warms up
                times[row, name].append(time.process_time() - start)
    medians = {key: statistics.median(measured) for key, measured in times.items()}
    return {
        row: statistics.mean(medians[row, name] for name in calls) for row, calls in works.items()
    }


def format_rates(rates: Mapping[str, float], *, markdown: bool) -> str:
    """A line a row, and the rate over all kinds of corruption, in pictures a second."""
    # As many pictures of every kind take the mean of the times, not of the rates.
    together = statistics.harmonic_mean([rates[kind] for kind in CORRUPTIONS])
    rows = [(name, f"{rate:.0f}") for name, rate in rates.items()]
    rows.insert(len(CORRUPTIONS), ("all kinds of corruption", f"{together:.0f}"))
    if markdown:
        rows = [("work", "pictures/s"), ("---", "---:"), *rows]
        return "\n".join(f"| {name} | {rate} |" for name, rate in rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {rate:>7}" for name, rate in rows)


if __name__ == "__main__":
    sys.exit(main())

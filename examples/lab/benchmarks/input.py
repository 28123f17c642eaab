"""Measure each part of the input path, and how fast a detector uses pictures up.

    python examples/benchmark.py input --markdown
    python examples/benchmark.py input --root FOLDER --device cuda --workers 8

Without --root the pictures are synthetic faces, saved as JPEG files of 640 px for the while.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Subset

from advaug.augment import HandcraftedAugmentation
from advaug.datasets import PtsFolder, SyntheticFaces, write_pts
from advaug.datasets.cut import Cuts, pack_cuts, resample_cuts
from advaug.detectors import HourglassNet
from advaug.schemes import FACE_68
from advaug.training import InMemoryLandmarks, StreamedLandmarks
from lab.codecs import HeatmapCodec

DRAWN_SIZE = 640
NUM_LANDMARKS = 68

Work = Callable[[], object]


def main() -> int:
    """Parse the arguments, measure, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--root", type=Path, help="folder of pictures with .pts files")
    add("--pictures", type=int, default=32, help="how many of them (default 32)")
    add("--image-size", type=int, default=256, help="side of the crops (default 256)")
    add("--batch-size", type=int, default=8, help="pictures a batch (default 8)")
    add("--workers", type=int, default=2, help="processes that read (default 2)")
    add("--repeats", type=int, default=3, help="rounds, of which the median counts (default 3)")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--no-detector", action="store_true", help="leave HG*1 out, which takes most of the time")
    add("--markdown", action="store_true", help="print a Markdown table")
    arguments = parser.parse_args()
    if min(arguments.pictures, arguments.batch_size, arguments.repeats) < 1:
        parser.error("`--pictures`, `--batch-size` and `--repeats` must be at least 1.")
    try:
        with tempfile.TemporaryDirectory() as folder:
            root = arguments.root or draw(Path(folder), arguments.pictures)
            rows = benchmark(PtsFolder(root, image_size=arguments.image_size), arguments)
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    print(format_rows(rows, markdown=arguments.markdown))
    return 0


def draw(folder: Path, count: int) -> Path:
    """Save synthetic faces as JPEG files with `.pts` files."""
    for number, (image, landmarks, _) in enumerate(
        SyntheticFaces(count, image_size=DRAWN_SIZE)[index] for index in range(count)
    ):
        pixels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        path = folder / f"face_{number:05d}.jpg"
        Image.fromarray(pixels).save(path, quality=95)
        write_pts(path.with_suffix(".pts"), landmarks.numpy())
    return folder


def benchmark(faces: PtsFolder, arguments: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Part, where it runs, and pictures a second."""
    device, batch = torch.device(arguments.device), arguments.batch_size
    chosen = range(min(arguments.pictures, len(faces)))
    part = Subset(faces, chosen)
    cuts = pack_cuts([faces.cut(chosen[index % len(chosen)]) for index in range(batch)])
    held = InMemoryLandmarks(part, device, workers=0)
    works = device_parts(cuts, held, arguments)
    streamed = StreamedLandmarks(part, device, workers=arguments.workers)

    def rate(work: Work, pictures: int, where: str) -> str:
        return f"{pictures / seconds(work, arguments.repeats, where):.3g}"

    rows = [
        (name, where, rate(work, pictures, where))
        for name, where, pictures, work in (
            ("decode and crop by PIL", "worker", len(chosen), lambda: [part[i] for i in chosen]),
            ("decode and cut", "worker", len(chosen), lambda: [faces.cut(i) for i in chosen]),
            *((name, device.type, batch, work) for name, work in works.items()),
        )
    ]
    with_workers = f"{arguments.workers} workers and {device.type}, clock"
    step = iter(range(sys.maxsize))
    streaming = rate(lambda: streamed.batch(next(step), batch), batch, "clock")
    streamed.close()
    rows.append(("`StreamedLandmarks.batch`", with_workers, streaming))
    sent = sum(part.numel() * part.element_size() for part in cuts) / batch
    rows.append(("bytes a picture to the device", "", f"{sent:,.0f}"))
    return rows


def device_parts(
    cuts: Cuts, held: InMemoryLandmarks, arguments: argparse.Namespace
) -> dict[str, Work]:
    """What the device does for one batch, and one plain training step on it."""
    side, batch, device = arguments.image_size, arguments.batch_size, arguments.device
    cuts = Cuts(*(part.to(device) for part in cuts))
    augmentation = HandcraftedAugmentation(flip_permutation=FACE_68.flip_permutation)
    codec = HeatmapCodec()
    images = resample_cuts(cuts.canvas, cuts.geometry, side)

    def encode() -> object:
        return codec.encode(cuts.landmarks, cuts.visible, (side, side))

    works: dict[str, Work] = {
        "crop of the square": lambda: resample_cuts(cuts.canvas, cuts.geometry, side),
        "handcrafted transforms": lambda: augmentation(images, (cuts.landmarks, cuts.visible)),
        "heatmaps": encode,
        "`InMemoryLandmarks.batch`": lambda: held.batch(0, batch),
    }
    if not arguments.no_detector:
        detector = HourglassNet(NUM_LANDMARKS).to(device)
        optimizer = torch.optim.Adam(detector.parameters())

        def step() -> None:
            optimizer.zero_grad()
            codec.task.error(detector(images), encode()).mean().backward()
            optimizer.step()

        works["HG*1, a plain training step"] = step
    return works


def seconds(work: Work, repeats: int, where: str) -> float:
    """Median time of a call: of the clock on a GPU and over processes, else of the processor.

    Time of the processor hardly counts what other processes do on a shared machine.
    """
    clock = time.perf_counter if where in ("cuda", "clock") else time.process_time
    times: list[float] = []
    for number in range(repeats + 1):
        start = clock()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number > 0:  # the first round warms up
            times.append(clock() - start)
    return statistics.median(times)


def format_rows(rows: list[tuple[str, str, str]], *, markdown: bool) -> str:
    """A line a row, under a heading."""
    rows = [("part", "where", "pictures/s"), *rows]
    if markdown:
        rows.insert(1, ("---", "---", "---:"))
        return "\n".join(f"| {name} | {where} | {value} |" for name, where, value in rows)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{name:{widths[0]}}  {where:{widths[1]}}  {value:>{widths[2]}}"
        for name, where, value in rows
    )


if __name__ == "__main__":
    sys.exit(main())

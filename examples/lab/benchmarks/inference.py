"""How fast detectors answer: what `benchmark.py step --inference` runs.

From pictures on the device to heatmaps or landmarks there; eager, compiled, and exported to ONNX
and run by onnxruntime on the CPU.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lab.benchmarks.arms import Settings, make_batch, make_detector
from lab.benchmarks.measures import Clock, Timing, digits, interleaved, table

NETWORKS = {"HG*1": "hg1", "HG*2": "hg2", "MDM": "mdm"}
WAYS = {"eager": "eager", "compiled": "compiled", "onnx": "ONNX on the CPU"}
PAPER_RATE = 23.3  # pictures a second, section 4 of the paper
SETTLE = 3
TOLERANCE = 1e-3  # of the largest output

Answer = Callable[[Tensor], Tensor]


def benchmark_inference(
    settings: Settings, arguments: argparse.Namespace, clock: Clock
) -> tuple[str, dict[str, object]]:
    """The table, and the numbers behind it: seconds of one picture and of a batch.

    Raises:
        RuntimeError: If an exported detector gives other numbers than the detector.
    """
    lines: list[tuple[str, ...]] = []
    results: dict[str, object] = {}
    for title, name in NETWORKS.items():
        found = _of_network(replace(settings, detector=name), arguments, clock)
        results[name] = found
        for way, (one, many) in found.items():
            rate = settings.batch_size / many
            lines.append((f"{title}, {WAYS[way]}", digits(1000 * one), digits(rate)))
    lines.append(("the paper's", "", f"{PAPER_RATE}"))
    header = ("detector", "ms, one picture", f"pictures/s, batch {settings.batch_size}")
    return table(header, lines, markdown=arguments.markdown), {"networks": results}


def _of_network(
    settings: Settings, arguments: argparse.Namespace, clock: Clock
) -> dict[str, list[float]]:
    """Median seconds of one picture and of a batch, for each way to run a detector."""
    torch.manual_seed(0)
    detector = settings.place(make_detector(settings.detector, settings.image_size)).eval()
    images, _ = make_batch(settings)
    found: dict[str, list[float]] = {way: [] for way in arguments.ways}
    enabled = settings.dtype != torch.float32
    for batch in (images[:1], images):
        # First, since it moves the detector to the CPU and back.
        exported = export(detector, batch) if "onnx" in arguments.ways else None
        with (
            torch.inference_mode(),
            torch.autocast(settings.device.type, dtype=settings.dtype, enabled=enabled),
        ):
            timings = {
                way: _timing(way, detector, exported, batch, clock) for way in arguments.ways
            }
            for _ in range(SETTLE):
                for timing in timings.values():
                    timing()
            for way, seconds in interleaved(timings, arguments.repeats).items():
                found[way].append(statistics.median(seconds))
    return found


def _timing(
    way: str, detector: nn.Module, exported: Answer | None, images: Tensor, clock: Clock
) -> Timing:
    """What answers once more in this way and gives the seconds."""
    if way == "onnx":
        assert exported is not None
        there = Clock(torch.device("cpu"), "wall") if clock.device.type == "cuda" else clock
        pictures = images.cpu()
        return lambda: there.seconds(lambda: exported(pictures))
    network = torch.compile(detector, dynamic=False) if way == "compiled" else detector
    return lambda: clock.seconds(lambda: network(images))


def export(detector: nn.Module, images: Tensor) -> Answer:
    """The detector as onnxruntime runs it on the CPU in float32, for this number of pictures.

    Raises:
        RuntimeError: If its numbers are not the detector's.
    """
    import onnxruntime

    device, images = images.device, images.cpu().contiguous()
    detector.cpu()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "detector.onnx")
        program = torch.onnx.export(detector, (images,), dynamo=True, verbose=False)
        assert program is not None
        program.save(path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def answer(pictures: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: pictures.numpy()})[-1])

    with torch.no_grad():
        check_exported(answer(images), detector(images))
    detector.to(device)
    return answer


def check_exported(found: Tensor, expected: Tensor | list[Tensor]) -> None:
    """Raise unless the last stage is the same."""
    expected = expected[-1] if isinstance(expected, list) else expected
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    if not error <= TOLERANCE:
        msg = (
            "an exported detector must give the detector's numbers, but they differ by "
            f"{error:.2g} of the largest. Use another version of the ONNX packages."
        )
        raise RuntimeError(msg)

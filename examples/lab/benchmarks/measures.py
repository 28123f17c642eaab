"""What the benchmarks measure with: time, memory, operations, and tables of them."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Read when torch is loaded: its profiler, which counts memory, talks of a GPU that is not there.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from advaug.base.files import whole_file

Work = Callable[[], object]
Timing = Callable[[], float]  # does the work once more and gives its seconds
MEBI = 2**20


class Clock:
    """Seconds that work takes on a device.

    On a GPU between two CUDA events; on a CPU by the wall clock or, which other processes of the
    machine hardly disturb but which says nothing about several threads, by the processor's.

    Args:
        device: Where the work runs.
        kind: `"wall"` or `"processor"`.
    """

    def __init__(self, device: torch.device, kind: str) -> None:
        self.device = device
        self._now = time.process_time if kind == "processor" else time.perf_counter
        self.name = "CUDA events" if device.type == "cuda" else f"{kind} clock"

    def seconds(self, work: Work, times: int = 1) -> float:
        """Mean over so many calls in a row."""
        if self.device.type == "cuda":
            return self._between_events(work, times)
        start = self._now()
        for _ in range(times):
            work()
        return (self._now() - start) / times

    @staticmethod
    def _between_events(work: Work, times: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(times):
            work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000 / times


def interleaved(timings: Mapping[str, Timing], repeats: int) -> dict[str, list[float]]:
    """Seconds of each work in so many rounds; every other round runs backwards, against drift."""
    names = list(timings)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(repeats):
        for name in names if number % 2 == 0 else reversed(names):
            seconds[name].append(timings[name]())
    return seconds


def matrix_rate(device: torch.device, dtype: torch.dtype, clock: Clock, side: int) -> float:
    """FLOP/s of a product of two square matrices: what the device can do at best."""
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = [clock.seconds(lambda: one @ other) for _ in range(7)]
    return 2 * side**3 / statistics.median(seconds[2:])


class Cost(NamedTuple):
    """What a step costs beside time.

    Attributes:
        flops: Multiplications and additions a step.
        peak: Most bytes of tensors at once, from the detector's weights to temporary buffers.
    """

    flops: float
    peak: int


def cost_of(
    make: Callable[[], Work], device: torch.device, calls: int, *, count: bool = True
) -> Cost:
    """Make the work from nothing, count what its first calls compute and how much memory it holds.

    On a GPU the peak is PyTorch's own count of what is allocated. On a CPU it is the sum of all
    that PyTorch's allocator has given and taken, as its profiler records it: unlike the resident
    set of a process it holds neither libraries nor what the C library keeps of freed memory.

    Args:
        make: Makes the work, with a detector of its own.
        device: Where it runs.
        calls: How often it is called under each of the two.
        count: False leaves the operations uncounted, NaN: compiled work hides them.
    """
    counted = []

    def run() -> None:
        work = make()
        if count:
            with _Operations() as operations:
                _repeat(work, calls)
            counted.append(operations.flops / calls)
        _repeat(work, max(calls, 2))

    gc.collect()
    peak = (_peak_on_gpu if device.type == "cuda" else _peak_on_cpu)(run)
    gc.collect()
    return Cost(counted[0] if counted else float("nan"), peak)


class _Operations(TorchDispatchMode):
    """Count by PyTorch's formulas; its own FlopCounterMode does not survive `autograd.grad`."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401 # PyTorch's
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result


def _repeat(work: Work, times: int) -> None:
    for _ in range(times):
        work()


def _peak_on_gpu(run: Work) -> int:
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() - before


def _peak_on_cpu(run: Work) -> int:
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        run()
    assert profiler.profiler is not None
    changes = [
        (event.start_ns(), event.nbytes())
        for event in profiler.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    held = peak = 0
    for _, change in sorted(changes, key=lambda change: change[0]):
        held += change
        peak = max(peak, held)
    return peak


def device_name(device: torch.device) -> str:
    """What the machine calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """Lines under a heading; all columns but the first are numbers."""
    lines = [list(header), *(list(row) for row in rows)]
    if markdown:
        lines.insert(1, ["---", *["---:"] * (len(header) - 1)])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if column == 0 else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def digits(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def write_text(path: Path, text: str) -> None:
    """Write a file that has its name only when it is whole."""
    with whole_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")

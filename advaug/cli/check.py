"""`advaug check`: what the adversary would make of a detector and a batch, before any training."""

import argparse
import copy
import gc
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from advaug.base.user_code import current_folder_first, load_object
from advaug.cli.batch import add_pixels, load_batch, pixels_of, with_flags
from advaug.cli.output import say

if TYPE_CHECKING:
    from torch import Tensor, nn

    from advaug import SampleAdaptiveAdversary

__all__ = ["add_check"]

SHOWN = 8  # pictures in the drawing
PANEL, GAP = 256, 6  # pixels: about how large one is, and between two
RED, OPACITY = (0.8, 0.0, 0.0), 0.7  # of S


def add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `advaug check`."""
    parser = commands.add_parser(
        "check",
        help="see what the adversary would see of your detector and your batch",
        description="Run two steps of `adversary.augment` with your detector and one of your "
        "batches, and say what the adversary sees, what a step costs and what would go wrong. "
        "Nothing is trained, and nothing is written but a drawing of the structure map S.",
    )
    add = parser.add_argument
    add("detector", metavar="MODULE:DETECTOR", help="an nn.Module, or a function that returns one")
    add(
        "batch",
        metavar="MODULE:BATCH",
        help="(images, target), a function that returns them, or a loader of such batches",
    )
    add("--output", type=Path, default=Path("check.png"), help="drawing (default: check.png)")
    add_pixels(parser)
    parser.set_defaults(run=_check)


@current_folder_first()  # the detector may import more when it runs
def _check(arguments: argparse.Namespace) -> None:
    from torch import nn

    from advaug import SampleAdaptiveAdversary
    from advaug.base.files import require_writable

    require_writable("--output", arguments.output.parent)  # before anything long
    detector = load_object(arguments.detector, "detector", nn.Module)
    images, target = load_batch(arguments.batch)
    channels = images.shape[-3] if hasattr(images, "shape") and images.ndim == 4 else 3
    with with_flags():
        pixels = pixels_of(arguments)
        adversary = SampleAdaptiveAdversary(channels=channels, pixels=pixels, seed=0)
        device = images.device if hasattr(images, "device") else images[0].device
        adversary.to(device)
        attack = adversary.preview(images, target, normalized=arguments.normalized)
        _describe(detector, images, attack.structure, target)
        findings = _findings(detector, adversary, images, attack.structure, target is not None)
        cost = _costs(detector, adversary, images, target, normalized=arguments.normalized)
    _say_costs(cost)
    findings += cost.findings
    _draw(adversary, images, attack.structure, arguments.output)
    say(f"drawing     {arguments.output}: S in red over the pictures; check that it fits")
    say("")
    say(
        "What would go wrong:" if findings else "Nothing that can be seen from here would go wrong."
    )
    for finding in findings:
        say(f"- {finding}")


def _describe(
    detector: "nn.Module",
    images: "Tensor",
    structure: "Tensor",
    target: Any,  # noqa: ANN401 # any form of a target
) -> None:
    count = sum(weight.numel() for weight in detector.parameters())
    say(f"detector    {type(detector).__name__}, {count:,} parameters")
    low, high = float(images.amin()), float(images.amax())
    kind = str(images.dtype).removeprefix("torch.")
    say(
        f"pictures    {len(images)} of {images.shape[1]} channels, height {images.shape[2]}, width "
        f"{images.shape[3]}; {kind} on {images.device}; values from {low:.3g} to {high:.3g}"
    )
    if target is None:
        say("landmarks   none: the attacker works without S, M and the discriminator")
        return
    seen = int((structure.amax(dim=(1, 2, 3)) >= 0.25).sum())
    share = float((structure >= 0.25).float().mean())
    say(
        f"landmarks   visible in {seen} of {len(images)} pictures; the semantic mask M covers "
        f"{share:.1%} of the pixels"
    )


def _findings(
    detector: "nn.Module",
    adversary: "SampleAdaptiveAdversary",
    images: "Tensor",
    structure: "Tensor",
    targeted: bool,
) -> list[str]:
    """What can be told without running the detector."""
    findings = []
    unit = adversary.pixels.to_unit(images)
    if float(unit.amax() - unit.amin()) < 0.2:
        findings.append(
            "The pictures use less than a fifth of the range [0, 1]. Check --mean, --std and "
            "whether they were divided by 255 twice."
        )
    empty = int((structure.amax(dim=(1, 2, 3)) < 0.25).sum())
    if targeted and empty:
        findings.append(
            f"{empty} of {len(images)} pictures show no visible landmark and are never attacked."
        )
    if targeted and float((structure >= 0.25).float().mean()) > 0.9:
        findings.append(
            "The landmarks' regions cover more than nine tenths of the pictures, so there is "
            "hardly any background. Check the units of the landmarks."
        )
    if len(images) == 1:
        findings.append("With one picture a batch, every second batch is attacked as a whole.")
    if not any(weight.requires_grad for weight in detector.parameters()):
        findings.append("No weight of the detector requires a gradient, so it cannot learn.")
    return findings


class _Costs(NamedTuple):
    """Operations and peak memory of a plain step and of one with `augment`."""

    operations: tuple[int, int]
    peaks: tuple[int, int]
    findings: list[str]


def _costs(
    detector: "nn.Module",
    adversary: "SampleAdaptiveAdversary",
    images: "Tensor",
    target: Any,  # noqa: ANN401 # any form of a target
    *,
    normalized: bool,
) -> _Costs:
    """Run a step of both kinds on a copy of the detector, with a stand-in for the loss."""
    detector = copy.deepcopy(detector).train()
    findings: list[str] = []

    def plain() -> None:
        _stand_in(detector(images.clone())).backward()
        detector.zero_grad()

    def with_augment() -> None:
        shown = adversary.augment(images, target, normalized=normalized)
        _stand_in(detector(shown)).backward()
        detector.zero_grad()

    measured = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is among the findings
        for work in (plain, with_augment):
            work()  # what is made once
            with _counted() as operations:
                work()
            measured.append((operations[0], _peak(work, images)))
        adversary.leave_behind()
    findings += adversary.health().messages
    (one, least), (two, most) = measured
    return _Costs((one, two), (least, most), findings)


def _stand_in(output: Any) -> "Tensor":  # noqa: ANN401 # whatever detectors return
    """A loss of every floating-point tensor in the output: its value plays no part in the cost."""
    import torch
    from torch.utils._pytree import tree_leaves

    found = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
    losses = [leaf.float().square().mean() for leaf in found if leaf.requires_grad]
    if not losses:
        msg = (
            "`detector` must return tensors that carry a graph, but returned "
            f"{type(output).__name__} with none. Do not detach its output or run it in `no_grad`."
        )
        raise ValueError(msg)
    return torch.stack(losses).sum()


@contextmanager
def _counted() -> Iterator[list[int]]:
    """Count multiplications and additions by PyTorch's formulas."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    total = [0]

    class Count(TorchDispatchMode):
        def __torch_dispatch__(
            self,
            func: Any,  # noqa: ANN401 # PyTorch's
            types: Any,  # noqa: ANN401 # PyTorch's
            args: Any = (),  # noqa: ANN401 # PyTorch's
            kwargs: Any = None,  # noqa: ANN401 # PyTorch's
        ) -> Any:  # noqa: ANN401 # PyTorch's
            result = func(*args, **(kwargs or {}))
            formula = flop_registry.get(func._overloadpacket)
            if formula is not None:
                total[0] += formula(*args, **(kwargs or {}), out_val=result)
            return result

    with Count():
        yield total


def _peak(work: Callable[[], None], images: "Tensor") -> int:
    """Most bytes that the step holds at once beside what was there before."""
    import torch

    gc.collect()
    if images.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    profile = torch.profiler.profile(activities=activities, profile_memory=True)
    with _silent(), profile:
        work()
    results: Any = profile.profiler
    events = results.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda change: change[0]):
        held += change
        peak = max(peak, held)
    return peak


@contextmanager
def _silent() -> Iterator[None]:
    """Keep off the terminal what PyTorch's profiler logs in C++ about itself."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _say_costs(costs: _Costs) -> None:
    plain, augmented = costs.operations
    if plain:
        say(
            f"cost        a step with `augment` computes {augmented / plain:.2f} plain steps "
            f"({augmented / 1e9:.3g} instead of {plain / 1e9:.3g} GFLOP), counted"
        )
    least, most = (peak / 2**20 for peak in costs.peaks)
    if least:
        say(f"memory      at most {most:.0f} instead of {least:.0f} MiB beside the weights")


def _draw(
    adversary: "SampleAdaptiveAdversary", images: "Tensor", structure: "Tensor", path: Path
) -> None:
    """The pictures in grey, with S over them in red, four in a row."""
    from PIL import Image
    from torch.nn.functional import interpolate

    from advaug.base.files import whole_file

    unit = adversary.pixels.to_unit(images).detach()[:SHOWN, :3]
    grey = unit.float().mean(dim=1, keepdim=True).clamp(0, 1).cpu()
    heat = OPACITY * structure[:SHOWN].float().clamp(0, 1).cpu()
    shown = grey * (1 - heat) + heat * grey.new_tensor(RED).view(1, 3, 1, 1)
    scale = max(1, round(PANEL / max(grey.shape[-2:])))
    height, width = (scale * side for side in grey.shape[-2:])
    panels = interpolate(shown, (height, width), mode="nearest").mul(255).round().byte()
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    size = (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        corner = (column * (width + GAP), row * (height + GAP))
        sheet.paste(Image.fromarray(panel.permute(1, 2, 0).contiguous().numpy()), corner)
    with whole_file(path) as temporary:
        sheet.save(temporary, format="PNG")

"""Borrow what the caller owns and give it back exactly as it was, also after an exception.

Nothing is written to and restored: buffers are replaced by copies for the time of the loan, so that
a graph which the caller built earlier still finds the tensors that it saved. `requires_grad` is
never toggled and `.grad` never touched; gradients come from `torch.autograd.grad`.
"""

import contextlib
import functools
import inspect
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from advaug.base.distributed import rank

__all__ = [
    "batch_norms",
    "borrowed",
    "modules_of",
    "private_randomness",
    "sharded",
    "unwrapped",
]

SEARCH_DEPTH = 5
Detector = Callable[..., Any]
RANK_STRIDE = 0x9E3779B97F4A7C15  # odd and far apart, so that ranks never meet in a short run


def modules_of(detector: Detector) -> list[nn.Module]:
    """The modules that a detector runs: itself, or those that a function, partial or object holds.

    Looks at closures, default arguments, bound objects, arguments of partials, containers and
    attributes, a few steps deep, which is where a callable keeps its networks.
    """
    found: list[nn.Module] = []
    seen: set[int] = set()
    pending: list[tuple[Any, int]] = [(detector, 0)]
    while pending:
        held, depth = pending.pop()
        if id(held) in seen or depth > SEARCH_DEPTH:
            continue
        seen.add(id(held))
        if isinstance(held, nn.Module):
            found.append(held)
        else:
            pending.extend((item, depth + 1) for item in _held_by(held))
    unique = {id(module): module for root in found for module in root.modules()}
    return list(unique.values())


def _held_by(item: Any) -> list[Any]:  # noqa: ANN401 # any object
    """What an object that is no module refers to."""
    if isinstance(item, functools.partial):
        return [item.func, *item.args, *item.keywords.values()]
    if inspect.ismethod(item):
        return [item.__self__, item.__func__]
    if inspect.isfunction(item):
        names = inspect.getclosurevars(item)
        defaults = [*(item.__defaults__ or ()), *(item.__kwdefaults__ or {}).values()]
        # A wrapper, such as a compiled function, keeps the wrapped one among its attributes.
        return [*names.nonlocals.values(), *names.globals.values(), *defaults, *vars(item).values()]
    if isinstance(item, list | tuple | set):
        return list(item)
    if isinstance(item, dict):
        return list(item.values())
    plain = not isinstance(item, type | torch.Tensor) and not inspect.ismodule(item)
    return list(vars(item).values()) if plain and hasattr(item, "__dict__") else []


def unwrapped(detector: Detector) -> Detector:
    """The module inside a DistributedDataParallel, whose own forward would broadcast buffers.

    Gradients are averaged all the same: its hooks sit on the parameters.
    """
    return detector.module if isinstance(detector, DistributedDataParallel) else detector


def batch_norms(modules: list[nn.Module]) -> list[_BatchNorm]:
    """Those of the modules that are BatchNorm, SyncBatchNorm included."""
    return [module for module in modules if isinstance(module, _BatchNorm)]


def sharded(modules: list[nn.Module]) -> bool:
    """Whether FSDP2 (`fully_shard`) holds the parameters; who never loads it need not."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and any(isinstance(module, fsdp.FSDPModule) for module in modules)


@contextlib.contextmanager
def borrowed(detector: Detector, *, keep_buffers: bool = False) -> Iterator[list[nn.Module]]:
    """Use a detector and leave its parameters, buffers and modes as they are.

    Args:
        detector: Any callable.
        keep_buffers: True gives it what was written to its buffers, so that BatchNorm's running
            statistics move as in any training step; not after an exception.

    Yields:
        The detector's modules.
    """
    modules = modules_of(detector)
    modes = [module.training for module in modules]
    parameters = [dict(module._parameters) for module in modules]
    buffers = [dict(module._buffers) for module in modules]
    copies: dict[int, torch.Tensor] = {}  # a buffer that two modules share stays shared
    try:
        for module, own in zip(modules, buffers, strict=True):
            for name, buffer in own.items():
                if buffer is not None:
                    copy = copies.setdefault(id(buffer), buffer.detach().clone())
                    module._buffers[name] = copy
        yield modules
        if keep_buffers:
            _hand_over(modules, buffers, copies)
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        if not sharded(modules):  # FSDP2 puts whole weights and shards in place by itself
            for module, own in zip(modules, parameters, strict=True):
                module._parameters.update(own)
        for module, own in zip(modules, buffers, strict=True):
            module._buffers.update(own)


@torch.no_grad()
def _hand_over(
    modules: list[nn.Module],
    buffers: list[dict[str, torch.Tensor | None]],
    copies: dict[int, torch.Tensor],
) -> None:
    """Write to the own buffers what the loan has written to their copies."""
    for module, own in zip(modules, buffers, strict=True):
        for name, buffer in own.items():
            held = module._buffers[name]
            if held is None or buffer is None or held is not copies[id(buffer)]:
                own[name] = held  # the module has put another tensor in its place
            else:
                # As BatchNorm writes: a graph that has saved the buffer is not told.
                buffer.data.copy_(held)


@contextlib.contextmanager
def private_randomness(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Draw everything random inside from `generator`, and leave the global random states alone.

    That is PyTorch's, NumPy's and Python's: a detector or a transform may use any of them.

    After an exception the generator, too, is as it was. While a CUDA graph is captured nothing is
    drawn, and nothing is done: who replays it does so in here.

    Args:
        generator: A generator of ours, on the CPU: its state alone decides what is drawn inside.
        device: Where the random numbers are drawn.
    """
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        yield
        return
    before = generator.get_state()
    # The processes of a run share the generator's state and differ in what they draw.
    seed = (int(torch.randint(2**62, (), generator=generator)) + rank() * RANK_STRIDE) % 2**63
    accelerator = _accelerator_generator(device)
    saved = torch.default_generator.get_state()
    saved_numpy, saved_python = np.random.get_state(), random.getstate()  # noqa: NPY002 # the global one
    saved_there = accelerator.get_state() if accelerator is not None else None
    try:
        # Not `torch.manual_seed`, which would reach every device.
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 # as above
        random.seed(seed)
        if accelerator is not None:
            accelerator.manual_seed(seed)
        yield
    except BaseException:
        generator.set_state(before)
        raise
    finally:
        torch.default_generator.set_state(saved)
        np.random.set_state(saved_numpy)  # noqa: NPY002 # as above
        random.setstate(saved_python)
        if accelerator is not None and saved_there is not None:
            accelerator.set_state(saved_there)


def _accelerator_generator(device: torch.device) -> torch.Generator | None:
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return None

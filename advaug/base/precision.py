"""Compute in float32 or better, whatever the caller's autocast says."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

__all__ = ["full_precision", "in_float16", "widen", "without_graph"]

P = ParamSpec("P")
R = TypeVar("R")


def widen(tensor: Tensor) -> Tensor:
    """Float32 for half precision; float32 and float64 stay as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def in_float16(device: torch.device) -> bool:
    """Whether autocast computes in float16 on this device, where gradients need a loss scale."""
    enabled = torch.is_autocast_enabled(device.type)
    return enabled and torch.get_autocast_dtype(device.type) == torch.float16


@contextmanager
def without_graph(device: torch.device) -> Iterator[None]:
    """No gradients, and nothing left behind for passes that need them.

    Autocast goes without its cache, in which older releases of PyTorch keep weights that carry no
    graph (pytorch#158232).
    """
    kind = device.type
    if not torch.amp.is_autocast_available(kind):  # as on the device "meta"
        with torch.no_grad():
            yield
        return
    uncached = torch.autocast(
        kind,
        dtype=torch.get_autocast_dtype(kind),
        enabled=torch.is_autocast_enabled(kind),
        cache_enabled=False,
    )
    with torch.no_grad(), uncached:
        yield


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` outside autocast, with its half-precision tensors widened to float32."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        device = tensors[0].device.type if tensors else "cpu"
        wide_args = [widen(a) if isinstance(a, Tensor) else a for a in args]
        wide_kwargs = {k: widen(a) if isinstance(a, Tensor) else a for k, a in kwargs.items()}
        # Some devices, such as "meta", have no autocast to leave. torch 2.9 cannot compile
        # this check.
        known = torch.compiler.is_compiling() or torch.amp.is_autocast_available(device)
        with torch.autocast(device, enabled=False) if known else nullcontext():
            return function(*wide_args, **wide_kwargs)  # type: ignore[reportCallIssue] # same signature, wider dtypes

    return wrapper

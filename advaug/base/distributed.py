"""Keep the attackers and discriminators of several processes the same."""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn

__all__ = [
    "apart",
    "average",
    "average_held",
    "broadcast",
    "is_running",
    "rank",
    "world_size",
    "worst",
]

RANK_STRIDE = 0x9E3779B97F4A7C15  # odd and far apart, so that ranks never meet in a short run


def world_size() -> int:
    """How many processes learn together, 1 outside `torch.distributed`."""
    return distributed.get_world_size() if is_running() else 1


def is_running() -> bool:
    """Whether this process is one of a run of `torch.distributed`, even the only one."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """This process's number, 0 outside `torch.distributed`."""
    return distributed.get_rank() if is_running() else 0


def apart(seed: int) -> int:
    """A seed for this process from one that all processes share; the first keeps it."""
    return (seed + rank() * RANK_STRIDE) % 2**63


def average(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Mean of each tensor over the processes, in one exchange; in one process, the tensors."""
    if world_size() == 1:
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    parts = (flat / world_size()).split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


@torch.no_grad()
def broadcast(module: nn.Module) -> None:
    """Give every process the parameters and buffers of the first."""
    if world_size() > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            distributed.broadcast(tensor.data, src=0)


def average_held(
    tensors: Sequence[Tensor | None], like: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    """Mean of each tensor over the processes; one that a process does not hold counts as 0.

    Args:
        tensors: Those of this process.
        like: Of the same shapes, for those that are None here.

    Returns:
        None for a tensor that no process holds.
    """
    if world_size() == 1:
        return tensors
    pairs = list(zip(tensors, like, strict=True))
    whole = [torch.zeros_like(other) if each is None else each for each, other in pairs]
    held = torch.tensor([each is not None for each in tensors])
    *means, shares = average([*whole, held.to(whole[0])]) if whole else [held]
    if held.all():
        return means
    anywhere = (shares > 0).tolist()
    return [mean if found else None for mean, found in zip(means, anywhere, strict=True)]


def worst(value: int, device: torch.device) -> int:
    """The largest of the processes' numbers."""
    if world_size() == 1:
        return value
    highest = torch.tensor(value, device=device)
    distributed.all_reduce(highest, distributed.ReduceOp.MAX)
    return int(highest)

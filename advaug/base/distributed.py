"""Keep the attackers and discriminators of several processes the same."""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn

__all__ = ["average", "broadcast", "rank", "world_size"]


def world_size() -> int:
    """How many processes learn together, 1 outside `torch.distributed`."""
    return distributed.get_world_size() if _running() else 1


def _running() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """This process's number, 0 outside `torch.distributed`."""
    return distributed.get_rank() if _running() else 0


def average(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Mean of each tensor over the processes, in one exchange; the tensors alone when single."""
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

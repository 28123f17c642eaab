"""Gradients of the defence under DistributedDataParallel: averaged here, added at the end.

DDP averages gradients for which its own forward has prepared it. The adversary's pass bypasses that
forward. In a separate backward, DDP would not average its gradients, and the processes would drift
apart. With `find_unused_parameters=True`, a parameter that only this pass uses would be marked as
ready twice. So stand-ins replace the parameters in that pass, where DDP's hooks do not see them.
When the caller's backward is over, and DDP has averaged, the average of ours is added.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd import Variable

from advaug.base.distributed import average_held

__all__ = ["deliver_after"]


def deliver_after(
    loss: Tensor,
    stand_ins: Sequence[tuple[nn.Parameter, nn.Parameter]],
    synchronise: Callable[[], bool],
) -> None:
    """Add the gradients of stand-ins to the parameters' after each backward through the loss.

    Args:
        loss: Whose backward it is.
        stand_ins: Pairs of a parameter and its stand-in.
        synchronise: False within DDP's `no_sync()`, where DDP will average the sum later.
    """

    def add() -> None:
        found = [twin.grad for _, twin in stand_ins]
        if synchronise():
            found = average_held(found, [parameter for parameter, _ in stand_ins])
        for (parameter, twin), gradient in zip(stand_ins, found, strict=True):
            twin.grad = None
            if gradient is not None:
                _add(parameter, gradient)

    def at_the_end(_: Tensor) -> None:
        engine = Variable._execution_engine
        # Callbacks run in order, and DDP's is one of them: ours queues itself again, behind it.
        engine.queue_callback(lambda: engine.queue_callback(add))

    loss.register_hook(at_the_end)


@torch.no_grad()
def _add(parameter: nn.Parameter, gradient: Tensor) -> None:
    if parameter.grad is None:
        parameter.grad = gradient.clone()
    else:
        parameter.grad.add_(gradient)

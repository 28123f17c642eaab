"""A detector whose weights are a running average of another one's."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["averaged"]

Weights = tuple[Tensor, ...] | list[Tensor]


def averaged(detector: nn.Module, decay: float) -> AveragedModel:
    """A copy in evaluation mode, to be moved by `update_parameters(detector)`.

    The average starts short and grows to 1 / (1 - decay) steps, so that it forgets the initial
    weights soon. BatchNorm's statistics are averaged too.

    Args:
        detector: To be followed.
        decay: In `[0, 1)`.
    """

    def move(ours: Weights, theirs: Weights, count: Tensor | int) -> None:
        steps = int(count)
        now = min(decay, (1 + steps) / (10 + steps))
        get_ema_multi_avg_fn(now)(ours, theirs, count)

    return AveragedModel(detector, multi_avg_fn=move, use_buffers=True).eval()

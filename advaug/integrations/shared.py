"""What every trainer needs of the adversary: its state in the checkpoint, its report in the log."""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from advaug.adversary import SampleAdaptiveAdversary
from advaug.base.checks import describe
from advaug.pixels import PixelSpec

__all__ = ["IMAGENET", "known", "save_with", "scalars", "unwell"]

IMAGENET = PixelSpec((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PREFIX = "adversary/"
TOLD = ("error", "feedback", "rise", "rise_over_appearance")
KEY = "advaug"  # of the adversary's state beside the optimizer's own


def save_with(optimizer: Optimizer, adversary: SampleAdaptiveAdversary) -> None:
    """Let the adversary's state travel with that of the caller's optimizer.

    A trainer that saves and loads its optimizer then saves and loads the adversary, whatever its
    checkpoints look like, and the model's weights stay free of it. Without this call, optimizers
    load such a state and ignore the adversary's part. With a state that has none, the attacker
    starts with new weights.

    Move the adversary to its device first. What gathers an optimizer's state by itself, such as
    `torch.distributed.checkpoint.state_dict`, leaves the part out: save the adversary there.

    Args:
        optimizer: The detector's.
        adversary: Whose state is to travel.

    Raises:
        TypeError: If `optimizer` is none of PyTorch's; nothing has changed then.
    """
    if not isinstance(optimizer, Optimizer):
        msg = (
            f"`optimizer` must be a torch.optim.Optimizer, but got {describe(optimizer)}. Pass the "
            "optimizer that the trainer's wrapper holds."
        )
        raise TypeError(msg)
    arrived: list[dict[str, Any]] = []

    def add(_: Optimizer, state: dict[str, Any]) -> None:
        state[KEY] = adversary.state_dict()

    def take(_: Optimizer, state: dict[str, Any]) -> None:
        arrived[:] = [state.pop(KEY)] if KEY in state else []

    def load(_: Optimizer) -> None:  # only when the optimizer has found its own part sound
        if arrived:
            adversary.load_state_dict(arrived.pop())

    optimizer.register_state_dict_post_hook(add)
    optimizer.register_load_state_dict_pre_hook(take)
    optimizer.register_load_state_dict_post_hook(load)


def known(adversary: SampleAdaptiveAdversary) -> dict[str, Tensor]:
    """The last report by the names under which it is logged, on the device; empty before it.

    Without what only `tell` can teach, unless it was told.
    """
    if adversary.report is None:
        return {}
    values = vars(adversary.report).items()
    return {PREFIX + name: value for name, value in values if adversary.told or name not in TOLD}


def scalars(adversary: SampleAdaptiveAdversary) -> dict[str, float]:
    """What is `known`, as numbers; waits for the device, once."""
    if adversary.report is None:
        return {}
    values = adversary.report.read()
    return {key: values[key.removeprefix(PREFIX)] for key in known(adversary)}


def unwell(adversary: SampleAdaptiveAdversary) -> str | None:
    """What is wrong with the run, as a line for its log; None for nothing."""
    health = adversary.health()
    return None if health.ok else f"adversary.health(): {health}"

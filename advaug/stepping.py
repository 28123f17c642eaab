"""Optimizer steps of the attacker and the discriminator, apart from the caller's."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["Stepper"]


class Stepper:
    """Take optimizer steps from given gradients, with a loss scale of our own under float16.

    The caller's scaler and gradients are never seen. Under float32 and bfloat16 nothing is scaled.
    """

    def __init__(self) -> None:
        self._scaler: torch.amp.GradScaler | None = None
        self._device = "cpu"

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss as it should be differentiated."""
        if self._scaler is None and _in_float16(loss.device):
            self._device = loss.device.type
            self._scaler = torch.amp.GradScaler(self._device)
        return loss if self._scaler is None else self._scaler.scale(loss)

    def step(
        self, steps: Sequence[tuple[Optimizer, Sequence[nn.Parameter], Sequence[Tensor]]]
    ) -> None:
        """Step each optimizer with a gradient for each of its parameters.

        Under float16 a step whose gradients overflow is skipped and the scale lowered.
        """
        for optimizer, parameters, gradients in steps:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            if self._scaler is None:
                optimizer.step()
            else:
                self._scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        if self._scaler is not None:
            self._scaler.update()
        # Autocast may hold half-precision copies of the weights that have just moved.
        torch.clear_autocast_cache()

    def state_dict(self) -> dict[str, Any]:
        """State of the loss scale; empty without one."""
        if self._scaler is None:
            return {}
        return {"device": self._device, **self._scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state of the loss scale."""
        if state:
            values = dict(state)
            self._device = values.pop("device")
            scaler = torch.amp.GradScaler(self._device)
            scaler.load_state_dict(values)
            self._scaler = scaler


def _in_float16(device: torch.device) -> bool:
    enabled = torch.is_autocast_enabled(device.type)
    return enabled and torch.get_autocast_dtype(device.type) == torch.float16

"""Gradients and optimizer steps of attacker and discriminator, separate from the caller's."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from advaug.base.checks import CUT_OFF
from advaug.base.precision import in_float16
from advaug.step.loan import Loan, sharded
from advaug.step.recompute import keeping_buffers

__all__ = ["Stepper", "overflowed", "trainable"]


class Stepper:
    """Take gradients and optimizer steps, with a separate loss scale under float16.

    The caller's scaler is never used. Under float32 and bfloat16 nothing is scaled.
    """

    def __init__(self) -> None:
        self._scaler: torch.amp.GradScaler | None = None
        self._device = "cpu"

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss as it should be differentiated."""
        if self._scaler is None and in_float16(loss.device):
            self._device = loss.device.type
            self._scaler = torch.amp.GradScaler(self._device)
        return loss if self._scaler is None else self._scaler.scale(loss)

    def pull(self, loss: Tensor, adversarial: Tensor, *, keep_graph: bool = False) -> Tensor:
        """Gradient of a loss's mean at I_adv.

        Raises:
            ValueError: If the loss does not depend on it.
        """
        mean = self.scaled(loss.mean())
        with keeping_buffers() if keep_graph else contextlib.nullcontext():
            (pull,) = torch.autograd.grad(
                mean, adversarial, retain_graph=keep_graph, allow_unused=True
            )
        if pull is None:
            raise ValueError(CUT_OFF)
        return pull

    def step(
        self,
        steps: Sequence[tuple[Optimizer, Sequence[nn.Parameter], Sequence[Tensor]]],
        *,
        spoiled: Tensor,
    ) -> None:
        """Step all optimizers with a gradient for each of their parameters, or none of them.

        None steps if a gradient is not finite, in which case our own loss scale is lowered, or if
        `spoiled`, a scalar, is above 0: what came in from outside was not finite.
        """
        for optimizer, parameters, gradients in steps:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = _laid_out_as(parameter, gradient)
            if self._scaler is not None:
                self._scaler.unscale_(optimizer)
        broken = _broken([g for *_, gradients in steps for g in gradients], spoiled)
        for optimizer, *_ in steps:
            _step_unless(broken, optimizer)
            optimizer.zero_grad(set_to_none=True)
        if self._scaler is not None and steps:
            self._scaler.update()
        # Autocast may hold half-precision copies of the weights that have just moved.
        torch.clear_autocast_cache()

    def state_dict(self) -> dict[str, Any]:
        """State of the loss scale; empty without one."""
        if self._scaler is None:
            return {}
        return {"device": self._device, **self._scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `state_dict`."""
        if state:
            values = dict(state)
            self._device = values.pop("device")
            scaler = torch.amp.GradScaler(self._device)
            scaler.load_state_dict(values)
            self._scaler = scaler


def trainable(network: nn.Module | None) -> list[nn.Parameter]:
    """The parameters of a network that learn; none if there is no network."""
    return [] if network is None else [p for p in network.parameters() if p.requires_grad]


def overflowed(loan: Loan) -> Tensor | bool:
    """Whether a gradient of a detector's weights is not finite, without waiting for the device.

    Shards are not checked: they are complete only after the backward.
    """
    if loan.module is None or sharded(loan.modules):
        return False
    weights = [*loan.module.parameters(), *(twin for _, twin in loan.stand_ins)]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    return get_total_norm(gradients).isfinite().logical_not() if gradients else False


def _broken(gradients: Sequence[Tensor], spoiled: Tensor) -> Tensor:
    """1.0 where a step must not be taken, else 0.0, without waiting for the device."""
    sound = get_total_norm(gradients).isfinite() if gradients else torch.ones_like(spoiled).bool()
    return (~sound | (spoiled > 0)).float()


def _laid_out_as(parameter: nn.Parameter, gradient: Tensor) -> Tensor:
    """The gradient in the parameter's memory layout, which PyTorch's fused optimizers require."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def _step_unless(broken: Tensor, optimizer: Optimizer) -> None:
    """Step, or leave weights and optimizer as they are."""
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        if not bool(broken):  # waits for the device
            optimizer.step()
        return
    # PyTorch's fused optimizers decide on the device, as under GradScaler.
    fused: Any = optimizer
    fused.grad_scale, fused.found_inf = None, broken
    try:
        optimizer.step()
    finally:
        del fused.grad_scale, fused.found_inf

"""Which statistics BatchNorm uses and keeps for adversarial pictures."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from advaug.base.checks import check_choice
from advaug.base.distributed import average
from advaug.step.delivery import deliver_after
from advaug.step.loan import Detector, as_borrowed, batch_norms, borrowed, sharded
from advaug.step.recompute import TakenAtOnce, recomputes

__all__ = ["BATCH_NORM_POLICIES", "BatchNormPolicy", "BatchNorms"]

BatchNormPolicy = Literal["isolated", "running", "shared", "split"]
BATCH_NORM_POLICIES = ("isolated", "running", "shared", "split")


class BatchNorms(nn.Module):
    """Lend a detector to an adversarial pass under one of four policies.

    Feeding back to the attacker never moves a statistic. In the defence:

    - `"isolated"`: adversarial pictures are normalised with their own batch statistics; the
      running ones do not move.
    - `"running"`: they are normalised with the running statistics, which do not move.
    - `"shared"`: the literal paper; batch statistics, and the running ones move.
    - `"split"`: a second set of BatchNorm parameters and statistics, as in AdvProp (Xie et al.,
      CVPR 2020). The set lives here and is optimised here, with the gradients of the caller's
      backward, at the beginning of the next step. These are the gradients of the loss as it was
      returned: the caller's loss scale and weight are divided out. What is frozen in the detector
      stays frozen.

    They apply to `torch.nn.BatchNorm*d` and `SyncBatchNorm`, scripted ones included. The batch
    statistics of other layers are treated like any buffer: they move only under `"shared"`.

    Args:
        policy: One of the four.
        optimizer: Makes an optimizer for the second set.

    Raises:
        ValueError: If the policy is unknown.
    """

    _anchor: Tensor

    def __init__(
        self,
        policy: BatchNormPolicy,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    ) -> None:
        super().__init__()
        check_choice("batch_norm", policy, BATCH_NORM_POLICIES)
        self.policy: BatchNormPolicy = policy
        self._make_optimizer = optimizer
        self._optimizer: Optimizer | None = None
        self._taken = TakenAtOnce()
        self._arrived: Tensor | None = None  # sum of the gradients that arrived at the losses
        self.second = nn.ModuleList()
        self.register_buffer("_anchor", torch.empty(0), persistent=False)  # knows the device
        self.register_load_state_dict_pre_hook(_create_from_checkpoint)

    @contextlib.contextmanager
    def feedback(self, detector: Detector, *, keep_new: bool = True) -> Iterator[None]:
        """Run the detector to teach the attacker; no statistic and no parameter changes.

        Args:
            detector: As for `advaug.step.loan.as_borrowed`.
            keep_new: False drops the second set if it was made for this.
        """
        new = len(self.second) == 0
        with self._lend(detector, keep_own=False, keep_second=False):
            yield
        if new and not keep_new:
            self._drop()

    @contextlib.contextmanager
    def defence(self, detector: Detector) -> Iterator[None]:
        """Run the detector to train it on adversarial pictures."""
        with self._lend(
            detector, keep_own=self.policy == "shared", keep_second=True, stand_in=True
        ):
            yield

    def prepare(self, detector: Detector) -> None:
        """Make the second set and its optimizer now, so that a schedule can include them."""
        if self.policy == "split":
            with self.feedback(detector):
                pass

    def settled(self, detector: Detector, loss: Tensor) -> Tensor:
        """The loss of a defence as the caller should get it, ready for any backward.

        Args:
            detector: The loan that the defence had.
            loss: Scalar with its graph.
        """
        loan = as_borrowed(detector)
        if recomputes(loan.module):
            with self.feedback(loan):  # the same policy, and nothing moves
                loss = self._taken(loss, self._reached(loan.modules, loan.stand_ins))
        if loan.stand_ins:
            ddp = loan.ddp
            deliver_after(
                loss, loan.stand_ins, lambda: ddp is None or bool(ddp.require_backward_grad_sync)
            )
        if self.policy == "split":
            loss.register_hook(self._note_factor)
        return loss

    def _reached(
        self,
        modules: list[nn.Module],
        stand_ins: list[tuple[nn.Parameter, nn.Parameter]],
    ) -> list[nn.Parameter]:
        """Every leaf that a defence's backward may reach."""
        twins = {id(parameter): twin for parameter, twin in stand_ins}
        own = [each for module in modules for each in module._parameters.values()]
        found = {id(each): twins.get(id(each), each) for each in own if each is not None}
        return [*found.values(), *self.second.parameters()]

    def _note_factor(self, factor: Tensor) -> None:
        """Add the gradient that arrives at a loss: the caller's loss scale times its weight."""
        factor = factor.detach().clone()
        self._arrived = factor if self._arrived is None else self._arrived + factor

    @contextlib.contextmanager
    def _lend(
        self,
        detector: Detector,
        *,
        keep_own: bool,
        keep_second: bool,
        stand_in: bool = False,
    ) -> Iterator[None]:
        """Lend under the policy; `keep_own` and `keep_second` let running statistics move."""
        new = len(self.second) == 0
        try:
            with borrowed(detector, keep_buffers=keep_own, stand_in=stand_in) as modules:
                norms = batch_norms(modules)
                if self.policy == "running":
                    _evaluate(norms)
                if self.policy == "split":
                    _check_whole(modules)
                    self._install(norms)
                yield
                if self.policy == "split" and keep_second:
                    self._keep(norms)
        except BaseException:
            if new:  # a detector that does not fit leaves no second set behind
                self._drop()
            raise

    def _drop(self) -> None:
        self.second = nn.ModuleList()
        self._optimizer = None

    def step(self) -> None:
        """Update the second set with the gradients that the caller's backward left, if any."""
        if self._optimizer is None:
            return
        parameters = [p for p in self.second.parameters() if p.grad is not None]
        factor = self._arrived
        self._arrived = None
        if parameters:
            gradients = average([p.grad for p in parameters if p.grad is not None])
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if factor is not None:
                    gradient = gradient / factor
                # The caller may skip a step that overflowed, or multiply the loss by zero.
                parameter.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)

    def _install(self, norms: list[_BatchNorm]) -> None:
        if len(self.second) == 0:
            self._create([_contents(norm) for norm in norms])
        if len(self.second) != len(norms):
            msg = (
                f"`batch_norm='split'` holds a second set for {len(self.second)} BatchNorms, but "
                f"the detector has {len(norms)}. Use one adversary per detector."
            )
            raise ValueError(msg)
        for norm, twin in zip(norms, self.second, strict=True):
            for name, parameter in twin.named_parameters():
                parameter.requires_grad_(norm._parameters[name].requires_grad)  # pyright: ignore[reportOptionalMemberAccess] # theirs is there where ours is
                norm._parameters[name] = parameter
            for name, buffer in twin.named_buffers():
                norm._buffers[name] = buffer.clone()

    @torch.no_grad()
    def _keep(self, norms: list[_BatchNorm]) -> None:
        """Keep the second set's new statistics, except those that are not finite."""
        for norm, twin in zip(norms, self.second, strict=True):
            for name, buffer in twin.named_buffers():
                moved = norm._buffers[name]
                if moved is not None:
                    buffer.copy_(torch.where(moved.isfinite(), moved, buffer))

    def _create(self, contents: list[dict[str, Tensor]]) -> None:
        """Start the second set from copies of the first."""
        for content in contents:
            twin = nn.Module()
            for name, value in content.items():
                copy = value.detach().clone()
                if name in ("weight", "bias"):
                    twin.register_parameter(name, nn.Parameter(copy))
                else:
                    twin.register_buffer(name, copy)
            self.second.append(twin)
        parameters = list(self.second.parameters())
        self._optimizer = self._make_optimizer(parameters) if parameters else None

    def get_extra_state(self) -> dict[str, Any]:
        """The loss scale and, for a second set, its optimizer and its next step's gradients."""
        scale = {"scale": self._taken.state_dict()}
        if self._optimizer is None:
            return scale
        gradients = [parameter.grad for parameter in self.second.parameters()]
        return {
            **scale,
            "optimizer": self._optimizer.state_dict(),
            "gradients": gradients,
            "arrived": self._arrived,
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the loss scale and the second set."""
        if "scale" in state:
            self._taken.load_state_dict(state["scale"])
        if self._optimizer is None or "optimizer" not in state:
            return
        self._optimizer.load_state_dict(state["optimizer"])
        for parameter, gradient in zip(self.second.parameters(), state["gradients"], strict=True):
            parameter.grad = None if gradient is None else gradient.to(parameter.device).clone()
        arrived = state.get("arrived")
        self._arrived = None if arrived is None else arrived.to(self._anchor.device).clone()


def _create_from_checkpoint(
    module: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: object
) -> None:
    """Make the second set that a checkpoint holds, before its values are read."""
    assert isinstance(module, BatchNorms)
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in state_dict.items():
        if key.startswith(f"{prefix}second."):
            index, name = key.removeprefix(f"{prefix}second.").split(".", 1)
            found.setdefault(int(index), {})[name] = value.to(module._anchor.device)
    if found and len(module.second) == 0:
        module._create([found[index] for index in sorted(found)])


def _check_whole(modules: list[nn.Module]) -> None:
    if sharded(modules):
        msg = (
            "`batch_norm='split'` needs a detector with whole parameters, but FSDP2 "
            "(`fully_shard`) has sharded them. Use `batch_norm='isolated'`, the default."
        )
        raise ValueError(msg)


def _contents(norm: _BatchNorm) -> dict[str, Tensor]:
    held = dict([*norm._parameters.items(), *norm._buffers.items()])
    return {name: value for name, value in held.items() if value is not None}


def _evaluate(norms: list[_BatchNorm]) -> None:
    """Normalise with running statistics; where none are kept there is nothing to change."""
    for norm in norms:
        if norm.running_mean is not None:
            norm.training = False

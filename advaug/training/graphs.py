"""A training step as one CUDA graph: launched at once instead of kernel by kernel."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch.optim import Optimizer

from advaug.adversary import SampleAdaptiveAdversary

__all__ = ["CapturedStep"]

WARM_UP = 3  # calls until memory, kernels and the optimizers' states are in place
WAITED, PROTOTYPE = "called a synchronizing CUDA operation", "Synchronization debug mode is a proto"
FAILED = (
    "`step` must be a step that CUDA can capture, but capturing it failed. Call `step` itself "
    "instead of CapturedStep, in a new process: a capture that breaks off leaves CUDA unusable."
)


class CapturedStep:
    """Run a training step, and once it has settled replay it as a CUDA graph.

    A step launches some thousands of kernels. If they are small, as for 8 pictures of 256 px, a
    modern card waits for Python to launch them; a graph is launched at once.

    The first three calls run the step as it is, the fourth captures it, and later calls replay the
    graph. Every call is one training step, so a run is the same with and without capture. With
    modes `"shared"` and `"fused"` and a detector that draws no random numbers, it is the same bit
    for bit, as far as its kernels are deterministic; otherwise the random numbers differ for the
    same seed.

    A step that cannot be captured runs as it is, and `reason` says why. This may happen before the
    first capture, or for one call whose tensors have another shape.

    What Python decides in a step is decided once, at the capture. Numeric options of the given
    optimizers are watched; a learning rate that a schedule changes must be a tensor on the device.
    Every call overwrites `adversary.report` and its tensors.

    Args:
        step: A whole step from tensors to the loss, a tensor: detector, adversary, backward,
            optimizer and `zero_grad`, and autocast where it is used.
        adversary: The one that `step` calls, if any.
        optimizers: Those that `step` steps, besides the adversary's own.

    Attributes:
        reason: Why the last call did not replay a graph; None if it did, and before the first.

    Raises:
        RuntimeError: From a call, if the capture itself fails.
    """

    def __init__(
        self,
        step: Callable[..., Tensor],
        adversary: SampleAdaptiveAdversary | None = None,
        optimizers: Sequence[Optimizer] = (),
    ) -> None:
        self.reason: str | None = None
        self._step = step
        self._adversary = adversary
        self._optimizers = [*optimizers, *_optimizers_of(adversary)]
        self._calls = 0
        self._obstacle: str | None = None
        self._graph: _Graph | None = None
        self._captured = False

    def __call__(self, *tensors: Tensor) -> Tensor:
        """One training step; returns a copy of its loss, detached."""
        self._calls += 1
        if self._calls == 1:
            self._obstacle = _obstacle(tensors, self._adversary, self._optimizers)
        if self._obstacle is None and self._calls <= WARM_UP:
            return self._warm_up(tensors)
        if self._obstacle is None and not self._captured:
            self._capture(tensors)
        self.reason = self._obstacle or self._difference(tensors)
        if self.reason is not None:
            return self._step(*tensors).detach()
        return self._replay(tensors)

    def _warm_up(self, tensors: Sequence[Tensor]) -> Tensor:
        """Run the step as it is before the capture; in the last such call look for what waits."""
        self.reason = f"call {self._calls} of {WARM_UP} that settle the step"
        if self._graph is None:
            self._graph = _Graph()
        last = self._calls == WARM_UP
        with _waits() if last else contextlib.nullcontext([]) as waits:
            loss = self._graph.run(lambda: self._step(*tensors))
        if waits:
            self._obstacle = (
                f"the step waits for the device, which a graph cannot: {', '.join(waits)}"
            )
        return loss.detach()

    def _capture(self, tensors: Sequence[Tensor]) -> None:
        """Record the step, which runs nothing; it will read tensors of ours."""
        assert self._graph is not None
        self._inputs = [tensor.detach().clone() for tensor in tensors]
        self._options = _options(self._optimizers)
        adversary = self._adversary
        uncounted = contextlib.nullcontext() if adversary is None else adversary.captured()
        with _capturable(self._optimizers), uncounted:
            self._loss = self._graph.capture(lambda: self._step(*self._inputs)).detach()
        self._captured = True

    def _difference(self, tensors: Sequence[Tensor]) -> str | None:
        """Why the graph cannot replace this call; None if it can."""
        given, known = ([_kind(tensor) for tensor in group] for group in (tensors, self._inputs))
        if given != known:
            return f"the graph is for {', '.join(known)}, but got {', '.join(given)}"
        if _options(self._optimizers) != self._options:
            return (
                "an option of an optimizer has changed since the capture. Give a learning rate "
                "that a schedule changes as a tensor on the device."
            )
        return None

    @torch.no_grad()
    def _replay(self, tensors: Sequence[Tensor]) -> Tensor:
        assert self._graph is not None
        for own, tensor in zip(self._inputs, tensors, strict=True):
            own.copy_(tensor, non_blocking=True)
        adversary = self._adversary
        if adversary is None:
            self._graph.replay()
        else:
            # A graph takes its seed when it is replayed; each call has its own.
            with adversary.replayed(tensors[0].device):
                self._graph.replay()
        return self._loss.detach().clone()


class _Graph:
    """CUDA's side: a graph, and the stream on which its work is prepared and recorded."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._graph = torch.cuda.CUDAGraph()

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        """Run it in order with the work launched before and after it."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def capture(self, work: Callable[[], Tensor]) -> Tensor:
        """Record the work; each replay fills the tensors that it returns.

        Raises:
            RuntimeError: If the work cannot be captured.
        """
        try:
            with torch.cuda.graph(self._graph, stream=self._stream):
                return work()
        except RuntimeError as error:
            raise RuntimeError(FAILED) from error

    def replay(self) -> None:
        """Run what was recorded."""
        self._graph.replay()


def _obstacle(
    tensors: Sequence[Tensor],
    adversary: SampleAdaptiveAdversary | None,
    optimizers: Sequence[Optimizer],
) -> str | None:
    """Why a step cannot be captured, as far as this is known without running it."""
    reasons = [
        *_unsteady(adversary),
        *(
            f"{type(optimizer).__name__} must be made with `fused=True` or `capturable=True`"
            for optimizer in optimizers
            if not _can_be_captured(optimizer)
        ),
        *(
            f"the adversary's {type(optimizer).__name__} waits for the device to skip a step that "
            "overflowed. Use one that is made with `fused=True`, as the default."
            for optimizer in _optimizers_of(adversary)
            if not getattr(optimizer, "_step_supports_amp_scaling", False)
        ),
    ]
    if distributed.is_available() and distributed.is_initialized():
        reasons.append("several processes exchange gradients within the step")
    elsewhere = [tensor.device.type for tensor in tensors if not tensor.is_cuda]
    if elsewhere:
        reasons.append(f"a tensor is on the device {elsewhere[0]!r}, and only CUDA has graphs")
    elif torch.is_autocast_enabled("cuda"):
        # Its cache would hand weights to the graph that were cast before.
        reasons.append("autocast must begin and end within the step")
    return reasons[0] if reasons else None


def _unsteady(adversary: SampleAdaptiveAdversary | None) -> Iterator[str]:
    """What makes the calls of an adversary differ from each other."""
    if adversary is None:
        return
    for name in ("attacker_every", "discriminator_every"):
        every = getattr(adversary.schedule, name) or 1
        if every > 1:
            yield f"with `{name}={every}` not every step does the same"
    if adversary.batch_norms.policy == "split":
        yield "`batch_norm='split'` hands gradients from one step to the next"
    if adversary.view.transform is not None:
        yield "`transform` may draw random numbers on the CPU, which a graph would not draw again"


def _optimizers_of(adversary: SampleAdaptiveAdversary | None) -> list[Optimizer]:
    if adversary is None:
        return []
    own = (adversary.attacker_optimizer, adversary.discriminator_optimizer)
    return [optimizer for optimizer in own if optimizer is not None]


def _can_be_captured(optimizer: Optimizer) -> bool:
    """Whether its state is on the device; optimizers without such an option have no such state."""
    return all(
        group.get("capturable", True) or group.get("fused", False)
        for group in optimizer.param_groups
    )


@contextlib.contextmanager
def _capturable(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Let fused optimizers be captured: they keep their state on the device in any case."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    held_back = [group for group in groups if group.get("capturable") is False]
    for group in held_back:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in held_back:
            group["capturable"] = False


def _options(optimizers: Sequence[Optimizer]) -> list[dict[str, Any]]:
    """The options that a graph fixes at its capture: all except tensors."""
    return [
        {
            name: value
            for name, value in group.items()
            if name != "params" and not isinstance(value, Tensor)
        }
        for optimizer in optimizers
        for group in optimizer.param_groups
    ]


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"


@contextlib.contextmanager
def _waits() -> Iterator[list[str]]:
    """Collect the places in the code that wait for the device, each one once."""
    found: list[str] = []
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in caught:
        if WAITED in str(warning.message):
            place = f"{warning.filename}:{warning.lineno}"
            found += [] if place in found else [place]
        elif PROTOTYPE not in str(warning.message):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )

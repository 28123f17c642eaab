"""Detectors that checkpoint their activations: recognised, and differentiated while on loan.

`torch.utils.checkpoint` runs a part of the network again in the backward. In the caller's backward
that part would meet the caller's own buffers, modes and BatchNorms: running statistics would move,
and gradients would be those of another network than the forward's. So where a detector does this,
the gradients of the loss are taken at once, on loan, and handed over in the caller's backward.
"""

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import disable_saved_tensors_hooks
from torch.nn.utils import get_total_norm
from torch.utils._pytree import tree_leaves

from advaug.base.precision import in_float16
from advaug.step.randomness import remembered

__all__ = ["TakenAtOnce", "keeping_buffers", "recomputes", "watched"]

FIRST_SCALE, LEAST_SCALE = 2.0**16, 2.0**-16
LOWERED_BY, RAISED_EVERY = 16.0, 2000  # the latter as PyTorch's GradScaler

# Whether a detector was seen to compute again. Every call checks whether that has changed.
_SEEN: "weakref.WeakKeyDictionary[nn.Module, bool]" = weakref.WeakKeyDictionary()
BEGAN_LATER = (
    "the detector must checkpoint its activations from its first pass in the adversary on, or not "
    "at all, but it has begun later. Call again: now this is known."
)
REENTRANT = (
    "the detector must checkpoint its activations with `use_reentrant=False`, but it does so with "
    "`use_reentrant=True`, which gives no gradient at the pictures and none at all where they "
    "require none. Pass `use_reentrant=False` to `torch.utils.checkpoint.checkpoint`."
)


def recomputes(module: nn.Module | None) -> bool:
    """Whether a detector was seen to compute parts of itself again in the backward."""
    return module is not None and _SEEN.get(module, False)


def watched(module: nn.Module, call: Callable[[Tensor], Any], pictures: Tensor) -> Any:  # noqa: ANN401 # the detector's
    """Call a detector and see whether it will compute again in the backward; see `_watched`.

    A graph that is compiled in here keeps its buffers, so that mode shared can run backward twice.
    """
    with keeping_buffers() if _is_compiled(module) else contextlib.nullcontext():
        return _watched(module, call, pictures)


@contextlib.contextmanager
def keeping_buffers() -> Iterator[None]:
    """Compile, and run backward, without donating a graph's buffers to its first backward.

    The setting is written and put back by hand. PyTorch's own `config.patch` leaves a variable in
    the thread's context at each call, which adds up over a training.
    """
    compiler: Any = sys.modules.get("torch._functorch.config")
    if compiler is None or not compiler.donated_buffer:  # None before any compilation
        yield
        return
    compiler.donated_buffer = False
    try:
        yield
    finally:
        compiler.donated_buffer = True


def _watched(module: nn.Module, call: Callable[[Tensor], Any], pictures: Tensor) -> Any:  # noqa: ANN401 # the detector's
    """Call a detector with its own copy of the pictures, and see whether it will compute again.

    Checkpoints use hooks on saved tensors, so these hooks are forbidden until one is known.

    Raises:
        ValueError: If it uses reentrant checkpoints, or began to checkpoint after its first call.
    """
    known = _SEEN.get(module)
    if known or not torch.is_grad_enabled() or _has_hooks():
        return call(_own(module, pictures))
    if known is None:
        return _met(module, call, pictures)
    try:
        with disable_saved_tensors_hooks(BEGAN_LATER):
            return call(_own(module, pictures))
    except RuntimeError as error:
        if BEGAN_LATER not in str(error):
            raise
        _SEEN[module] = True
        raise ValueError(BEGAN_LATER) from error


def _met(module: nn.Module, call: Callable[[Tensor], Any], pictures: Tensor) -> Any:  # noqa: ANN401 # the detector's
    """The first call with a graph: if the detector checkpoints, undo the call and repeat it."""
    if not _is_compiled(module) and not pictures.requires_grad:
        pictures = pictures.detach().requires_grad_()  # else reentrant checkpoints leave no trace
    put_back = remembered(pictures.device)
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        with disable_saved_tensors_hooks(BEGAN_LATER):
            output = call(_own(module, pictures))
    except RuntimeError as error:
        if BEGAN_LATER not in str(error):
            raise
    else:
        if _is_reentrant(output):
            raise ValueError(REENTRANT)
        _SEEN[module] = False
        return output
    put_back()
    with torch.no_grad():
        for buffer, value in buffers:
            buffer.copy_(value)
    _SEEN[module] = True
    return call(_own(module, pictures))


def _own(module: nn.Module, pictures: Tensor) -> Tensor:
    """A copy that a detector may write to.

    A leaf that requires a gradient refuses to be written to, so compiled code gets that.
    """
    leaf = pictures.requires_grad and pictures.is_leaf
    return pictures if leaf and _is_compiled(module) else pictures.clone()


def _is_compiled(module: nn.Module) -> bool:
    """Whether `torch.compile` holds a part of it."""
    return any(hasattr(part, "_orig_mod") for part in module.modules())


def _has_hooks() -> bool:
    """Whether the caller has put hooks on all saved tensors, such as `save_on_cpu`."""
    engine: Any = torch._C
    return engine._autograd._top_saved_tensors_default_hooks(False) is not None


def _is_reentrant(output: Any) -> bool:  # noqa: ANN401 # the detector's
    """Whether a node of a reentrant checkpoint is in the graph of an output."""
    leaves = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    pending = [leaf.grad_fn for leaf in leaves if leaf.grad_fn is not None]
    seen = set(pending)
    while pending:
        node = pending.pop()
        if node.name() == "CheckpointFunctionBackward":
            return True
        following = {each for each, _ in node.next_functions if each is not None} - seen
        seen |= following
        pending += following
    return False


class TakenAtOnce:
    """Losses whose gradients are known before the caller's backward, scaled under float16.

    The caller's own loss scale comes too late for them. This one is lowered until all gradients are
    finite, and raised again after some time without an overflow.
    """

    def __init__(self) -> None:
        self._scale, self._sound = FIRST_SCALE, 0

    def __call__(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
        """The same loss, with its gradients computed already.

        Args:
            loss: Scalar with its graph, which ends here.
            parameters: All that its backward should reach.
        """
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        if in_float16(loss.device):
            gradients = self._in_half(loss, wanted)
        else:
            gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
        return _Known.apply(loss.detach(), gradients, *wanted)

    def _in_half(self, loss: Tensor, wanted: Sequence[nn.Parameter]) -> list[Tensor | None]:
        """Gradients of the loss, not finite where no scale helps. Waits for the device."""
        scale, sound = self._scale, False
        while True:
            found = torch.autograd.grad(scale * loss, wanted, retain_graph=True, allow_unused=True)
            sound = bool(get_total_norm([each for each in found if each is not None]).isfinite())
            if sound or scale <= LEAST_SCALE:
                break
            scale /= LOWERED_BY
        if sound:  # otherwise the loss is to blame
            self._sound = self._sound + 1 if scale == self._scale else 1
            self._scale = 2 * scale if self._sound % RAISED_EVERY == 0 else scale
        return [None if each is None else each / scale for each in found]

    def state_dict(self) -> dict[str, float]:
        """The scale, and for how many losses it has not overflowed."""
        return {"scale": self._scale, "sound": self._sound}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore a state of `state_dict`."""
        self._scale, self._sound = float(state["scale"]), int(state["sound"])


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: Any, *parameters: Tensor) -> Tensor:  # noqa: ANN401 # autograd's
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 # autograd's
        (scale,) = grad_outputs
        return None, None, *(None if each is None else scale * each for each in ctx.gradients)

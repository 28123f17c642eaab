"""Borrow a detector and give it back exactly as it was, also after an exception.

The caller says what the detector is: a module, and how it is called. Buffers are not overwritten
and restored. Copies replace them during the loan, so that a graph that the caller built earlier
still finds the tensors that it saved. `requires_grad` is never toggled and `.grad` never touched;
gradients come from `torch.autograd.grad`.
"""

import contextlib
import functools
import inspect
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from advaug.base.checks import describe
from advaug.step.randomness import private_randomness
from advaug.step.recompute import watched

__all__ = [
    "Detector",
    "Forward",
    "Loan",
    "as_borrowed",
    "batch_norms",
    "borrowed",
    "private_randomness",
    "sharded",
]

Detector = Callable[..., Any]
Forward = Callable[[Any, Tensor], Any]
# What has been warned of: callables, or the types of those that allow no weak reference.
_WARNED: "weakref.WeakSet[Any]" = weakref.WeakSet()
_BATCH_NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
INFERENCE = (
    "the detector's output must carry a graph to its input, but a part of it runs under "
    "`torch.inference_mode()`, whose results no backward can use. Take that part out of "
    "`inference_mode`; to freeze it use `requires_grad_(False)`."
)


class Loan:
    """A detector and how it is called.

    Attributes:
        module: The network, without its DistributedDataParallel; None for a black box.
        ddp: The DistributedDataParallel around it, if there is one.
        stand_ins: Under DDP, pairs of a parameter and what stood in for it in the last defence.
    """

    def __init__(
        self,
        module: nn.Module | None,
        call: Callable[[Tensor], Any],
        ddp: DistributedDataParallel | None = None,
    ) -> None:
        self.module = module
        self.ddp = ddp
        self.stand_ins: list[tuple[nn.Parameter, nn.Parameter]] = []
        self._call = call

    @property
    def modules(self) -> list[nn.Module]:
        """The module and all its parts; none for a black box."""
        return [] if self.module is None else list(self.module.modules())

    def __call__(self, pictures: Tensor) -> Any:  # noqa: ANN401 # the detector's
        """The output for a copy of the pictures, since a detector may work in place."""
        try:
            if self.module is None:
                return self._call(pictures.clone())
            return watched(self.module, self._call, pictures)
        except RuntimeError as error:
            if "Inference tensors cannot be saved for backward" in str(error):
                raise ValueError(INFERENCE) from error
            raise


def as_borrowed(detector: Detector, forward: Forward | None = None) -> Loan:
    """The loan of anything that can be passed as a detector.

    Args:
        detector: A module: plain, compiled, scripted, exported, sharded by FSDP2, or in a
            DistributedDataParallel, whose own forward is bypassed, since it would broadcast
            buffers. Or a bound method of a module, or a `functools.partial` of a module or of a
            function of one module. Any other callable is a black box: it runs in a mode that is
            exact for any detector, but its statistics may move, and a warning says so once.
        forward: How a module is called: from the module and the pictures to its output.

    Raises:
        TypeError: If the detector cannot be called, or `forward` is given with anything but a
            module.
    """
    if isinstance(detector, Loan):
        return detector
    if isinstance(detector, nn.Module):
        module, ddp = _unwrapped(detector)
        return Loan(module, module if forward is None else functools.partial(forward, module), ddp)
    if forward is not None or not callable(detector):
        argument = "`detector`" if forward is None else "with `forward`, `detector`"
        msg = (
            f"{argument} must be an nn.Module, but got {describe(detector)}. Pass the network, and "
            "how it is called as `forward=lambda net, x: ...`."
        )
        raise TypeError(msg)
    owner = _owner(detector)
    if owner is None:
        _warn_once(detector)
        return Loan(None, detector)
    module, ddp = _unwrapped(owner)
    return Loan(module, detector if module is owner else _redirected(detector, owner, module), ddp)


def _redirected(detector: Detector, wrapper: nn.Module, module: nn.Module) -> Detector:
    """The same call of the module itself; a method of the wrapper can only be its forward."""
    if not isinstance(detector, functools.partial):
        return module

    def swap(item: Any) -> Any:  # noqa: ANN401 # any argument
        return module if item is wrapper or getattr(item, "__self__", None) is wrapper else item

    keywords = {name: swap(value) for name, value in detector.keywords.items()}
    return functools.partial(swap(detector.func), *map(swap, detector.args), **keywords)


def _unwrapped(module: nn.Module) -> tuple[nn.Module, DistributedDataParallel | None]:
    """The module inside a DistributedDataParallel, compiled or not, and that."""
    inner = getattr(module, "_orig_mod", module)
    if isinstance(inner, DistributedDataParallel):
        return inner.module, inner
    return module, None


def _owner(detector: Detector) -> nn.Module | None:
    """The module whose bound method or partial this is; None if it is not known."""
    if inspect.ismethod(detector):
        return detector.__self__ if isinstance(detector.__self__, nn.Module) else None
    if not isinstance(detector, functools.partial):
        return None
    if isinstance(detector.func, nn.Module):
        return detector.func
    if inspect.ismethod(detector.func):
        return _owner(detector.func)
    given = [*detector.args, *detector.keywords.values()]
    modules = {id(each): each for each in given if isinstance(each, nn.Module)}
    return next(iter(modules.values())) if len(modules) == 1 else None


def _warn_once(detector: Detector) -> None:
    known: Any = detector.__self__ if inspect.ismethod(detector) else detector
    try:
        weakref.ref(known)
    except TypeError:
        known = type(known)
    if known in _WARNED:
        return
    _WARNED.add(known)
    msg = (
        f"the detector is {describe(detector)}, about which nothing is known: it runs in a mode "
        "that is exact for any detector, and its state, such as BatchNorm's running statistics, "
        "may change. Pass the network itself, and how it is called as "
        "`forward=lambda net, x: ...`."
    )
    warnings.warn(msg, UserWarning, stacklevel=4)


def batch_norms(modules: list[nn.Module]) -> list[_BatchNorm]:
    """Those of the modules that are BatchNorm, SyncBatchNorm and scripted ones included."""
    return [module for module in modules if _is_batch_norm(module)]  # pyright: ignore[reportReturnType] # just tested


def _is_batch_norm(module: nn.Module) -> bool:
    if isinstance(module, torch.jit.ScriptModule):
        return getattr(module, "original_name", None) in _BATCH_NORMS
    return isinstance(module, _BatchNorm)


def sharded(modules: list[nn.Module]) -> bool:
    """Whether FSDP2 (`fully_shard`) holds the parameters; does not import FSDP2."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and any(isinstance(module, fsdp.FSDPModule) for module in modules)


@contextlib.contextmanager
def borrowed(
    detector: Detector, *, keep_buffers: bool = False, stand_in: bool = False
) -> Iterator[list[nn.Module]]:
    """Use a detector and leave its parameters, buffers and modes as they are.

    Args:
        detector: As for `as_borrowed`.
        keep_buffers: True keeps what was written to its buffers, so that BatchNorm's running
            statistics move as in any training step; but not after an exception.
        stand_in: Under DDP, let other leaves stand in for the parameters, so that a backward does
            not meet DDP's hooks; see `advaug.step.delivery`.

    Yields:
        The detector's modules.
    """
    loan = as_borrowed(detector)
    modules = loan.modules
    modes = [module.training for module in modules]
    parameters = [dict(module._parameters.items()) for module in modules]
    buffers = [dict(module._buffers.items()) for module in modules]
    copies: dict[int, Tensor] = {}  # a buffer that two modules share stays shared
    try:
        for module, own in zip(modules, buffers, strict=True):
            for name, buffer in own.items():
                if buffer is not None:
                    copy = copies.setdefault(id(buffer), buffer.detach().clone())
                    module._buffers[name] = copy
        if stand_in and loan.ddp is not None:
            loan.stand_ins = _stand_ins(modules, parameters)
        yield modules
        if keep_buffers:
            _hand_over(modules, buffers, copies)
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        if not sharded(modules):  # FSDP2 puts whole weights and shards in place by itself
            _put_back(modules, parameters, "_parameters")
        _put_back(modules, buffers, "_buffers")


def _put_back(modules: list[nn.Module], held: list[dict[str, Any]], kind: str) -> None:
    """Restore the same objects, one by one: a scripted module's dicts allow nothing else."""
    for module, own in zip(modules, held, strict=True):
        current = getattr(module, kind)
        for name, tensor in own.items():
            if current[name] is not tensor:
                current[name] = tensor
        if kind == "_parameters" and isinstance(module, nn.RNNBase):
            _refresh(module)


def _stand_ins(
    modules: list[nn.Module], parameters: list[dict[str, nn.Parameter | None]]
) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Replace each parameter by a leaf with the same memory; a shared one gets only one.

    Returns:
        Pairs of a parameter and its stand-in.
    """
    pairs: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
    for module, own in zip(modules, parameters, strict=True):
        for name, parameter in own.items():
            if parameter is not None:
                twin = nn.Parameter(parameter.detach(), parameter.requires_grad)
                _, twin = pairs.setdefault(id(parameter), (parameter, twin))
                module._parameters[name] = twin
        if isinstance(module, nn.RNNBase):
            _refresh(module)
    return list(pairs.values())


def _refresh(module: nn.RNNBase) -> None:
    """A recurrent layer keeps a list of its weights beside the dict."""
    module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]


@torch.no_grad()
def _hand_over(
    modules: list[nn.Module],
    buffers: list[dict[str, Tensor | None]],
    copies: dict[int, Tensor],
) -> None:
    """Copy to the detector's buffers what was written to their copies during the loan."""
    for module, own in zip(modules, buffers, strict=True):
        for name, buffer in own.items():
            held = module._buffers[name]
            if held is None or buffer is None or held is not copies[id(buffer)]:
                own[name] = held  # the module has put another tensor in its place
            else:
                # As BatchNorm writes: a graph that has saved the buffer does not notice.
                buffer.data.copy_(held)

"""Augment the pictures on their way into a module: a hook for loops that cannot be changed."""

import copy
import dataclasses
import functools
import inspect
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch._compile import _disable_dynamo as run_eagerly

from advaug.base.checks import describe

if TYPE_CHECKING:
    from advaug.step.in_batch import InBatch

__all__ = ["Attachment", "Finder", "put_back"]

Finder = str | Callable[..., Any]
"""Name of an argument of `forward`, or a callable that receives its arguments."""


class Attachment:
    """An adversary in front of a module's forward; what `SampleAdaptiveAdversary.attach` returns.

    Attributes:
        calls: How many training batches it has handed to `augment`.
        passed: How many it left unchanged, because they had no target.
    """

    def __init__(
        self,
        adversary: "InBatch",
        module: nn.Module,
        images: Finder,
        target: Finder | None,
        *,
        normalized: bool,
        pickled: bool,
    ) -> None:
        if not isinstance(module, nn.Module):
            msg = f"`module` must be an nn.Module, but got {describe(module)}. Pass the detector."
            raise TypeError(msg)
        _check_free(module)
        signature = _signature_of(module)
        for name, finder in (("images", images), ("target", target)):
            if isinstance(finder, str):
                _check_name(name, finder, signature, module)
        self.adversary = adversary
        self.calls = self.passed = 0
        self._name = type(_inside(module)).__name__
        self._finders = (images, target)
        self._signature: inspect.Signature | None = signature
        self._normalized = normalized
        self._pickled = pickled
        self._active = True
        self._hook = module.register_forward_pre_hook(self, with_kwargs=True)

    def remove(self) -> None:
        """Let the module, and all copies that have the hook, see their pictures unchanged."""
        self._active = False
        self._hook.remove()
        held = self.adversary._attachments
        if self in held:
            held.remove(self)

    def findings(self) -> list[str]:
        """What is wrong, in words."""
        if self.calls:
            return []
        if self.passed:
            return [
                f"The adversary is attached to {self._name}, but has attacked nothing: `target` "
                f"was None in all {self.passed} training calls. Let `target` find the landmarks, "
                "or leave it out to attack without them."
            ]
        return [
            f"The adversary is attached to {self._name}, whose forward has not run in training "
            "mode. Attach it to the module that the trainer calls."
        ]

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Replace the pictures that the forward was called with by augmented ones."""
        if not self._active or not module.training or not torch.is_grad_enabled():
            return None
        return self._augmented(module, args, kwargs)

    @run_eagerly
    def _augmented(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if getattr(module, "_is_replica", False):
            msg = (
                f"`module` must not be inside DataParallel, but {self._name} runs as a replica. "
                "Attach the adversary to the DataParallel itself, which gets the whole batch."
            )
            raise ValueError(msg)
        find_images, find_target = self._finders
        if self._signature is None:  # it was not pickled
            self._signature = _signature_of(module)
        target = None
        if find_target is not None:
            target = self._find("target", find_target, args, kwargs)
            if target is None:
                self.passed += 1
                return None
        images = self._find("images", find_images, args, kwargs)
        if images is None:
            msg = (
                f"`images` must find the pictures in the arguments of {self._name}, but found None "
                f"in ({_facts(args, kwargs)}). Name the argument that holds them."
            )
            raise ValueError(msg)
        self.calls += 1
        changed = self.adversary.augment(images, target, normalized=self._normalized)
        return put_back((args, kwargs), images, changed)

    def _find(
        self, name: str, finder: Finder, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401 # any part of any batch
        try:
            if isinstance(finder, str):
                return self._named(finder, args, kwargs)
            return finder(*args, **kwargs)
        except (AttributeError, LookupError, TypeError) as error:
            msg = (
                f"`{name}` must find its part in the arguments of {self._name}, but raised "
                f"{error!r} for ({_facts(args, kwargs)}). Name one of these arguments, or take "
                "them all and return a part of them."
            )
            raise ValueError(msg) from error

    def _named(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 # see above
        """An argument by its name, however the caller passed it: by position or by keyword."""
        if name in kwargs:
            return kwargs[name]
        assert self._signature is not None
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments[name]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:  # noqa: ANN401 # the hook or none
        """A copy of the module, such as an average of its weights, is attacked only on request."""
        return self if self._pickled else _Nothing()

    def __reduce_ex__(self, protocol: Any) -> Any:  # noqa: ANN401 # pickle's
        """Pickle to nothing, unless it was asked to stay with the module."""
        if not self._pickled:
            return _Nothing().__reduce__()
        return super().__reduce_ex__(protocol)

    def __getstate__(self) -> dict[str, Any]:
        """Without the signature, which may hold defaults that cannot be pickled."""
        return {**self.__dict__, "_signature": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Register the hook with the adversary again."""
        self.__dict__.update(state)
        self.adversary._attachments.append(self)


class _Nothing:
    """What is left of the hook in a copy of the module, until the copy is first called."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for number, hook in [*module._forward_pre_hooks.items()]:
            if hook is self:
                del module._forward_pre_hooks[number]
                module._forward_pre_hooks_with_kwargs.pop(number, None)

    def __reduce__(self) -> tuple[Any, ...]:
        """A callable of Python's that does nothing, so that files open without this library."""
        return functools.partial, (sys.audit, "advaug.detached")


def put_back(container: Any, images: Any, changed: Any) -> Any:  # noqa: ANN401 # any nesting
    """The same nesting with changed pictures instead of the given ones.

    Containers on the way are copied, so what the caller holds stays as it is. Handles mappings,
    lists, tuples, named tuples and dataclasses.

    Args:
        container: What holds the pictures.
        images: The pictures: an object in the container, or a new list of objects in it.
        changed: What `augment` returned for them.

    Raises:
        ValueError: If the container holds none of the pictures.
    """
    new = {id(images): _as(images, changed)}
    if isinstance(images, list | tuple):
        new.update((id(one), other) for one, other in zip(images, changed, strict=True))
    result = _replaced(container, new)
    if result is container and changed is not images:
        msg = (
            "`images` must return one of the forward's arguments or a part of it, which can be "
            "put back, but returned something new. Return the pictures themselves."
        )
        raise ValueError(msg)
    return result


def _as(images: Any, changed: Any) -> Any:  # noqa: ANN401 # any pictures
    """Pictures of a tuple as a tuple."""
    return tuple(changed) if type(images) is tuple else changed


def _replaced(value: Any, new: dict[int, Any]) -> Any:  # noqa: ANN401 # any nesting
    """The same nesting with some objects replaced; what holds none of them is not copied."""
    if id(value) in new:
        return new[id(value)]
    if isinstance(value, Mapping):
        return _with(value, value.items(), new, operator.setitem)
    if isinstance(value, list | tuple):
        return _sequence(value, new)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _with(value, vars(value).items(), new, object.__setattr__)
    return value


def _with(
    holder: Any,  # noqa: ANN401 # any mapping or dataclass
    items: Any,  # noqa: ANN401 # its pairs
    new: dict[int, Any],
    put: Callable[[Any, Any, Any], None],
) -> Any:  # noqa: ANN401 # as `holder`
    parts = {key: (part, _replaced(part, new)) for key, part in items}
    fresh = {key: other for key, (part, other) in parts.items() if other is not part}
    if not fresh:
        return holder
    copied = copy.copy(holder)
    for key, part in fresh.items():
        put(copied, key, part)
    return copied


def _sequence(value: Sequence[Any], new: dict[int, Any]) -> Sequence[Any]:
    parts = [_replaced(part, new) for part in value]
    if all(part is old for part, old in zip(parts, value, strict=True)):
        return value
    make = cast("Callable[..., Sequence[Any]]", type(value))
    return make(*parts) if hasattr(value, "_fields") else make(parts)


def _inside(module: nn.Module) -> nn.Module:
    """The module whose forward the wrappers of parallel and compiled modules call."""
    kinds = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(module, kinds):
            module = module.module
        elif isinstance(getattr(module, "_orig_mod", None), nn.Module):
            module = cast("nn.Module", module._orig_mod)
        else:
            return module


def _signature_of(module: nn.Module) -> inspect.Signature:
    return inspect.signature(_inside(module).forward)


def _check_free(module: nn.Module) -> None:
    """Raise if the module, or one inside it, already has an adversary."""
    for each in module.modules():
        for hook in each._forward_pre_hooks.values():
            if isinstance(hook, Attachment) and hook._active:
                inside = "" if each is module else f" inside {type(module).__name__}"
                msg = (
                    "`module` must have at most one adversary, but "
                    f"{type(each).__name__}{inside} has one already. Call `remove()` on its handle "
                    "first."
                )
                raise ValueError(msg)


def _check_name(argument: str, name: str, signature: inspect.Signature, module: nn.Module) -> None:
    parameters = signature.parameters
    if name in parameters or any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        return
    msg = (
        f"`{argument}` must name an argument of {type(_inside(module)).__name__}.forward, which "
        f"has {list(parameters)}, but got {name!r}. Pass one of these names, or a callable."
    )
    raise ValueError(msg)


def _facts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """What a forward was called with, in words."""
    named = [f"{key}={describe(value)}" for key, value in kwargs.items()]
    return ", ".join([*map(describe, args), *named])

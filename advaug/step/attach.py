"""Augment the pictures on their way into a module: a hook for loops that cannot be touched."""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from advaug.base.checks import describe

if TYPE_CHECKING:
    from advaug.step.in_batch import InBatch

__all__ = ["Attachment", "Finder"]

Finder = str | Callable[..., Any]
"""Name of an argument of a forward, or a callable that takes the forward's arguments."""


class Attachment:
    """An adversary in front of a module's forward; what `SampleAdaptiveAdversary.attach` returns.

    Attributes:
        calls: How many batches went through it in training.
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
        if any(isinstance(hook, Attachment) for hook in module._forward_pre_hooks.values()):
            msg = (
                f"`module` must have one adversary, but {type(module).__name__} has one already. "
                "Call `remove()` on its handle first."
            )
            raise ValueError(msg)
        signature = inspect.signature(module.forward)
        for name, finder in (("images", images), ("target", target)):
            if isinstance(finder, str):
                _check_name(name, finder, signature, module)
        self.adversary = adversary
        self.calls = 0
        self._name = type(module).__name__
        self._finders = (images, target)
        self._signature = signature
        self._normalized = normalized
        self._pickled = pickled
        self._hook = module.register_forward_pre_hook(self, with_kwargs=True)

    def remove(self) -> None:
        """Let the module see its pictures as they are again."""
        self._hook.remove()
        held = self.adversary._attachments
        if self in held:
            held.remove(self)

    def findings(self) -> list[str]:
        """What is wrong, in words."""
        if self.calls:
            return []
        return [
            f"The adversary is attached to {self._name}, whose forward has not run in training "
            "mode. Attach it to the module that the trainer calls."
        ]

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Put augmented pictures in the place of those that the forward was called with."""
        if not module.training or not torch.is_grad_enabled():
            return None
        find_images, find_target = self._finders
        images = self._find("images", find_images, args, kwargs)
        target = None
        if find_target is not None:
            target = self._find("target", find_target, args, kwargs)
            if target is None:
                return None
        self.calls += 1
        changed = self.adversary.augment(images, target, normalized=self._normalized)
        found = [False]
        arguments = _replaced((args, kwargs), images, changed, found)
        if not found[0]:
            msg = (
                "`images` must return one of the forward's arguments or a part of it, which can be "
                "put back, but returned something new. Return the pictures themselves."
            )
            raise ValueError(msg)
        return arguments

    def _find(
        self, name: str, finder: Finder, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401 # any part of any batch
        if isinstance(finder, str):
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            keywords = [
                p.name for p in self._signature.parameters.values() if p.kind == p.VAR_KEYWORD
            ]
            named = dict(bound.arguments)
            for key in keywords:
                named.update(named.pop(key, {}))
            return named.get(finder)
        try:
            return finder(*args, **kwargs)
        except (AttributeError, LookupError, TypeError) as error:
            facts = [describe(value) for value in args] + [
                f"{key}={describe(value)}" for key, value in kwargs.items()
            ]
            msg = (
                f"`{name}` must find its part in the arguments of {self._name}, but raised "
                f"{error!r} for ({', '.join(facts)}). Take the forward's arguments and return a "
                "part of them."
            )
            raise ValueError(msg) from error

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:  # noqa: ANN401 # the hook or none
        """A copy of the module, such as an average of its weights, is not attacked."""
        if not self._pickled:
            return _no_hook
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(self.__dict__)  # the copy is attacked by the same adversary
        return copied

    def __reduce__(self) -> Any:  # noqa: ANN401 # pickle's
        """Pickle to nothing, unless it was asked to stay with the module."""
        if not self._pickled:
            return _the_empty_hook, ()
        return super().__reduce_ex__(2)

    def __getstate__(self) -> dict[str, Any]:
        """A signature cannot be pickled where its defaults cannot; it is read again."""
        return {**self.__dict__, "_signature": None}


def _no_hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """What is left of the hook in a copy of the module."""


def _the_empty_hook() -> Callable[..., None]:
    return _no_hook


def _check_name(argument: str, name: str, signature: inspect.Signature, module: nn.Module) -> None:
    parameters = signature.parameters
    if name in parameters or any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        return
    msg = (
        f"`{argument}` must name an argument of {type(module).__name__}.forward, which has "
        f"{list(parameters)}, but got {name!r}. Pass one of these names, or a callable."
    )
    raise ValueError(msg)


def _replaced(value: Any, old: Any, new: Any, found: list[bool]) -> Any:  # noqa: ANN401 # any nesting
    """The same nesting, with one object in it replaced; containers on the way are copied."""
    if value is old:
        found[0] = True
        return new
    if isinstance(value, Mapping):
        replaced = {key: _replaced(part, old, new, found) for key, part in value.items()}
        return replaced if type(value) is dict or not found[0] else _like(value, replaced)
    if type(value) in (tuple, list):
        return type(value)(_replaced(part, old, new, found) for part in value)
    return value


def _like(mapping: Any, replaced: dict[Any, Any]) -> Any:  # noqa: ANN401 # any mapping
    """A mapping of the same type, such as a BatchFeature, with other values."""
    copied = mapping.copy() if hasattr(mapping, "copy") else mapping
    for key, part in replaced.items():
        copied[key] = part
    return copied

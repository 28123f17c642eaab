"""The arms of a study: what is added to plain training, by name and options."""

import ast
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from advaug.report import StepReport
from advaug.step.loan import Detector
from advaug.tasks import sum_of
from lab.study.own import Change
from lab.trainer import Seen

__all__ = ["Arm", "Over", "Together", "check_arms", "parse_variant"]

MakeDefence = Callable[..., nn.Module | None]
"""`make(task, seed, **options)`: a defence, or None for plain training."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        make: Builds what is added to the detector's own loss.
        options: Its keyword arguments; literals, so that a file can hold them.
        sees: Which pictures the defence gets; see `Trainer`.
        own: What is done to half of the detector's own training pictures, by name; see
            `lab.study.own`.
    """

    make: MakeDefence
    options: Mapping[str, Any] = field(default_factory=dict)
    sees: Seen = "augmented"
    own: Change | None = None

    def description(self) -> dict[str, Any]:
        """What tells this arm from another, for a json file."""
        return {
            "make": self.make.__name__,
            "options": dict(self.options),
            "sees": self.sees,
            "own": self.own,
        }


class Over(nn.Module):
    """A defence that starts from changed pictures: erased ones, say.

    Args:
        change: A callable `(images, target) -> (images, target)`. What it draws from the global
            random state is the run's own, seeded and resumed with it.
        defence: Gets what the change gives.
    """

    def __init__(
        self, change: Callable[[Tensor, Any], tuple[Tensor, Any]], defence: nn.Module
    ) -> None:
        super().__init__()
        self.change = change
        self.leading = defence

    def forward(self, detector: Detector, images: Tensor, target: Any) -> Tensor:  # noqa: ANN401 # the task's
        """The defence's loss, a scalar."""
        return self.leading(detector, *self.change(images, target))

    @property
    def report(self) -> StepReport | None:
        """The last report of the defence, if it gives any."""
        return getattr(self.leading, "report", None)


class Together(nn.Module):
    """Several defences at once: the sum of their losses.

    Args:
        defences: The first is the one whose report and pictures are shown.
    """

    def __init__(self, *defences: nn.Module) -> None:
        super().__init__()
        self.defences = nn.ModuleList(defences)

    @property
    def leading(self) -> nn.Module:
        """The first defence."""
        return self.defences[0]

    def forward(self, detector: Detector, images: Tensor, target: Any) -> Tensor:  # noqa: ANN401 # the task's
        """The sum, a scalar."""
        return sum_of([defence(detector, images, target) for defence in self.defences])

    @property
    def report(self) -> StepReport | None:
        """The last report of the first defence, if it gives any."""
        return getattr(self.leading, "report", None)


def check_arms(names: Iterable[str], arms: Mapping[str, Arm]) -> None:
    """Raise unless all `names` are among the arms."""
    unknown = [name for name in names if name not in arms]
    if unknown:
        close = difflib.get_close_matches(unknown[0], arms, n=1)
        fix = f"Did you mean {close[0]!r}?" if close else "Choose among them, or add a `--variant`."
        msg = (
            f"`--arms` must be among {', '.join(arms)}, but got "
            f"{', '.join(map(repr, unknown))}. {fix}"
        )
        raise ValueError(msg)


def parse_variant(text: str, arms: Mapping[str, Arm], base: str = "saat") -> tuple[str, Arm]:
    """An arm from a line: another arm with some options changed.

    Args:
        text: `NAME:option=value,...`, values as in Python; a word may go without quotes.
            `base=ARM` says which arm is changed.
        arms: Those that may be changed.
        base: The arm that is changed without a word about it.

    Returns:
        Name and arm.

    Raises:
        ValueError: If the line cannot be read, or the name is taken or none for a folder.
    """
    name, colon, rest = text.partition(":")
    if not colon or not _NAME.fullmatch(name) or name in arms:
        msg = (
            "`--variant` must be NAME:option=value,... with a new name of letters, digits and "
            f"'.+_-', but got {text!r}. For example wide:beta=semantic,target=0.8."
        )
        raise ValueError(msg)
    options = _read_options(text, rest)
    origin = options.pop("base", base)
    check_arms([origin], arms)
    changed = arms[origin]
    return name, replace(changed, options={**changed.options, **options})


def _read_options(text: str, rest: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"_({rest})", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args:
            raise SyntaxError
        return {str(word.arg): _value(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, AssertionError) as error:
        msg = (
            f"`--variant` must give its options as option=value,... but got {text!r}. Values are "
            "Python's literals: beta=semantic,target=0.8,structure=False."
        )
        raise ValueError(msg) from error


def _value(node: ast.expr) -> Any:  # noqa: ANN401 # any literal
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)

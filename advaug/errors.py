"""The errors of the library: each names the argument or file, the rule, the fact and the fix."""

from collections.abc import Sequence

__all__ = ["DatasetError", "ShapeError"]


class ShapeError(ValueError):
    """A tensor has the wrong number of axes or the wrong size along one."""


class DatasetError(ValueError):
    """A file or folder of a dataset cannot be used; the message lists every broken file.

    Attributes:
        problems: One message per problem, where a whole dataset was checked.
        usable: How many samples could be used nevertheless.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = (), usable: int = 0) -> None:
        super().__init__(message)
        self.problems = tuple(problems)
        self.usable = usable

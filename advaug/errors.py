"""The errors of the library: each names the argument or file, the rule, the fact and the fix."""

__all__ = ["DatasetError", "ShapeError"]


class ShapeError(ValueError):
    """A tensor has the wrong number of axes or the wrong size along one."""


class DatasetError(ValueError):
    """A file or folder of a dataset cannot be used; the message lists every broken file."""

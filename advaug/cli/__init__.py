"""The command `advaug`: one file for each group of sub-commands."""

from advaug.cli.main import main

__all__ = ["main"]

"""Where the attacker may draw, and how the detector sees what it drew."""

from advaug.view.appearance import RandomAppearance
from advaug.view.regions import RandomRegions

__all__ = ["RandomAppearance", "RandomRegions"]

"""The paper's tables and figures, made again: what `reproduce.py` runs."""

from lab.reproduce.figures import FIGURES
from lab.reproduce.reproduction import reproduce
from lab.reproduce.settings import BUDGETS, DETECTORS, Settings
from lab.reproduce.sources import SOURCES
from lab.reproduce.tables import TABLES

__all__ = ["BUDGETS", "DETECTORS", "FIGURES", "SOURCES", "TABLES", "Settings", "reproduce"]

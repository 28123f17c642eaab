"""A study that fits its time: many runs share one device, all end, and each file is whole."""

from lab.timed.arms import ARMS
from lab.timed.plans import PLANS
from lab.timed.report import write_report
from lab.timed.settings import Settings
from lab.timed.study import run_study

__all__ = ["ARMS", "PLANS", "Settings", "run_study", "write_report"]

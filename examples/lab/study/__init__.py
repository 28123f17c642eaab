"""A study that fits its time: many runs share one device, all end, and each file is whole."""

from lab.study.arms import ARMS
from lab.study.plans import PLANS
from lab.study.report import write_report
from lab.study.settings import Settings
from lab.study.study import run_study

__all__ = ["ARMS", "PLANS", "Settings", "run_study", "write_report"]

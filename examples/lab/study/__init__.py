"""Compare many defences over many seeds at an equal budget, in runs that can be stopped at will."""

from lab.study.arms import Arm, Over, Together, check_arms, parse_variant
from lab.study.report import write_report
from lab.study.runs import Study
from lab.study.settings import StudySettings

__all__ = [
    "Arm",
    "Over",
    "Study",
    "StudySettings",
    "Together",
    "check_arms",
    "parse_variant",
    "write_report",
]

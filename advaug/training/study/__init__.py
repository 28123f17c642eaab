"""Compare many defences over many seeds at an equal budget, in runs that can be stopped at will."""

from advaug.training.study.arms import Arm, Over, Together, check_arms, parse_variant
from advaug.training.study.report import write_report
from advaug.training.study.runs import Study
from advaug.training.study.settings import StudySettings

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

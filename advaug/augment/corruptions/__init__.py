"""Landmark-C: a benchmark of corruptions that leave landmarks where they are."""

from advaug.augment.corruptions.benchmark import (
    BENCHMARK,
    BENCHMARK_VERSION,
    CORRUPTIONS,
    GROUPS,
    SEVERITIES,
    UNLIKE,
    Corruption,
    Square,
    check_kinds,
    check_severities,
    corrupt,
)

__all__ = [
    "BENCHMARK",
    "BENCHMARK_VERSION",
    "CORRUPTIONS",
    "GROUPS",
    "SEVERITIES",
    "UNLIKE",
    "Corruption",
    "Square",
    "check_kinds",
    "check_severities",
    "corrupt",
]

"""Detectors of landmarks: ordinary modules that know nothing of the adversary."""

from advaug.detectors.hourglass import HourglassNet

__all__ = ["HourglassNet"]

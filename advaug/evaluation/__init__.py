"""Measure detectors: errors of predicted landmarks and their summaries."""

from advaug.evaluation.metrics import auc, ced, failure_rate, nme

__all__ = ["auc", "ced", "failure_rate", "nme"]

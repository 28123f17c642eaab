"""Measure detectors: errors of predicted landmarks and their summaries."""

from advaug.evaluation.corruptions import CorruptionErrors, evaluate_corruptions
from advaug.evaluation.evaluate import CONDITIONS, Errors, evaluate, predict
from advaug.evaluation.metrics import auc, ced, failure_rate, nme

__all__ = [
    "CONDITIONS",
    "CorruptionErrors",
    "Errors",
    "auc",
    "ced",
    "evaluate",
    "evaluate_corruptions",
    "failure_rate",
    "nme",
    "predict",
]

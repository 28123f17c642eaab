"""Measure detectors: errors of predicted landmarks and their summaries."""

from advaug.evaluation.evaluate import CONDITIONS, Errors, evaluate, predict
from advaug.evaluation.metrics import auc, ced, failure_rate, nme

__all__ = ["CONDITIONS", "Errors", "auc", "ced", "evaluate", "failure_rate", "nme", "predict"]

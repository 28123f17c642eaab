"""Measure detectors: errors of predicted landmarks and their summaries."""

from advaug.evaluation.corruptions import CorruptionErrors, evaluate_corruptions
from advaug.evaluation.evaluate import CONDITIONS, Errors, evaluate, predict
from advaug.evaluation.exported import load_onnx
from advaug.evaluation.html import write_html
from advaug.evaluation.loaded import LoadedDetector, load_function, load_weights
from advaug.evaluation.measuring import Evaluation, measure
from advaug.evaluation.metrics import auc, ced, failure_rate, nme
from advaug.evaluation.planning import Plan
from advaug.evaluation.predictions import Pace, Predictions
from advaug.evaluation.sets import EvaluationSet, Request, choose_subsets, open_set
from advaug.evaluation.summary import (
    Curve,
    Details,
    Measured,
    Measures,
    Protocol,
    SubsetSummary,
)
from advaug.evaluation.tables import write_tables

__all__ = [
    "CONDITIONS",
    "CorruptionErrors",
    "Curve",
    "Details",
    "Errors",
    "Evaluation",
    "EvaluationSet",
    "LoadedDetector",
    "Measured",
    "Measures",
    "Pace",
    "Plan",
    "Predictions",
    "Protocol",
    "Request",
    "SubsetSummary",
    "auc",
    "ced",
    "choose_subsets",
    "evaluate",
    "evaluate_corruptions",
    "failure_rate",
    "load_function",
    "load_onnx",
    "load_weights",
    "measure",
    "nme",
    "open_set",
    "predict",
    "write_html",
    "write_tables",
]

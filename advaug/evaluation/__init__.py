"""Measure detectors: errors of predicted landmarks and their summaries."""

from advaug.evaluation.corruptions import CorruptionErrors, evaluate_corruptions
from advaug.evaluation.evaluate import CONDITIONS, Errors, evaluate, predict
from advaug.evaluation.exported import load_onnx
from advaug.evaluation.html import write_html
from advaug.evaluation.loaded import LoadedDetector, load_function, load_weights
from advaug.evaluation.measuring import Evaluation, measure
from advaug.evaluation.metrics import auc, ced, failure_rate, nme
from advaug.evaluation.planning import Plan
from advaug.evaluation.sets import EvaluationSet, Request, choose_subsets, open_set
from advaug.evaluation.summary import Protocol
from advaug.evaluation.tables import write_tables

__all__ = [
    "CONDITIONS",
    "CorruptionErrors",
    "Errors",
    "Evaluation",
    "EvaluationSet",
    "LoadedDetector",
    "Plan",
    "Protocol",
    "Request",
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

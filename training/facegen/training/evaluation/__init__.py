"""Measures models on pictures they have not seen, beside cheap rivals and the floor."""

from facegen.training.evaluation.evaluate import evaluate_run, evaluate_served, evaluate_subject
from facegen.training.evaluation.options import EvaluationOptions
from facegen.training.evaluation.rendered import evaluate_rendered
from facegen.training.evaluation.subject import Encoded, Subject, SubjectFacts

__all__ = [
    "Encoded",
    "EvaluationOptions",
    "Subject",
    "SubjectFacts",
    "evaluate_rendered",
    "evaluate_run",
    "evaluate_served",
    "evaluate_subject",
]

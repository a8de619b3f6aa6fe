"""Which form of a graph is written: of those that pass every check, the fastest here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnxruntime

from facegen.export.checks import (
    LevelError,
    VertexError,
    check_batch_independence,
    check_structure,
)
from facegen.export.errors import GraphError
from facegen.export.plans import GraphPlan
from facegen.export.runtime import measure_ms, open_session
from facegen.export.storage import store

__all__ = ["DECISIVE_BATCH_SIZES", "GraphTrial", "Measurement", "select_form"]

DECISIVE_BATCH_SIZES = (1, 16)
"""A single face and a usual full batch: the geometric mean of their times decides."""

_WORTH_IT = 0.98
"""A form comes before an earlier one of the plan only if it takes less than this of its time."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """How long and how often to measure.

    Attributes:
        repetitions: Turns of which the fastest counts; 0 measures nothing and takes the first form
            that passes the checks.
        batch_sizes: Rows of one execution.
    """

    repetitions: int = 15
    batch_sizes: tuple[int, ...] = (1, 4, 16, 64)


@dataclass(frozen=True, slots=True)
class GraphTrial:
    """A form of a graph that passed the checks against PyTorch.

    Attributes:
        form: The form's name.
        model: The graph as it is written.
        session: The graph, open.
        error: How its pixels or vertices differ from PyTorch's; None for a prior.
        plain_size: Bytes of the plain form with float32 weights; 0 if not built.
        times_ms: Milliseconds a row by form and batch size, on one thread; "plain, float32" is the
            graph without rewrites.
    """

    form: str
    model: onnx.ModelProto
    session: onnxruntime.InferenceSession
    error: LevelError | VertexError | None
    plain_size: int
    times_ms: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True, slots=True)
class _Candidate:
    form: str
    full: onnx.ModelProto
    stored: onnx.ModelProto
    session: onnxruntime.InferenceSession
    error: LevelError | VertexError | None


def select_form(
    plan: GraphPlan, name: str, *, batch_sizes: Sequence[int], measurement: Measurement
) -> GraphTrial:
    """Build, check and time the forms of one graph.

    Args:
        plan: The graph.
        name: Its name in the model repository.
        batch_sizes: Batch sizes in which every row must have the same bits.
        measurement: How to time.

    Raises:
        GraphError: No form passes; the error of the last, the plain one.
    """
    passed, failure = _candidates(plan, name, first_only=not measurement.repetitions)
    plain = next((candidate for candidate in passed if candidate.form == "plain"), None)
    sessions = {candidate.form: candidate.session for candidate in passed}
    if plain is not None and len(plan.forms) > 1:
        sessions["plain, float32"] = open_session(plain.full)
    times_ms = measure_ms(
        sessions,
        plan.rows,
        batch_sizes=measurement.batch_sizes,
        repetitions=measurement.repetitions,
    )
    for candidate in _fastest_first(passed, times_ms):
        try:
            check_batch_independence(name, candidate.session, plan.rows, batch_sizes=batch_sizes)
        except GraphError as error:
            failure = error
            continue
        return GraphTrial(
            candidate.form,
            candidate.stored,
            candidate.session,
            candidate.error,
            plain_size=plain.full.ByteSize() if plain else 0,
            times_ms=times_ms,
        )
    assert failure is not None, "a plan has at least one form"
    raise failure


def _candidates(
    plan: GraphPlan, name: str, *, first_only: bool
) -> tuple[list[_Candidate], GraphError | None]:
    """Build the forms; those that pass, and the last error of those that do not."""
    passed: list[_Candidate] = []
    failure: GraphError | None = None
    for form in plan.forms:
        try:
            passed.append(_build(plan, name, form))
        except GraphError as error:
            failure = error
            continue
        if first_only:
            break
    return passed, failure


def _build(plan: GraphPlan, name: str, form: str) -> _Candidate:
    full = plan.forms[form](name)
    stored = store(full, plan.storage)
    check_structure(stored)
    session = open_session(stored)
    return _Candidate(form, full, stored, session, plan.parity(name, session))


def _fastest_first(
    candidates: list[_Candidate], times_ms: Mapping[str, Mapping[int, float]]
) -> list[_Candidate]:
    """Sort by time; those within a hair of the fastest keep the plan's order."""
    if not all(times_ms[candidate.form] for candidate in candidates):
        return candidates
    scores = {candidate.form: _score(times_ms[candidate.form]) for candidate in candidates}
    level = min(scores.values(), default=0.0) / _WORTH_IT
    return sorted(candidates, key=lambda candidate: max(scores[candidate.form], level))


def _score(times_ms: Mapping[int, float]) -> float:
    sizes = [size for size in DECISIVE_BATCH_SIZES if size in times_ms] or list(times_ms)
    return math.exp(sum(math.log(times_ms[size]) for size in sizes) / len(sizes))

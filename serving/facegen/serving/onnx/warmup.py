"""Runs a model before it serves: its own warm-up, and a search for the batch size that pays."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from facegen.serving.engine import Array, ModelInfo, TensorSpec
from facegen.serving.errors import RepositoryError
from facegen.serving.onnx.description import ModelDescription
from facegen.serving.onnx.sessions import Session

__all__ = ["measure_batch_rows", "warm_up"]

_LOGGER = logging.getLogger(__name__)

# On CPUs, more rows are hardly faster and keep others waiting; fewer cost executions.
_USUAL_ROWS = 16
_MOST_MEASURED_ROWS = 64
# Of wall time: models that serve one by one start within a second or two.
_BUDGET_S = 0.05
_REPETITIONS = 2
# A size is taken instead of the usual one if a row costs less than this of its time: neighbours on
# the machine move a measurement by more than a few per cent.
_WORTH_IT = 0.9
# What an execution costs beyond the graph: waking, joining, splitting, waiting for the interpreter.
_EXECUTION_S = 200e-6


def warm_up(path: Path, model: ModelDescription, session: Session) -> None:
    """Run a model's `model_warmup`.

    Raises:
        RepositoryError: It fails on its own samples.
    """
    for sample in model.warmup:
        inputs = _inputs(model.info, sample.rows, sample.shapes, sample.random_inputs)
        try:
            for _ in range(sample.count):
                session.run(inputs)
        except Exception as error:  # ONNX Runtime's errors share no other root
            raise RepositoryError(
                path, f"it fails its warm-up: {error}", "export the model again"
            ) from error


def measure_batch_rows(model: ModelDescription, session: Session) -> int:
    """Find the rows of an execution at which a row costs least: 16, or what is a tenth better.

    It takes about 0.05 s. What a row gives does not depend on it, so noise does no harm. Where the
    time is too short for an answer, or the model fails on zeros, 16 rows are taken.

    Returns:
        At most the model's max_batch_size; 0 if it has no batch axis.
    """
    limit = model.info.max_batch_size
    if limit <= 1:
        return limit
    try:
        return _measured(model.info, session)
    except Exception as error:  # zeros may be no input for this graph
        _LOGGER.info("batch size not measured model=%s problem=%s", model.info.name, error)
        return min(limit, _USUAL_ROWS)


def _measured(info: ModelInfo, session: Session) -> int:
    until = time.perf_counter() + _BUDGET_S
    most = min(info.max_batch_size, _MOST_MEASURED_ROWS)
    usual = min(info.max_batch_size, _USUAL_ROWS)
    row_s: dict[int, float] = {}
    # The usual size first: where time runs out, it is known.
    for rows in (usual, *(1 << power for power in range(most.bit_length()))):
        if row_s and time.perf_counter() > until:
            break
        inputs = _inputs(info, rows, _shapes(info), frozenset())
        session.run(inputs)  # the first run of a size pays for its memory
        row_s[rows] = (min(_run_s(session, inputs, until)) + _EXECUTION_S) / rows
    best = min(row_s, key=row_s.__getitem__)
    return best if row_s[best] < _WORTH_IT * row_s[usual] else usual


def _run_s(session: Session, inputs: dict[str, Array], until: float) -> list[float]:
    """Time runs in the CPU's seconds, which other processes lengthen least."""
    times_s: list[float] = []
    while not times_s or (len(times_s) < _REPETITIONS and time.perf_counter() < until):
        started = time.thread_time()
        session.run(inputs)
        times_s.append(time.thread_time() - started)
    return times_s


def _shapes(info: ModelInfo) -> dict[str, tuple[int, ...]]:
    return {
        tensor.name: tuple(max(1, size) for size in tensor.shape)
        for tensor in info.inputs
        if not tensor.optional
    }


def _inputs(
    info: ModelInfo, rows: int, shapes: Mapping[str, tuple[int, ...]], random: frozenset[str]
) -> dict[str, Array]:
    leading = (rows,) if info.max_batch_size else ()
    return {
        tensor.name: _values(tensor, (*leading, *shapes[tensor.name]), tensor.name in random)
        for tensor in info.inputs
        if tensor.name in shapes
    }


def _values(tensor: TensorSpec, shape: tuple[int, ...], random: bool) -> Array:
    if tensor.dtype == object:
        return np.full(shape, "", object)
    values = np.random.default_rng(0).random(shape) if random else np.zeros(shape)
    return values.astype(tensor.dtype)

"""ONNX Runtime as export uses it: one thread, CPU, every row by itself comparable."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

__all__ = ["Array", "Rows", "measure_ms", "open_session", "run_rows"]

Array = NDArray[Any]
Rows = Mapping[str, Array]
"""Arrays by input or output name, the same number of rows in each."""


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU with one thread and ONNX Runtime's default optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run_rows(
    session: onnxruntime.InferenceSession, rows: Rows, *, batch_size: int | None = None
) -> dict[str, Array]:
    """Run all rows, at most `batch_size` in one execution (None: all in one)."""
    count = len(next(iter(rows.values())))
    step = batch_size or count
    names = [output.name for output in session.get_outputs()]
    parts = [
        session.run(names, {name: array[first : first + step] for name, array in rows.items()})
        for first in range(0, count, step)
    ]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def measure_ms(
    sessions: Mapping[str, onnxruntime.InferenceSession],
    rows: Rows,
    *,
    batch_sizes: tuple[int, ...],
    repetitions: int,
) -> dict[str, dict[int, float]]:
    """Time graphs against each other, in turns, so that what else the machine does hits all alike.

    Args:
        sessions: The graphs by name.
        rows: At least one row; repeated to fill a batch.
        batch_sizes: Rows of one execution.
        repetitions: Turns; the fastest of a graph counts.

    Returns:
        Milliseconds a row by name and batch size; without repetitions no times.
    """
    best: dict[str, dict[int, float]] = {name: {} for name in sessions}
    for turn in range(repetitions + 1 if repetitions else 0):
        for size in batch_sizes:
            feed = {
                name: np.resize(array, (size, *array.shape[1:])) for name, array in rows.items()
            }
            calls = max(1, 16 // size)
            for name, session in sessions.items():
                start = time.perf_counter()
                for _ in range(calls):
                    session.run(None, feed)
                spent_ms = (time.perf_counter() - start) * 1e3 / (calls * size)
                if turn:  # the first turn warms up
                    best[name][size] = min(best[name].get(size, spent_ms), spent_ms)
    return best

"""Which models serve, and how fast each is: one after the other, since two would disturb."""

import dataclasses
import time
from collections.abc import Callable, Iterator

import numpy as np

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.config import ServerConfig
from facegen.serving.doctor.report import GraphReport, Speed
from facegen.serving.engine import Array, Engine, ModelInfo, TensorSpec, VersionState
from facegen.serving.engines import open_engine
from facegen.serving.errors import BackendError

__all__ = ["examine_graphs", "measure_speed"]

_ROWS = (1, 8, 16)
# With more graphs than this each gets less time.
_MAX_TOTAL_S = 60.0
_MAX_ANSWER_S = 30.0


def examine_graphs(
    config: ServerConfig, *, probe_s: float, say: Callable[[str], None]
) -> Iterator[GraphReport]:
    """Load and probe every version of every model.

    A repository's models are loaded here by one thread, one at a time; those of a remote server are
    called as they serve.

    Args:
        config: Engine, device and batch limits.
        probe_s: Seconds for each graph, loading apart; less where there are many.
        say: Told what is about to happen and how long it takes.

    Raises:
        FacegenError: There is no engine to open.
    """
    is_local = config.engine.startswith("onnx:")
    alone = {"threads": 1, "model_control": "explicit", "load_models": ()} if is_local else {}
    engine = open_engine(config.model_copy(update=alone))
    try:
        names = sorted({line.name for line in engine.index()})
        each_s = min(probe_s, _MAX_TOTAL_S / max(1, len(names)))
        if each_s:
            models = f"{len(names)} model" + "s" * (len(names) != 1)
            loading = " and loading" if is_local else ""
            say(f"timing {models}, one after the other: {each_s * len(names):.2g} s{loading}")
        for name in names:
            state = _load(engine, name) if is_local else ""
            lines = [line for line in engine.index() if line.name == name]
            ready = sum(line.state == "READY" for line in lines)
            for line in lines:
                graph = _examine(engine, line, each_s / max(1, ready))
                yield dataclasses.replace(graph, state=state or graph.state)
            if is_local and ready:
                engine.unload(name)
    finally:
        engine.close()


def _load(engine: Engine, name: str) -> str:
    """Load a model; gives the state of a version that did not become ready."""
    try:
        engine.load(name)
    except BackendError:
        return "PASSED OVER"
    except FacegenError:
        return ""  # the index has it, and the reason
    return ""


def _examine(engine: Engine, line: VersionState, probe_s: float) -> GraphReport:
    if line.state != "READY":
        return GraphReport(line.name, line.version, line.state, line.reason, 0, ())
    model = engine.model(line.name, line.version)
    sizes = [rows for rows in _ROWS if rows <= max(1, model.max_batch_size)]
    reason, speeds = line.reason, []
    try:
        if probe_s > 0:
            speeds = [measure_speed(engine, model, rows, probe_s / len(sizes)) for rows in sizes]
    except FacegenError as error:  # noise may be no input for this graph
        reason = str(error)
    (counted,) = engine.statistics(line.name, line.version)
    executed = max(counted.batches, default=0)
    return GraphReport(line.name, line.version, line.state, reason, executed, tuple(speeds))


def measure_speed(engine: Engine, model: ModelInfo, rows: int, duration_s: float) -> Speed:
    """Measure how many rows a second a graph runs, by what the engine counts.

    Args:
        engine: What runs it.
        model: The model.
        rows: Rows of a request, which the engine may split.
        duration_s: For how long; the first request is not counted, and one more is made at least.

    Raises:
        FacegenError: As `Engine.infer`.
    """
    inputs = {
        tensor.name: _values(tensor, rows if model.max_batch_size else 0)
        for tensor in model.inputs
        if not tensor.optional
    }

    def run() -> None:
        context = CallContext(timeout_s=_MAX_ANSWER_S)
        engine.infer(model.name, inputs, version=model.version, context=context)

    run()
    rows_before, seconds_before = _executed(engine, model)
    begun = time.perf_counter()
    run()
    while time.perf_counter() < begun + duration_s:
        run()
    rows_after, seconds_after = _executed(engine, model)
    return Speed(rows, (rows_after - rows_before) / (seconds_after - seconds_before))


def _executed(engine: Engine, model: ModelInfo) -> tuple[int, float]:
    """Rows that ran so far, and the seconds that they took in the graph."""
    (counted,) = engine.statistics(model.name, model.version)
    runs = [(rows, batch.compute_infer) for rows, batch in counted.batches.items()]
    rows = sum(max(1, rows) * run.count for rows, run in runs)
    return rows, sum(run.total_ns for _, run in runs) / 1e9


def _values(tensor: TensorSpec, rows: int) -> Array:
    """Noise for numbers that are measured, zeros for those that count or name something."""
    shape = ((rows,) if rows else ()) + tuple(max(1, size) for size in tensor.shape)
    if tensor.dtype == object:
        return np.full(shape, b"", object)
    random = np.random.default_rng(0)
    if tensor.dtype == np.uint8:
        return random.integers(0, 256, shape, np.uint8)
    if tensor.dtype.kind in "iub":
        return np.zeros(shape, tensor.dtype)
    return random.standard_normal(shape).astype(tensor.dtype)

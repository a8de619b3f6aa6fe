import queue
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from facegen.errors import FacegenError
from facegen.serving.call_context import CallContext
from facegen.serving.engine import InferRequest
from facegen.serving.errors import (
    DeadlineError,
    DeviceError,
    EngineClosedError,
    InputError,
    ModelNotFoundError,
    RepositoryError,
)
from facegen.serving.onnx.engine import OnnxEngine

WriteModel = Callable[..., Path]
Answer = dict[str, NDArray[Any]] | FacegenError


def _rows(count: int, *, first: int = 0) -> NDArray[np.float32]:
    return np.arange(first * 4, (first + count) * 4, dtype=np.float32).reshape(count, 4)


def _submit_all(
    engine: OnnxEngine, inputs: list[NDArray[np.float32]], *, model: str = "double"
) -> list[dict[str, NDArray[Any]]]:
    """Submit all at once and wait for all answers."""
    arrived: queue.SimpleQueue[None] = queue.SimpleQueue()
    answers: dict[int, dict[str, NDArray[Any]]] = {}

    def done(index: int, answer: Answer) -> None:
        if isinstance(answer, dict):
            answers[index] = answer
        arrived.put(None)

    for index, rows in enumerate(inputs):
        engine.submit(InferRequest(model, {"x": rows}), partial(done, index))
    for _ in inputs:
        arrived.get(timeout=60)
    return [answers[index] for index in range(len(inputs))]


@pytest.mark.parametrize("count", [1, 8, 9, 100])
def test_any_number_of_rows_is_answered_in_order(write_model: WriteModel, count: int) -> None:
    with OnnxEngine(write_model()) as engine:
        outputs = engine.infer("double", {"x": _rows(count)})

    np.testing.assert_array_equal(outputs["y"], 2 * _rows(count))


def test_concurrent_callers_each_get_their_own_rows(write_model: WriteModel) -> None:
    sizes = [1, 3, 16, 40, 2, 7] * 5
    with OnnxEngine(write_model(), threads=2, max_batch_rows=8) as engine:
        answers = _submit_all(engine, [_rows(n, first=i) for i, n in enumerate(sizes)])
        (statistics,) = engine.statistics("double")

    for index, (size, answer) in enumerate(zip(sizes, answers, strict=True)):
        np.testing.assert_array_equal(answer["y"], 2 * _rows(size, first=index))
    executed = {rows: batch.compute_infer.count for rows, batch in statistics.batches.items()}
    assert sum(rows * count for rows, count in executed.items()) == sum(sizes)
    assert 1 < max(executed) <= 8
    assert statistics.inference_count == sum(sizes)
    assert statistics.success.count == len(sizes)


def test_a_row_gives_the_same_bits_in_any_batch(write_model: WriteModel) -> None:
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((40, 4), dtype=np.float32)
    path = write_model(weight=generator.standard_normal((4, 4), dtype=np.float32))

    with OnnxEngine(path) as engine:
        whole = engine.infer("double", {"x": rows})["y"]
        alone = [engine.infer("double", {"x": row[None]})["y"] for row in rows]
        mixed = _submit_all(engine, [rows[at : at + 3] for at in range(0, 40, 3)])

    np.testing.assert_array_equal(np.concatenate(alone), whole)
    np.testing.assert_array_equal(np.concatenate([answer["y"] for answer in mixed]), whole)


def test_models_are_listed_by_name_and_version_with_their_parameters(
    write_model: WriteModel,
) -> None:
    write_model("b", versions=("9", "10"), extra="version_policy { all {} }")
    path = write_model("a", extra='parameters { key: "k" value { string_value: "v" } }')

    with OnnxEngine(path) as engine:
        models = engine.models()
        newest = engine.model("b")

    listed = [(model.name, model.version) for model in models]
    assert listed == [("a", "1"), ("b", "9"), ("b", "10")]
    assert newest.version == "10"
    assert models[0].parameters["k"] == "v"
    assert models[0].max_batch_size == 16
    assert models[0].inputs[0].shape == (4,)


@pytest.mark.parametrize(
    ("inputs", "field", "message"),
    [
        ({}, "inputs", r"\[\] given"),
        ({"x": _rows(1), "more": _rows(1)}, "inputs", "more"),
        ({"x": _rows(1).astype(np.float64)}, "x", "float64.*takes float32"),
        ({"x": _rows(1)[0]}, "x", r"has shape \(4,\)"),
        ({"x": np.zeros((1, 5), np.float32)}, "x", r"has shape \(1, 5\)"),
        ({"x": np.zeros((0, 4), np.float32)}, "x", "no rows"),
        ({"x": np.zeros((), np.float32)}, "x", r"has shape \(\)"),
    ],
)
def test_wrong_inputs_are_refused_by_field(
    write_model: WriteModel, inputs: dict[str, NDArray[np.float32]], field: str, message: str
) -> None:
    with OnnxEngine(write_model()) as engine, pytest.raises(InputError, match=message) as caught:
        engine.infer("double", inputs)

    assert caught.value.field == field


def test_an_output_that_does_not_exist_is_refused_by_name(write_model: WriteModel) -> None:
    with OnnxEngine(write_model()) as engine:
        with pytest.raises(InputError, match=r"\['z'\] wanted, model \"double\" gives \['y'\]"):
            engine.infer("double", {"x": _rows(1)}, outputs=("y", "z"))
        answer = engine.infer("double", {"x": _rows(1)}, outputs=("y",))

    assert list(answer) == ["y"]


def test_errors_go_to_the_callback_and_are_never_raised(write_model: WriteModel) -> None:
    answers: list[Answer] = []
    engine = OnnxEngine(write_model()).start()
    engine.submit(InferRequest("treble", {"x": _rows(1)}), answers.append)
    engine.submit(InferRequest("double", {"z": _rows(1)}), answers.append)
    engine.submit(InferRequest("double", {"x": _rows(1)}, outputs=("z",)), answers.append)
    engine.submit(InferRequest("double", {"x": _rows(1)}, version="7"), answers.append)
    engine.close()
    engine.submit(InferRequest("double", {"x": _rows(1)}), answers.append)

    assert [type(answer) for answer in answers] == [
        ModelNotFoundError,
        InputError,
        InputError,
        ModelNotFoundError,
        EngineClosedError,
    ]


def test_unknown_model_and_version_are_refused_and_what_is_ready_named(
    write_model: WriteModel,
) -> None:
    with OnnxEngine(write_model()) as engine:
        with pytest.raises(ModelNotFoundError, match="ready: double"):
            engine.infer("treble", {"x": _rows(1)})
        with pytest.raises(ModelNotFoundError, match=r'version "2".*ready: double 1'):
            engine.infer("double", {"x": _rows(1)}, version="2")
        with pytest.raises(ModelNotFoundError):
            engine.model("double", "2")
        with pytest.raises(ModelNotFoundError):
            engine.statistics("treble")


def test_a_timeout_that_has_passed_is_answered_at_once_and_nothing_runs(
    write_model: WriteModel,
) -> None:
    with OnnxEngine(write_model()) as engine:
        with pytest.raises(DeadlineError):
            engine.infer("double", {"x": _rows(1)}, context=CallContext(timeout_s=0.0))

        assert engine.statistics("double")[0].execution_count == 0


def test_close_finishes_what_waits_and_refuses_what_comes(write_model: WriteModel) -> None:
    engine = OnnxEngine(write_model(), threads=1).start()
    answers: list[Answer] = []
    engine.submit(InferRequest("double", {"x": _rows(500)}), answers.append)

    engine.close()

    (answer,) = answers
    assert isinstance(answer, dict)
    np.testing.assert_array_equal(answer["y"], 2 * _rows(500))
    with pytest.raises(EngineClosedError):
        engine.infer("double", {"x": _rows(1)})
    with pytest.raises(EngineClosedError):
        engine.load("double")
    engine.close()


def test_a_closed_engine_leaves_no_threads(write_model: WriteModel) -> None:
    before = threading.active_count()

    with OnnxEngine(write_model(), threads=3, model_control="poll") as engine:
        engine.infer("double", {"x": _rows(1)})

    assert threading.active_count() == before


@pytest.mark.gpu
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="this ONNX Runtime has no CUDA",
)
def test_cuda_answers_as_the_cpu_does(write_model: WriteModel) -> None:
    with OnnxEngine(write_model(), device="cuda") as engine:
        outputs = engine.infer("double", {"x": _rows(37)})

    np.testing.assert_allclose(outputs["y"], 2 * _rows(37), rtol=1e-3)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this ONNX Runtime has CUDA",
)
def test_cuda_that_is_not_there_is_refused_and_nothing_falls_back(write_model: WriteModel) -> None:
    with pytest.raises(DeviceError, match=r"CUDAExecutionProvider.*serve-gpu"):
        OnnxEngine(write_model(), device="cuda")


def test_a_model_for_gpus_is_refused_on_cpus(write_model: WriteModel) -> None:
    path = write_model(extra="instance_group { kind: KIND_GPU }")

    with pytest.raises(RepositoryError, match=r"KIND_GPU.*--device cuda"):
        OnnxEngine(path).start()


@pytest.mark.parametrize("kind", ["KIND_AUTO", "KIND_CPU", "KIND_MODEL"])
def test_other_instance_groups_bound_the_executions_at_a_time(
    write_model: WriteModel, kind: str
) -> None:
    path = write_model(extra=f"instance_group {{ count: 2 kind: {kind} }}")

    with OnnxEngine(path, threads=3) as engine:
        (group,) = engine.model("double").config.instance_group
        outputs = engine.infer("double", {"x": _rows(9)})

    assert (group.name, group.count, group.Kind.Name(group.kind)) == ("double_0", 2, "KIND_CPU")
    np.testing.assert_array_equal(outputs["y"], 2 * _rows(9))


def test_a_start_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="holds no models"):
        OnnxEngine(tmp_path).start()


def test_a_start_stops_at_a_model_that_cannot_be_served(write_model: WriteModel) -> None:
    path = write_model()
    write_model("cut")
    (path / "cut" / "1" / "model.onnx").write_bytes(b"cut")

    with pytest.raises(RepositoryError, match="sha256"):
        OnnxEngine(path).start()


def test_models_of_other_backends_are_passed_over_with_the_reason(write_model: WriteModel) -> None:
    write_model("tree", config='backend: "fil"')
    write_model("together", config='platform: "ensemble"')
    path = write_model()

    with OnnxEngine(path) as engine:
        served = [info.name for info in engine.models()]
        states = {state.name: (state.state, state.reason) for state in engine.index()}

    assert served == ["double"]
    assert states["double"] == ("READY", "")
    for name, backend in (("tree", "fil"), ("together", "ensemble")):
        state, reason = states[name]
        assert state == "UNAVAILABLE"
        assert f'its backend is "{backend}"' in reason
        assert "serve it with Triton" in reason

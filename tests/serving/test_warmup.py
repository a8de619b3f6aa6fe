"""What happens before a model serves, and memory after."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from facegen.serving.onnx.engine import OnnxEngine

WriteModel = Callable[..., Path]
WriteGraph = Callable[..., Path]


def _cap(caplog: pytest.LogCaptureFixture) -> int:
    """The most rows of an execution of the model that was loaded."""
    found = re.search(r"max_batch_rows=(\d+)", caplog.text)
    assert found is not None
    return int(found[1])


def _graph(operator: str, constants: dict[str, list[float]] | None = None) -> bytes:
    """A graph of one operator on rows of free length."""
    axes = ["rows", "n"]
    names = list(constants or {})
    graph = helper.make_graph(
        [helper.make_node(operator, [*names, "x"], ["y"])],
        "graph",
        [
            helper.make_tensor_value_info(
                "x", TensorProto.INT64 if names else TensorProto.FLOAT, axes
            )
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, axes)],
        [
            helper.make_tensor(name, TensorProto.FLOAT, [len(values)], values)
            for name, values in (constants or {}).items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    graph_bytes: bytes = model.SerializeToString()
    return graph_bytes


@pytest.mark.parametrize("max_batch_size", [1, 5, 16, 1000])
def test_the_rows_of_an_execution_are_measured_within_the_models_own(
    write_graph: WriteGraph, caplog: pytest.LogCaptureFixture, max_batch_size: int
) -> None:
    caplog.set_level("INFO")
    path = write_graph(_graph("Exp"), config=f"max_batch_size: {max_batch_size}")

    with OnnxEngine(path):
        pass

    assert 1 <= _cap(caplog) <= min(max_batch_size, 64)


def test_sixteen_rows_are_taken_where_measuring_fails(
    write_graph: WriteGraph, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = write_graph(_graph("Gather", {"table": []}), config="max_batch_size: 64")

    with OnnxEngine(path):
        pass

    assert _cap(caplog) == 16
    assert "batch size not measured" in caplog.text


def test_a_limit_that_is_given_is_not_measured(
    write_model: WriteModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    with OnnxEngine(write_model(), max_batch_rows=7):
        pass

    assert _cap(caplog) == 7


def test_memory_does_not_grow_with_the_shapes_that_come(write_graph: WriteGraph) -> None:
    path = write_graph(_graph("Softmax"), config="max_batch_size: 16")
    generator = np.random.default_rng(0)

    with OnnxEngine(path, threads=2) as engine:

        def run(count: int) -> int:
            for _ in range(count):
                rows, length = generator.integers(1, 17), generator.integers(1, 5000)
                engine.infer("any", {"x": np.zeros((rows, length), np.float32)})
            status = Path("/proc/self/status").read_text()
            return int(status.partition("VmRSS:")[2].split()[0])

        before_kib = run(300)
        after_kib = run(1500)

    assert after_kib - before_kib < 8 * 1024

"""ONNX models of every kind that a Triton repository may hold."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facegen.serving.engine import ModelInfo
from facegen.serving.errors import InputError, RepositoryError
from facegen.serving.onnx.engine import OnnxEngine

WriteGraph = Callable[..., Path]
Tensor = tuple[str, int, Sequence[int | str] | None]

_DTYPES: dict[str, tuple[int, Any]] = {
    "BOOL": (TensorProto.BOOL, np.bool_),
    "UINT8": (TensorProto.UINT8, np.uint8),
    "UINT16": (TensorProto.UINT16, np.uint16),
    "UINT32": (TensorProto.UINT32, np.uint32),
    "UINT64": (TensorProto.UINT64, np.uint64),
    "INT8": (TensorProto.INT8, np.int8),
    "INT16": (TensorProto.INT16, np.int16),
    "INT32": (TensorProto.INT32, np.int32),
    "INT64": (TensorProto.INT64, np.int64),
    "FP16": (TensorProto.FLOAT16, np.float16),
    "BF16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "FP32": (TensorProto.FLOAT, np.float32),
    "FP64": (TensorProto.DOUBLE, np.float64),
}


def _graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    constants: Sequence[onnx.TensorProto] = (),
) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(*tensor) for tensor in inputs],
        [helper.make_tensor_value_info(*tensor) for tensor in outputs],
        list(constants),
    )
    opsets = [helper.make_opsetid("", 20)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return model


def _same(element: int, shape: Sequence[int | str] | None) -> bytes:
    """A graph that gives back what it takes."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return _graph([node], [("x", element, shape)], [("y", element, shape)])


def _infer(path: Path, x: NDArray[Any]) -> NDArray[Any]:
    with OnnxEngine(path, threads=1) as engine:
        return engine.infer("any", {"x": x})["y"]


@pytest.mark.parametrize("name", _DTYPES)
def test_every_dtype_comes_back_bit_by_bit(write_graph: WriteGraph, name: str) -> None:
    element, dtype = _DTYPES[name]
    path = write_graph(_same(element, ["rows", 3]))
    bits = np.random.default_rng(0).integers(0, 256, (5, 3 * np.dtype(dtype).itemsize), np.uint8)
    x = (bits % 2 if name == "BOOL" else bits).view(dtype)

    y = _infer(path, x)

    assert y.dtype == np.dtype(dtype)
    assert y.shape == x.shape
    assert y.tobytes() == x.tobytes()


def test_bytes_are_text_of_any_length(write_graph: WriteGraph) -> None:
    path = write_graph(_same(TensorProto.STRING, ["rows", 2]))
    x = np.array([[b"", "größe".encode()], [b"a\0b", b"\0"], [b"x" * 70_000, b"z"]], object)

    y = _infer(path, x)

    assert y.dtype == object
    assert y.tolist() == x.tolist()


@pytest.mark.parametrize("element", [b"\xff\xfe", "text", 3, None])
def test_elements_of_bytes_that_are_no_utf8_are_refused(
    write_graph: WriteGraph, element: object
) -> None:
    path = write_graph(_same(TensorProto.STRING, ["rows", 1]))

    with pytest.raises(InputError, match="x: has an element that is no UTF-8"):
        _infer(path, np.array([[element]], object))


def test_a_model_without_batch_axis_takes_its_shape_as_it_is(write_graph: WriteGraph) -> None:
    path = write_graph(_same(TensorProto.FLOAT, [2, 3]))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)

    with OnnxEngine(path) as engine:
        info = engine.model("any")
        y = engine.infer("any", {"x": x})["y"]
        with pytest.raises(InputError, match=r"has shape \(1, 2, 3\), .* takes \(2, 3\)"):
            engine.infer("any", {"x": x[None]})
        (statistics,) = engine.statistics("any")

    assert (info.max_batch_size, info.inputs[0].shape) == (0, (2, 3))
    np.testing.assert_array_equal(y, x)
    assert (statistics.inference_count, statistics.execution_count) == (1, 1)


def test_a_scalar_is_one_value(write_graph: WriteGraph) -> None:
    path = write_graph(_same(TensorProto.INT64, []))

    y = _infer(path, np.array([7]))

    np.testing.assert_array_equal(y, np.array([7]))


def test_a_number_a_row_is_an_axis_of_one(write_graph: WriteGraph) -> None:
    path = write_graph(_same(TensorProto.INT64, ["rows"]))

    y = _infer(path, np.array([[7], [8], [9], [10], [11]]))

    np.testing.assert_array_equal(y, np.array([[7], [8], [9], [10], [11]]))


def test_free_axes_may_differ_between_requests(write_graph: WriteGraph) -> None:
    path = write_graph(_same(TensorProto.FLOAT, ["rows", "height", 2]))

    with OnnxEngine(path) as engine:
        shapes = [
            engine.infer("any", {"x": np.zeros(shape, np.float32)})["y"].shape
            for shape in ((1, 3, 2), (5, 1, 2), (2, 7, 2))
        ]
        with pytest.raises(InputError, match=r"takes \('rows', -1, 2\)"):
            engine.infer("any", {"x": np.zeros((1, 3, 3), np.float32)})

    assert shapes == [(1, 3, 2), (5, 1, 2), (2, 7, 2)]


@pytest.mark.parametrize("max_batch_size", [0, 8])
def test_reshape_stands_between_callers_and_the_graph(
    write_graph: WriteGraph, max_batch_size: int
) -> None:
    batch = ["rows"] if max_batch_size else []
    graph = _same(TensorProto.FLOAT, [*batch, "n", 6])
    path = write_graph(
        graph,
        config=f"max_batch_size: {max_batch_size} "
        'input { name: "x" data_type: TYPE_FP32 dims: [ -1, 2, 3 ] reshape { shape: [ -1, 6 ] } } '
        'output { name: "y" data_type: TYPE_FP32 dims: [ 3, -1, 2 ] reshape { shape: [ -1, 6 ] } }',
    )

    with pytest.raises(RepositoryError, match=r'the reshape of "y"'):
        OnnxEngine(path).start()
    config = path / "any" / "config.pbtxt"
    config.write_text(config.read_text().replace("3, -1, 2", "-1, 3, 2"))
    x = np.arange(60, dtype=np.float32).reshape(*([2] if batch else []), -1, 2, 3)
    y = _infer(path, x)

    np.testing.assert_array_equal(y, x.reshape(*x.shape[:-2], 3, 2))


def test_an_optional_input_may_be_left_out(write_graph: WriteGraph) -> None:
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32) * 3, "w")
    graph = _graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, [2, 2]), ("w", TensorProto.FLOAT, [2, 2])],
        [("y", TensorProto.FLOAT, [2, 2])],
        [weight],
    )
    path = write_graph(
        graph,
        config='input [ { name: "x" data_type: TYPE_FP32 dims: [ 2, 2 ] }, '
        '{ name: "w" data_type: TYPE_FP32 dims: [ 2, 2 ] optional: true } ] '
        'output { name: "y" data_type: TYPE_FP32 dims: [ 2, 2 ] }',
    )
    x = np.ones((2, 2), np.float32)

    with OnnxEngine(path) as engine:
        without = engine.infer("any", {"x": x})["y"]
        given = engine.infer("any", {"x": x, "w": 2 * np.eye(2, dtype=np.float32)})["y"]
        with pytest.raises(InputError, match=r"takes \['x'\] and optionally \['w'\]"):
            engine.infer("any", {"w": x})

    np.testing.assert_array_equal(without, 3 * x)
    np.testing.assert_array_equal(given, 2 * x)


def test_an_input_that_the_graph_needs_is_never_optional(
    write_graph: WriteGraph, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_graph(
        _same(TensorProto.FLOAT, ["rows", 1]),
        config="max_batch_size: 4 "
        'input { name: "x" data_type: TYPE_FP32 dims: 1 optional: true } '
        'output { name: "y" data_type: TYPE_FP32 dims: 1 }',
    )

    with OnnxEngine(path) as engine, pytest.raises(InputError, match=r"\[\] given"):
        engine.infer("any", {})

    assert "not optional in the graph" in caplog.text


def test_wanted_outputs_alone_are_computed_and_returned(write_graph: WriteGraph) -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Neg", ["x"], ["negative"]),
    ]
    axes: list[int | str] = ["rows", 1]
    path = write_graph(
        _graph(
            nodes,
            [("x", TensorProto.FLOAT, axes)],
            [("same", TensorProto.FLOAT, axes), ("negative", TensorProto.FLOAT, axes)],
        )
    )
    x = np.ones((3, 1), np.float32)

    with OnnxEngine(path) as engine:
        one = engine.infer("any", {"x": x}, outputs=("negative",))
        both = engine.infer("any", {"x": x})

    assert list(one) == ["negative"]
    np.testing.assert_array_equal(one["negative"], -x)
    assert list(both) == ["same", "negative"]


def test_tensors_in_files_beside_the_graph_are_read(write_graph: WriteGraph) -> None:
    path = _external(write_graph, "weights.bin")
    (path / "any" / "1" / "weights.bin").write_bytes(np.full(1, 5, np.float32).tobytes())

    np.testing.assert_array_equal(_infer(path, np.ones((2, 1), np.float32)), [[5], [5]])


@pytest.mark.parametrize("location", ["../../weights.bin", "/{}/weights.bin"])
def test_tensors_in_files_elsewhere_are_refused(
    write_graph: WriteGraph, tmp_path: Path, location: str
) -> None:
    path = _external(write_graph, location.format(tmp_path))
    (tmp_path / "weights.bin").write_bytes(np.full(1, 5, np.float32).tobytes())

    with pytest.raises(RepositoryError, match="ONNX Runtime cannot load it"):
        OnnxEngine(path).start()


def test_a_folder_may_stand_for_the_graph(write_graph: WriteGraph) -> None:
    path = write_graph(_same(TensorProto.FLOAT, ["rows", 1]), version="1/model.onnx")

    np.testing.assert_array_equal(_infer(path, np.ones((2, 1), np.float32)), [[1], [1]])


def test_a_type_that_no_protocol_has_is_refused(write_graph: WriteGraph) -> None:
    path = write_graph(_same(TensorProto.FLOAT8E4M3FN, ["rows", 1]))

    with pytest.raises(RepositoryError, match=r"is tensor\(float8e4m3fn\)"):
        OnnxEngine(path).start()


def test_rows_that_the_graph_refuses_fail_alone(write_graph: WriteGraph) -> None:
    table = numpy_helper.from_array(np.arange(4, dtype=np.float32), "table")
    path = write_graph(
        _graph(
            [helper.make_node("Gather", ["table", "x"], ["y"])],
            [("x", TensorProto.INT64, ["rows", 1])],
            [("y", TensorProto.FLOAT, ["rows", 1])],
            [table],
        )
    )

    with OnnxEngine(path, threads=1) as engine:
        with pytest.raises(Exception, match="out of data bounds"):
            engine.infer("any", {"x": np.array([[9]])})
        y = engine.infer("any", {"x": np.array([[3], [0]])})["y"]

    np.testing.assert_array_equal(y, [[3], [0]])


def test_the_parameters_of_tritons_backend_are_taken(write_graph: WriteGraph) -> None:
    parameters = " ".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
        for key, value in {
            "intra_op_thread_count": 2,
            "inter_op_thread_count": 0,
            "execution_mode": 1,
            "enable_mem_arena": 0,
            "enable_mem_pattern": 1,
        }.items()
    )
    path = write_graph(
        _same(TensorProto.FLOAT, ["rows", 1]),
        config=parameters + " optimization { graph { level: -1 } }",
    )

    np.testing.assert_array_equal(_infer(path, np.ones((1, 1), np.float32)), [[1]])
    config = path / "any" / "config.pbtxt"
    config.write_text(config.read_text().replace('"2"', '"many"'))
    with pytest.raises(RepositoryError, match='intra_op_thread_count is "many"'):
        OnnxEngine(path).start()


def test_executions_are_capped_by_what_is_given(write_graph: WriteGraph) -> None:
    path = write_graph(_same(TensorProto.FLOAT, ["rows", 1]), config="max_batch_size: 64")

    with OnnxEngine(path, threads=1, max_batch_rows=3) as engine:
        engine.infer("any", {"x": np.ones((20, 1), np.float32)})
        info: ModelInfo = engine.model("any")
        (statistics,) = engine.statistics("any")

    assert info.max_batch_size == 64
    assert max(statistics.batches) == 3


def _external(write_graph: WriteGraph, location: str) -> Path:
    weight = numpy_helper.from_array(np.zeros((1, 1), np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return write_graph(
        _graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            [("x", TensorProto.FLOAT, ["rows", 1])],
            [("y", TensorProto.FLOAT, ["rows", 1])],
            [weight],
        )
    )

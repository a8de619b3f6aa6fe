"""Configurations completed from the graph as Triton completes them, and held against it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2

from facegen.serving.engine import TensorSpec
from facegen.serving.errors import RepositoryError
from facegen.serving.onnx.engine import OnnxEngine

WriteGraph = Callable[..., Path]
WriteModel = Callable[..., Path]

_IO = (
    'input { name: "x" data_type: TYPE_FP32 dims: 4 } '
    'output { name: "y" data_type: TYPE_FP32 dims: 4 } '
)


def _graph(input_shape: list[int | str], output_shape: list[int | str] | None = None) -> bytes:
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", float32, input_shape)],
        [helper.make_tensor_value_info("y", float32, output_shape or input_shape)],
    )
    opsets = [helper.make_opsetid("", 20)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return model


def _complete(path: Path, name: str = "any") -> Any:
    with OnnxEngine(path, threads=3) as engine:
        return engine.model(name).config


def test_without_a_config_all_is_taken_from_the_graph(write_graph: WriteGraph) -> None:
    config = _complete(write_graph(_graph(["rows", "n", 4])))

    expected = text_format.Parse(
        """
        name: "any"
        platform: "onnxruntime_onnx"
        backend: "onnxruntime"
        version_policy { latest { num_versions: 1 } }
        max_batch_size: 4
        input { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] }
        output { name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ] }
        instance_group { name: "any_0" count: 3 kind: KIND_CPU }
        default_model_filename: "model.onnx"
        dynamic_batching { preferred_batch_size: 4 }
        optimization {
          input_pinned_memory { enable: true }
          output_pinned_memory { enable: true }
        }
        """,
        model_config_pb2.ModelConfig(),
    )
    assert text_format.MessageToString(config) == text_format.MessageToString(expected)


@pytest.mark.parametrize(
    ("shape", "config", "max_batch_size", "dynamic", "dims"),
    [
        (["rows", 4], "", 4, True, [4]),
        (["rows", 4], "max_batch_size: 9", 9, True, [4]),
        (["rows", 4], "max_batch_size: 1", 1, False, [4]),
        (["rows", 4], 'input { name: "x" data_type: TYPE_FP32 dims: 4 }', 4, True, [4]),
        (["rows", 4], _IO + "max_batch_size: 2", 2, False, [4]),
        ([4], _IO, 0, False, [4]),
        ([2, 4], "", 0, False, [2, 4]),
        (["rows"], "", 4, True, [1]),
        ([], "", 0, False, [1]),
    ],
)
def test_the_batch_axis_is_found_as_triton_finds_it(
    write_graph: WriteGraph,
    shape: list[int | str],
    config: str,
    max_batch_size: int,
    dynamic: bool,
    dims: list[int],
) -> None:
    complete = _complete(write_graph(_graph(shape), config=config))

    assert complete.max_batch_size == max_batch_size
    assert list(complete.output[0].dims) == dims
    assert complete.HasField("dynamic_batching") == dynamic


def test_another_file_name_is_followed(write_graph: WriteGraph) -> None:
    path = write_graph(
        _graph(["rows", 4]),
        file="decoder.onnx",
        config='platform: "onnxruntime_onnx" default_model_filename: "decoder.onnx"',
    )

    config = _complete(path)

    assert config.backend == "onnxruntime"
    assert config.default_model_filename == "decoder.onnx"


def test_tensors_carry_types_shapes_and_labels(write_graph: WriteGraph) -> None:
    path = write_graph(
        _graph(["rows", 2]),
        config="max_batch_size: 8 "
        'input { name: "x" data_type: TYPE_FP32 dims: 2 } '
        'output { name: "y" data_type: TYPE_FP32 dims: 2 label_filename: "labels.txt" }',
    )
    (path / "any" / "labels.txt").write_text("cat\ndog\n")

    with OnnxEngine(path) as engine:
        info = engine.model("any")

    (x,), (y,) = info.inputs, info.outputs
    assert (x.name, x.shape, x.labels) == ("x", (2,), ())
    assert y == TensorSpec("y", x.dtype, (2,), labels=("cat", "dog"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dims: 4 }\noutput", "dims: 5 }\noutput", r"config.pbtxt says TYPE_FP32 \(-1, 5\)"),
        ("dims: 4 }\noutput", "dims: -1 }\noutput", r"config.pbtxt says TYPE_FP32 \(-1, -1\)"),
        ("dims: 4 }\noutput", "dims: 0 }\noutput", r"dims of input .x. are \[0\]"),
        ("dims: 4 }\noutput", "}\noutput", r"dims of input .x. are \[\]"),
        ('name: "y"', 'name: "z"', "its outputs are"),
        ('input { name: "x"', 'input { name: "z"', r"its inputs are \['x'\]"),
        (
            'output { name: "y" data_type: TYPE_FP32',
            'output { name: "y" data_type: TYPE_UINT8',
            "config.pbtxt says TYPE_UINT8",
        ),
        ("max_batch_size: 16", "max_batch_size: 0", r"config.pbtxt says TYPE_FP32 \(4,\)"),
    ],
)
def test_a_config_that_contradicts_the_graph_is_refused(
    write_model: WriteModel, old: str, new: str, message: str
) -> None:
    path = write_model()
    config = path / "double" / "config.pbtxt"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))

    with pytest.raises(RepositoryError, match=message):
        OnnxEngine(path).start()


def test_a_batch_size_for_a_graph_without_batch_axis_is_refused(write_graph: WriteGraph) -> None:
    path = write_graph(_graph([2, 4]), config="max_batch_size: 8")

    with pytest.raises(RepositoryError, match=r"free batch axis.*set max_batch_size to 0"):
        OnnxEngine(path).start()


def test_a_file_that_is_no_graph_is_refused(write_graph: WriteGraph) -> None:
    with pytest.raises(RepositoryError, match="ONNX Runtime cannot load it"):
        OnnxEngine(write_graph(b"not a graph")).start()


@pytest.mark.parametrize(
    ("warmup", "message"),
    [
        ('name: "w"', "give every input"),
        ('name: "w" inputs { key: "x" value {} } inputs { key: "z" value {} }', "give every input"),
    ],
)
def test_a_warm_up_of_other_inputs_is_refused(
    write_graph: WriteGraph, warmup: str, message: str
) -> None:
    path = write_graph(_graph(["rows", 4]), config=f"model_warmup {{ {warmup} }}")

    with pytest.raises(RepositoryError, match=message):
        OnnxEngine(path).start()


def test_a_model_that_fails_its_warm_up_is_refused(write_graph: WriteGraph) -> None:
    indices = helper.make_tensor_value_info("x", TensorProto.INT64, ["rows", 1])
    picked = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])
    table = helper.make_tensor("table", TensorProto.FLOAT, [0], [])
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])], "graph", [indices], [picked], [table]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    warmup = (
        'model_warmup { name: "w" batch_size: 2 inputs { key: "x" value { zero_data: true } } }'
    )
    path = write_graph(model.SerializeToString(), config=warmup)

    with pytest.raises(RepositoryError, match="it fails its warm-up"):
        OnnxEngine(path).start()

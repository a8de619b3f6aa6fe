"""The models that the protocol's cases are about, for our server and for Triton."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from facegen.export.conversion import convert_repository

__all__ = ["DTYPES", "write_models", "write_triton_models"]

DTYPES: Mapping[str, int] = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "STRING": TensorProto.STRING,
}
"""Every element type, as config.pbtxt and as ONNX call it."""

_FLOAT = TensorProto.FLOAT
_DOUBLE = """
max_batch_size: 16
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }
"""
_PAIR = """
max_batch_size: 16
input { name: "x1" data_type: TYPE_FP32 dims: -1 }
input { name: "x2" data_type: TYPE_FP32 dims: -1 %s }
output [{ name: "y1" data_type: TYPE_FP32 dims: -1 }, { name: "y2" data_type: TYPE_FP32 dims: -1 }]
"""
_SAME = """
max_batch_size: 16
input { name: "x" data_type: TYPE_%s dims: -1 }
output { name: "y" data_type: TYPE_%s dims: -1 }
"""
_UNBATCHED = """
max_batch_size: 0
input { name: "x" data_type: TYPE_FP32 dims: [2, 3] }
output { name: "y" data_type: TYPE_FP32 dims: [2, 3] }
"""
_LOOKUP = """
max_batch_size: 16
input { name: "x" data_type: TYPE_INT64 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
dynamic_batching { }
"""
_DELAY = """
dynamic_batching {
  preferred_batch_size: 16
  max_queue_delay_microseconds: 1500000
  default_queue_policy {
    timeout_action: REJECT
    default_timeout_microseconds: 1000000
    allow_timeout_override: true
    max_queue_size: 2
  }
}
"""
_PRIORITIES = "dynamic_batching { priority_levels: 3 default_priority_level: 2 }"

# Triton's Python backend has no numpy for BF16, and ONNX Runtime's strings are no bytes.
_ECHO = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([_echo(t) for t in r.inputs()]) for r in requests]


def _echo(tensor):
    name = "y" + tensor.name()[1:]
    try:
        return pb_utils.Tensor.from_dlpack(name, tensor)
    except Exception:
        return pb_utils.Tensor(name, tensor.as_numpy())
"""


def write_models(folder: Path) -> None:
    """Write the repository for our server."""
    double, pair = _double_graph(), (("x1", "y1"), ("x2", "y2"))
    _write(folder / "double", _DOUBLE + "dynamic_batching { }", double)
    _write(folder / "versions", _DOUBLE + "version_policy { all { } }", double, ("1", "3"))
    _write(folder / "waiting", _DOUBLE + _DELAY, double)
    _write(folder / "priorities", _DOUBLE + _PRIORITIES, double)
    _write(folder / "lookup", _LOOKUP, _lookup_graph())
    _write(folder / "two", _PAIR % "", _same_graph(_FLOAT, pair))
    optional = _same_graph(_FLOAT, pair, default="x2")
    _write(folder / "optional", _PAIR % "optional: true", optional)
    unbatched = _same_graph(_FLOAT, (("x", "y"),))
    _write(folder / "unbatched", _UNBATCHED, unbatched)
    for name, dtype in DTYPES.items():
        graph = _same_graph(dtype, (("x", "y"),))
        _write(folder / f"same-{name.lower()}", _SAME % (name, name), graph)


def write_triton_models(folder: Path, target: Path) -> None:
    """Write what `write_models` wrote for Triton's Python backend."""
    convert_repository(folder, target, backend="python")
    for model in ("two", "optional", "unbatched", *(f"same-{name.lower()}" for name in DTYPES)):
        (target / model / "1" / "model.py").write_text(_ECHO, "utf-8")


def _write(folder: Path, config: str, graph: bytes, versions: Sequence[str] = ("1",)) -> None:
    for version in versions:
        (folder / version).mkdir(parents=True)
        (folder / version / "model.onnx").write_bytes(graph)
    (folder / "config.pbtxt").write_text(f'backend: "onnxruntime"{config}', "utf-8")


def _double_graph() -> bytes:
    weight = numpy_helper.from_array(2 * np.eye(4, dtype=np.float32), "W")
    nodes = [helper.make_node("MatMul", ["x", "W"], ["y"])]
    return _graph(nodes, [_tensor("x", _FLOAT, 4)], [_tensor("y", _FLOAT, 4)], [weight])


def _lookup_graph() -> bytes:
    """A graph that fails on what is no index of its table of 3."""
    table = numpy_helper.from_array(np.array([1, 2, 3], np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    inputs = [_tensor("x", TensorProto.INT64, 1)]
    return _graph(nodes, inputs, [_tensor("y", _FLOAT, 1)], [table])


def _same_graph(dtype: int, names: Sequence[tuple[str, str]], *, default: str = "") -> bytes:
    """A graph that gives what it gets; `default` is an input that may be left out."""
    nodes = [helper.make_node("Identity", [x], [y]) for x, y in names]
    inputs = [_tensor(x, dtype, "size") for x, _ in names]
    outputs = [_tensor(y, dtype, "size") for _, y in names]
    constants = [numpy_helper.from_array(np.zeros((1, 4), np.float32), default)] if default else []
    return _graph(nodes, inputs, outputs, constants)


def _tensor(name: str, dtype: int, size: int | str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, ["rows", size])


def _graph(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    constants: Sequence[TensorProto],
) -> bytes:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return bytes(model.SerializeToString())

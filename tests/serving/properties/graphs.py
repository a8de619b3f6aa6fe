"""Small graphs of which a server's answers are computed again here, a row at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["GRAPHS", "Graph", "Port", "rows_alone", "write_graphs"]

Array = NDArray[Any]

# Of each datatype: ONNX's, numpy's, and the field of its typed contents.
DATATYPES: dict[str, tuple[int, Any, str]] = {
    "BOOL": (TensorProto.BOOL, np.bool_, "bool_contents"),
    "UINT8": (TensorProto.UINT8, np.uint8, "uint_contents"),
    "INT8": (TensorProto.INT8, np.int8, "int_contents"),
    "INT32": (TensorProto.INT32, np.int32, "int_contents"),
    "INT64": (TensorProto.INT64, np.int64, "int64_contents"),
    "FP16": (TensorProto.FLOAT16, np.float16, ""),
    "FP32": (TensorProto.FLOAT, np.float32, "fp32_contents"),
    "FP64": (TensorProto.DOUBLE, np.float64, "fp64_contents"),
    "BYTES": (TensorProto.STRING, np.object_, "bytes_contents"),
}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output.

    Attributes:
        name: Its name.
        datatype: One of `DATATYPES`.
        shape: Its axes behind the batch axis; `n` is of any length, the same for all of a request.
    """

    name: str
    datatype: str
    shape: tuple[int | str, ...]

    def axes(self, length: int) -> tuple[int, ...]:
        """Give the sizes of its axes where `n` is so long."""
        return tuple(length if isinstance(size, str) else size for size in self.shape)


@dataclass(frozen=True, slots=True)
class Graph:
    """A model of the test's repository.

    Attributes:
        name: The model.
        nodes: What it computes.
        inputs: Its inputs.
        outputs: Its outputs.
        constants: Its weights, by name.
        max_batch_size: As in its configuration; 0: its rows are one whole.
    """

    name: str
    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: tuple[tuple[str, Array], ...] = ()
    max_batch_size: int = 16

    def onnx_bytes(self) -> bytes:
        """Give the graph as a file holds it."""
        rows: list[int | str] = ["rows"] if self.max_batch_size else []

        def values(ports: Sequence[Port]) -> list[Any]:
            return [
                helper.make_tensor_value_info(p.name, DATATYPES[p.datatype][0], [*rows, *p.shape])
                for p in ports
            ]

        constants = [numpy_helper.from_array(array, name) for name, array in self.constants]
        graph = helper.make_graph(
            list(self.nodes), self.name, values(self.inputs), values(self.outputs), constants
        )
        opsets = [helper.make_opsetid("", 20)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        content: bytes = model.SerializeToString()
        return content

    def config(self) -> str:
        """Give its config.pbtxt; a millisecond of waiting lets requests meet in batches."""
        lines = [f'backend: "onnxruntime" max_batch_size: {self.max_batch_size}']
        for kind, ports in (("input", self.inputs), ("output", self.outputs)):
            for port in ports:
                triton = "STRING" if port.datatype == "BYTES" else port.datatype
                dims = [size if isinstance(size, int) else -1 for size in port.shape]
                lines.append(
                    f'{kind} {{ name: "{port.name}" data_type: TYPE_{triton} dims: {dims} }}'
                )
        if self.max_batch_size:
            lines.append("dynamic_batching { max_queue_delay_microseconds: 1000 }")
        return "\n".join(lines)


_WEIGHT = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)

GRAPHS = (
    Graph(
        "affine",
        (helper.make_node("Gemm", ["x", "W", "b"], ["y"]),),
        (Port("x", "FP32", (6,)),),
        (Port("y", "FP32", (3,)),),
        (("W", _WEIGHT), ("b", np.arange(3, dtype=np.float32))),
    ),
    Graph(
        "arithmetic",
        (
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
            helper.make_node("Less", ["a", "b"], ["less"]),
        ),
        (Port("a", "INT64", ("n",)), Port("b", "INT64", ("n",))),
        (
            Port("sum", "INT64", ("n",)),
            Port("difference", "INT64", ("n",)),
            Port("less", "BOOL", ("n",)),
        ),
        max_batch_size=7,
    ),
    Graph(
        "choice",
        (
            helper.make_node("Where", ["which", "yes", "no"], ["chosen"]),
            helper.make_node("Cast", ["which"], ["number"], to=TensorProto.UINT8),
        ),
        (
            Port("which", "BOOL", (2,)),
            Port("yes", "FP64", (2,)),
            Port("no", "FP64", (2,)),
        ),
        (Port("chosen", "FP64", (2,)), Port("number", "UINT8", (2,))),
        max_batch_size=1,
    ),
    Graph(
        "words",
        (
            helper.make_node("StringConcat", ["left", "right"], ["both"]),
            helper.make_node("Identity", ["left"], ["first"]),
        ),
        (Port("left", "BYTES", (2,)), Port("right", "BYTES", (2,))),
        (Port("both", "BYTES", (2,)), Port("first", "BYTES", (2,))),
    ),
    Graph(
        "halves",
        (
            helper.make_node("Mul", ["x", "half"], ["y"]),
            helper.make_node("Neg", ["small"], ["z"]),
        ),
        (Port("x", "FP16", ("n",)), Port("small", "INT8", (1,))),
        (Port("y", "FP16", ("n",)), Port("z", "INT8", (1,))),
        (("half", np.array([0.5], np.float16)),),
    ),
    Graph(
        "whole",
        (helper.make_node("Transpose", ["x"], ["y"]),),
        (Port("x", "INT32", ("n", 3)),),
        (Port("y", "INT32", (3, "n")),),
        max_batch_size=0,
    ),
)


def write_graphs(repository: Path) -> None:
    """Write all of them into a model repository."""
    for graph in GRAPHS:
        folder = repository / graph.name / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(graph.onnx_bytes())
        (folder.parent / "config.pbtxt").write_text(graph.config(), encoding="utf-8")


def rows_alone(graph: Graph, inputs: dict[str, Array]) -> dict[str, Array]:
    """Run a graph with ONNX Runtime alone, each row by itself, and join what it gives."""
    session = _session(graph)
    names = [port.name for port in graph.outputs]
    texts = {name: _text(array) for name, array in inputs.items()}
    if not graph.max_batch_size:
        return dict(zip(names, session.run(names, texts), strict=True))
    count = len(next(iter(inputs.values())))
    rows = [
        session.run(names, {name: array[row : row + 1] for name, array in texts.items()})
        for row in range(count)
    ]
    return {
        name: np.concatenate(parts)
        for name, parts in zip(names, zip(*rows, strict=True), strict=True)
    }


_sessions: dict[str, Any] = {}


def _session(graph: Graph) -> Any:
    import onnxruntime

    if graph.name not in _sessions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        _sessions[graph.name] = onnxruntime.InferenceSession(graph.onnx_bytes(), options)
    return _sessions[graph.name]


def _text(array: Array) -> Array:
    """Decode strings, as ONNX Runtime takes them."""
    if array.dtype != np.object_:
        return array
    texts = np.empty(array.size, np.object_)
    texts[:] = [element.decode() for element in array.flat]
    return texts.reshape(array.shape)

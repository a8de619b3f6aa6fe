"""What a graph takes and gives, and element types by ONNX Runtime's, Triton's and numpy's names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime
from tritonclient.grpc import model_config_pb2 as pb

__all__ = ["Graph", "GraphTensor", "dtype_of", "read_graph_tensors", "type_name"]

_DATA_TYPES: Mapping[str, int] = {
    "tensor(bool)": pb.TYPE_BOOL,
    "tensor(uint8)": pb.TYPE_UINT8,
    "tensor(uint16)": pb.TYPE_UINT16,
    "tensor(uint32)": pb.TYPE_UINT32,
    "tensor(uint64)": pb.TYPE_UINT64,
    "tensor(int8)": pb.TYPE_INT8,
    "tensor(int16)": pb.TYPE_INT16,
    "tensor(int32)": pb.TYPE_INT32,
    "tensor(int64)": pb.TYPE_INT64,
    "tensor(float16)": pb.TYPE_FP16,
    "tensor(bfloat16)": pb.TYPE_BF16,
    "tensor(float)": pb.TYPE_FP32,
    "tensor(double)": pb.TYPE_FP64,
    "tensor(string)": pb.TYPE_STRING,
}
_DTYPES: Mapping[int, np.dtype[Any]] = {
    pb.TYPE_BOOL: np.dtype(np.bool_),
    pb.TYPE_UINT8: np.dtype(np.uint8),
    pb.TYPE_UINT16: np.dtype(np.uint16),
    pb.TYPE_UINT32: np.dtype(np.uint32),
    pb.TYPE_UINT64: np.dtype(np.uint64),
    pb.TYPE_INT8: np.dtype(np.int8),
    pb.TYPE_INT16: np.dtype(np.int16),
    pb.TYPE_INT32: np.dtype(np.int32),
    pb.TYPE_INT64: np.dtype(np.int64),
    pb.TYPE_FP16: np.dtype(np.float16),
    pb.TYPE_BF16: np.dtype(ml_dtypes.bfloat16),
    pb.TYPE_FP32: np.dtype(np.float32),
    pb.TYPE_FP64: np.dtype(np.float64),
    pb.TYPE_STRING: np.dtype(object),
}


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """An input or output as the graph declares it.

    Attributes:
        name: Its name.
        onnx_type: ONNX Runtime's name of its type, for example `tensor(float)`.
        shape: All its axes, -1 where any length goes. Empty for a scalar, and for a tensor of
            unknown rank: ONNX Runtime does not tell them apart.
        optional: Whether the graph has a value for it where none is given.
    """

    name: str
    onnx_type: str
    shape: tuple[int, ...]
    optional: bool = False

    @property
    def data_type(self) -> int:
        """Triton's number of its element type; 0, TYPE_INVALID, if Triton has none."""
        return _DATA_TYPES.get(self.onnx_type, pb.TYPE_INVALID)


@dataclass(frozen=True, slots=True)
class Graph:
    """What a graph takes and gives.

    Attributes:
        inputs: Its inputs, then the constants that a request may replace.
        outputs: Its outputs.
    """

    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]


def read_graph_tensors(runtime: onnxruntime.InferenceSession) -> Graph:
    """Read what a loaded graph takes and gives."""
    return Graph(
        inputs=(
            *_tensors(runtime.get_inputs()),
            *_tensors(runtime.get_overridable_initializers(), optional=True),
        ),
        outputs=tuple(_tensors(runtime.get_outputs())),
    )


def _tensors(nodes: Sequence[Any], *, optional: bool = False) -> list[GraphTensor]:
    return [
        GraphTensor(
            name=node.name,
            onnx_type=node.type,
            shape=tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape),
            optional=optional,
        )
        for node in nodes
    ]


def dtype_of(data_type: int) -> np.dtype[Any] | None:
    """Give the numpy type of a Triton data type; None for TYPE_INVALID."""
    return _DTYPES.get(data_type)


def type_name(data_type: int) -> str:
    """Name a Triton data type, for messages."""
    return str(pb.DataType.Name(data_type))

"""Weights stored with 16 or 8 bits in the file, computed with as float32."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facegen.export.errors import WeightRangeError

__all__ = ["STORED_AS_FLOAT32_BELOW", "Storage", "store"]

Storage = Literal["int8", "float16", "float32"]
"""How a graph's file keeps its large weights; every graph computes in float32."""

STORED_AS_FLOAT32_BELOW = 4096
"""Values a tensor must have to be stored with fewer bits: small tensors (biases, the first and the
last layer) hold the scales of the picture and would save nothing."""

_LARGEST_INT8 = 127

_Stored = tuple[list[onnx.TensorProto], list[onnx.NodeProto]]


def store(model: onnx.ModelProto, storage: Storage) -> onnx.ModelProto:
    """Copy a graph with its large float32 weights stored with fewer bits and restored by the graph.

    ONNX Runtime folds what restores them when it opens the file, so that the speed is that of
    float32.

    Args:
        model: A graph with float32 initialisers.
        storage: float16 rounds weights to 11 significant bits; int8 to 255 levels of the largest of
            their output channel.

    Returns:
        The copy, about a half or a quarter as large; the graph itself for float32.

    Raises:
        WeightRangeError: A weight is beyond float16's range.
    """
    if storage == "float32":
        return model
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    tensors: list[onnx.TensorProto] = []
    restoring: list[onnx.NodeProto] = []
    for tensor in model.graph.initializer:
        size = int(np.prod(tensor.dims)) if tensor.dims else 1
        if tensor.data_type != TensorProto.FLOAT or size < STORED_AS_FLOAT32_BELOW:
            tensors.append(tensor)
            continue
        kept, nodes = _KEEPERS[storage](model, tensor.name, numpy_helper.to_array(tensor))
        tensors += kept
        restoring += nodes
    # Nodes are stored in topological order: what restores weights comes before whatever uses them.
    nodes = [*restoring, *stored.graph.node]
    del stored.graph.node[:], stored.graph.initializer[:]
    stored.graph.node.extend(nodes)
    stored.graph.initializer.extend(tensors)
    return stored


def _float16(model: onnx.ModelProto, name: str, values: NDArray[np.float32]) -> _Stored:
    largest = float(np.abs(values).max())
    if largest > float(np.finfo(np.float16).max):
        raise WeightRangeError(model.graph.name, name, largest=largest)
    half = f"{name}.float16"
    tensor = numpy_helper.from_array(values.astype(np.float16), half)
    return [tensor], [_cast(half, name)]


def _int8(model: onnx.ModelProto, name: str, values: NDArray[np.float32]) -> _Stored:
    channel = _output_axis(model, name)
    others = tuple(axis for axis in range(values.ndim) if axis != channel)
    scales = np.abs(values).max(axis=others, keepdims=True) / np.float32(_LARGEST_INT8)
    scales = np.where(scales > 0, scales, np.float32(1))
    levels = np.rint(values / scales).astype(np.int8)
    small, whole, scale = f"{name}.int8", f"{name}.levels", f"{name}.scale"
    tensors = [numpy_helper.from_array(levels, small), numpy_helper.from_array(scales, scale)]
    return tensors, [
        _cast(small, whole),
        helper.make_node("Mul", [whole, scale], [name], name=f"{name}.scaled"),
    ]


_KEEPERS: dict[str, Callable[[onnx.ModelProto, str, NDArray[np.float32]], _Stored]] = {
    "float16": _float16,
    "int8": _int8,
}


def _cast(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=TensorProto.FLOAT)


def _output_axis(model: onnx.ModelProto, name: str) -> int:
    """The axis of a weight's output channels, from the operator that uses it."""
    node = next(it for it in model.graph.node if name in it.input)
    attributes = {it.name: helper.get_attribute_value(it) for it in node.attribute}
    match node.op_type:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1
        case "Gemm":
            return 0 if attributes.get("transB") else 1
        case _:
            return -1

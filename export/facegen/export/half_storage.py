"""Weights stored as float16 in the file, computed with as float32."""

from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from facegen.export.errors import WeightRangeError

__all__ = ["STORED_AS_FLOAT32_BELOW", "Storage", "store_as_float16"]

Storage = Literal["float16", "float32"]
"""How a graph's file keeps its large weights; every graph computes in float32."""

STORED_AS_FLOAT32_BELOW = 4096
"""Values a tensor must have to be stored as float16: small tensors (biases, the first and the last
layer) hold the scales of the picture and would save nothing."""


def store_as_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a graph with its large float32 weights stored as float16 and cast back by the graph.

    ONNX Runtime folds the casts when it opens the file, so that the speed is that of float32.

    Args:
        model: A graph with float32 initialisers.

    Returns:
        The copy, about half as large; the weights are rounded to 11 significant bits.

    Raises:
        WeightRangeError: A weight is beyond float16's range.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    casts = []
    for tensor in half.graph.initializer:
        size = int(np.prod(tensor.dims)) if tensor.dims else 1
        if tensor.data_type != TensorProto.FLOAT or size < STORED_AS_FLOAT32_BELOW:
            continue
        values = numpy_helper.to_array(tensor)
        largest = float(np.abs(values).max())
        if largest > float(np.finfo(np.float16).max):
            raise WeightRangeError(model.graph.name, tensor.name, largest=largest)
        full_name, half_name = tensor.name, f"{tensor.name}.float16"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half_name))
        casts.append(
            helper.make_node(
                "Cast", [half_name], [full_name], name=f"{full_name}.cast", to=TensorProto.FLOAT
            )
        )
    # Nodes are stored in topological order: the casts come before whatever uses them.
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    return half

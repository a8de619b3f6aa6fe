"""Writes ONNX graphs node by node, with constants that are small in the file.

What restores a constant has no input, so that ONNX Runtime computes it once, when it opens the
file.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facegen.export.onnx_export import BATCH_AXIS
from facegen.export.prior_graphs import IR_VERSION, OPSET

__all__ = ["GraphWriter"]

_UNSIGNED = (np.uint8, np.uint16, np.uint32)
_INDEX = TensorProto.INT64


class GraphWriter:
    """A graph that grows; values are known by the names that its methods return.

    Args:
        name: The graph's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node of one output, and name it.

        Args:
            operator: ONNX's name of it.
            inputs: Values.
            output: The output's name; empty makes one up.
            attributes: The node's.
        """
        output = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, values: Any) -> str:
        """Keep an array as it is."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def reals(self, values: NDArray[np.floating] | float) -> str:
        """Keep numbers, or a single one, as float32."""
        return self.constant(np.asarray(values, np.float32))

    def indices(self, values: NDArray[np.integer], *, to: int = _INDEX) -> str:
        """Keep whole numbers of 0 and more in as few bytes as hold the largest.

        Args:
            values: The numbers.
            to: The type that they have in the graph, one of `TensorProto`'s.
        """
        largest = int(values.max(initial=0))
        kind = next(it for it in _UNSIGNED if largest <= np.iinfo(it).max)
        return self.add("Cast", self.constant(values.astype(kind)), to=to)

    def sparse(self, values: NDArray[np.float32]) -> str:
        """Keep an array that is mostly zeros: the places of the others, and what stands there."""
        places = np.flatnonzero(values)
        steps = self.indices(np.diff(places, prepend=0))
        flat = self.add("CumSum", steps, self.constant(np.int64(0)))
        zeros = self.add("ConstantOfShape", self.constant(np.array([values.size])))
        some = self._few(values.ravel()[places])
        filled = self.add("ScatterElements", zeros, flat, some)
        return self.reshape(filled, values.shape)

    def reshape(self, value: str, shape: Sequence[int], *, output: str = "") -> str:
        """Give a value another shape; -1 stands for what is left."""
        return self.add("Reshape", value, self.constant(np.array(shape, np.int64)), output=output)

    def finish(
        self,
        inputs: Sequence[tuple[str, int, tuple[int, ...]]],
        outputs: Sequence[tuple[str, int, tuple[int, ...]]],
    ) -> onnx.ModelProto:
        """Close the graph.

        Args:
            inputs: Name, element type and shape after the batch axis of each.
            outputs: Likewise.
        """

        def rows(name: str, kind: int, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, kind, [BATCH_AXIS, *shape])

        graph = helper.make_graph(
            self._nodes,
            self._name,
            inputs=[rows(*it) for it in inputs],
            outputs=[rows(*it) for it in outputs],
            initializer=self._constants,
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="facegen",
        )

    def _few(self, values: NDArray[np.float32]) -> str:
        """Keep numbers of which few differ: each once, and which stands where."""
        different, which = np.unique(values, return_inverse=True)
        if 4 * len(values) <= len(values) + 4 * len(different):
            return self.reals(values)
        return self.add("Gather", self.reals(different), self.indices(which))

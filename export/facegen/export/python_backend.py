"""Runs the model.onnx beside it in Triton's Python backend; exported as `model.py`, run by Triton.

It needs onnxruntime and numpy where Triton finds its Python. Requests that Triton batched are
joined and run at once; if that fails each runs alone, so that only the one at fault gets an error.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

# Triton brings it; it is nowhere else.
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """A graph in one thread; more at a time come from Triton's `instance_group`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph of this version."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        graph = Path(args["model_repository"], args["model_version"], "model.onnx")
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self._session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer what Triton batched, which has no request without inputs."""
        inputs = [{t.name(): t.as_numpy() for t in request.inputs()} for request in requests]
        if len(requests) == 1:
            return [self._respond_alone(inputs[0])]
        try:
            joined = {name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]}
            outputs = self._session.run(self._outputs, joined)
        except Exception:  # whatever it was: alone, the one at fault is found
            return [self._respond_alone(each) for each in inputs]
        ends = np.cumsum([len(next(iter(each.values()))) for each in inputs])
        parts = [np.split(output, ends[:-1]) for output in outputs]
        return [self._respond(rows) for rows in zip(*parts, strict=True)]

    def _respond_alone(self, inputs: dict[str, Any]) -> Any:
        try:
            return self._respond(self._session.run(self._outputs, inputs))
        except Exception as error:  # a request's outermost frame
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def _respond(self, outputs: Any) -> Any:
        tensors = zip(self._outputs, outputs, strict=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, y) for name, y in tensors])

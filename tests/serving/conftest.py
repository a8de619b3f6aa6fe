"""Small graphs written by hand, in a model repository of their own."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

WriteModel = Callable[..., Path]

_DOUBLE = """
backend: "onnxruntime"
max_batch_size: 16
input {{ name: "x" data_type: TYPE_FP32 dims: 4 }}
output {{ name: "y" data_type: TYPE_FP32 dims: 4 }}
parameters {{ key: "facegen.sha256.1" value {{ string_value: "{sha256}" }} }}
model_warmup {{
  name: "zeros" batch_size: 2
  inputs {{ key: "x" value {{ data_type: TYPE_FP32 dims: 4 zero_data: true }} }}
}}
"""


def _scaling_graph(factor: float) -> bytes:
    """A graph `y = x W` with x and y (B, 4) and W `factor` times the identity, as bytes."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "scaling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32) * np.float32(factor), "W")],
    )
    opsets = [helper.make_opsetid("", 20)]
    graph_bytes: bytes = helper.make_model(
        graph, opset_imports=opsets, ir_version=9
    ).SerializeToString()
    return graph_bytes


@pytest.fixture
def write_model(tmp_path: Path) -> WriteModel:
    """Write a model that multiplies by `factor` into `tmp_path`, its config changed by `extra`."""

    def write(
        name: str = "double",
        *,
        factor: float = 2.0,
        versions: tuple[str, ...] = ("1",),
        config: str | None = None,
        extra: str = "",
    ) -> Path:
        graph = _scaling_graph(factor)
        for version in versions:
            folder = tmp_path / name / version
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "model.onnx").write_bytes(graph)
        text = config or _DOUBLE.format(sha256=hashlib.sha256(graph).hexdigest())
        (tmp_path / name / "config.pbtxt").write_text(text + extra, encoding="utf-8")
        return tmp_path

    return write

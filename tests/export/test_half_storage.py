import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facegen.export.errors import WeightRangeError
from facegen.export.half_storage import store_as_float16
from facegen.export.runtime import open_session, run_rows


def linear(weight: np.ndarray) -> onnx.ModelProto:
    inputs, outputs = weight.shape
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs])],
        [
            numpy_helper.from_array(weight.astype(np.float32), "weight"),
            numpy_helper.from_array(np.ones(outputs, np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_large_weights_take_half_the_bytes_and_small_ones_stay() -> None:
    model = linear(np.random.default_rng(0).standard_normal((128, 64)))

    half = store_as_float16(model)

    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert types == {"weight.float16": TensorProto.FLOAT16, "bias": TensorProto.FLOAT}
    assert half.ByteSize() < 0.55 * model.ByteSize()
    onnx.checker.check_model(half, full_check=True)
    assert {t.name for t in model.graph.initializer} == {"weight", "bias"}


def test_graph_computes_in_float32_with_the_rounded_weights() -> None:
    weight = np.random.default_rng(0).standard_normal((128, 64))
    x = np.random.default_rng(1).standard_normal((4, 128), np.float32)

    half = run_rows(open_session(store_as_float16(linear(weight))), {"x": x})["y"]

    rounded = linear(weight.astype(np.float16))
    assert half.tobytes() == run_rows(open_session(rounded), {"x": x})["y"].tobytes()


def test_weight_beyond_float16_is_refused_with_its_value() -> None:
    weight = np.zeros((128, 64))
    weight[3, 4] = -1e5

    with pytest.raises(WeightRangeError, match=r"weight reaches 100000.*--weights float32"):
        store_as_float16(linear(weight))

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facegen.export.errors import WeightRangeError
from facegen.export.runtime import open_session, run_rows
from facegen.export.storage import store


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

    half = store(model, "float16")

    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert types == {"weight.float16": TensorProto.FLOAT16, "bias": TensorProto.FLOAT}
    assert half.ByteSize() < 0.55 * model.ByteSize()
    onnx.checker.check_model(half, full_check=True)
    assert {t.name for t in model.graph.initializer} == {"weight", "bias"}


def test_graph_computes_in_float32_with_the_rounded_weights() -> None:
    weight = np.random.default_rng(0).standard_normal((128, 64))
    x = np.random.default_rng(1).standard_normal((4, 128), np.float32)

    half = run_rows(open_session(store(linear(weight), "float16")), {"x": x})["y"]

    rounded = linear(weight.astype(np.float16))
    assert half.tobytes() == run_rows(open_session(rounded), {"x": x})["y"].tobytes()


def test_weight_beyond_float16_is_refused_with_its_value() -> None:
    weight = np.zeros((128, 64))
    weight[3, 4] = -1e5

    with pytest.raises(WeightRangeError, match=r"weight reaches 100000.*--weights float32"):
        store(linear(weight), "float16")


def test_eight_bits_take_a_quarter_of_the_bytes() -> None:
    model = linear(np.random.default_rng(0).standard_normal((128, 64)))

    stored = store(model, "int8")

    types = {tensor.name: tensor.data_type for tensor in stored.graph.initializer}
    assert types["weight.int8"] == TensorProto.INT8
    assert types["bias"] == TensorProto.FLOAT
    assert stored.ByteSize() < 0.35 * model.ByteSize()
    onnx.checker.check_model(stored, full_check=True)


def test_every_output_channel_has_levels_of_its_own() -> None:
    weight = np.random.default_rng(0).standard_normal((128, 64)) * np.logspace(-3, 3, 64)
    weight[:, 5] = 0
    x = np.eye(128, dtype=np.float32)

    restored = run_rows(open_session(store(linear(weight), "int8")), {"x": x})["y"] - 1

    step = np.abs(weight).max(0) / 127
    assert (np.abs(restored - weight) <= 0.51 * step + 2e-6).all()


def convolution(kind: str, shape: tuple[int, ...]) -> onnx.ModelProto:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    inputs = shape[1] if kind == "Conv" else shape[0]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "weight"], ["y"])],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", inputs, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(("kind", "channel"), [("Conv", 0), ("ConvTranspose", 1)])
def test_convolutions_keep_a_scale_for_each_output_channel(kind: str, channel: int) -> None:
    stored = store(convolution(kind, (24, 32, 3, 3)), "int8")

    scale = next(t for t in stored.graph.initializer if t.name == "weight.scale")
    expected = [1, 1, 1, 1]
    expected[channel] = (24, 32)[channel]
    assert list(scale.dims) == expected


def test_float32_leaves_a_graph_as_it_is() -> None:
    model = linear(np.ones((128, 64)))

    assert store(model, "float32") is model

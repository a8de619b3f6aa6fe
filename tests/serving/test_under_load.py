"""What callers of a busy server may count on, each from outside, on a server of its own."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub

_RAW = image_pb2.ImageFormat(mime_type="application/octet-stream")
_LOOKS = 5  # at how soon something happens, on a machine that does much else
_BUSY_S = 0.6

_SLOW = """
max_batch_size: 8
input { name: "turns" data_type: TYPE_INT64 dims: 1 }
output { name: "turned" data_type: TYPE_INT64 dims: 1 }
dynamic_batching { default_queue_policy { allow_timeout_override: true } }
"""
_PICK = """
max_batch_size: 64
input { name: "index" data_type: TYPE_INT64 dims: 1 }
output { name: "value" data_type: TYPE_FP32 dims: 1 }
"""
_TABLE = np.arange(100, 110, dtype=np.float32)


def _model(graph: Any) -> bytes:
    opsets = [helper.make_opsetid("", 20)]
    content: bytes = helper.make_model(
        graph, opset_imports=opsets, ir_version=9
    ).SerializeToString()
    return content


def _rows(name: str, element: int) -> Any:
    return helper.make_tensor_value_info(name, element, ["rows", 1])


def _slow_graph() -> bytes:
    """A graph that multiplies matrices as often as its largest row says."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["matrix_in", "identity"], ["matrix_out"]),
            helper.make_node("Identity", ["going_in"], ["going_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("matrix_in", TensorProto.FLOAT, [256, 256]),
        ],
        [
            helper.make_tensor_value_info("going_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("matrix_out", TensorProto.FLOAT, [256, 256]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["turns"], ["most"], keepdims=0),
        helper.make_node("Loop", ["most", "", "identity"], ["matrix"], body=body),
        # Of the result, so that the loop is not left out.
        helper.make_node("ReduceMax", ["matrix"], ["one"], keepdims=0),
        helper.make_node("Cast", ["one"], ["factor"], to=TensorProto.INT64),
        helper.make_node("Mul", ["turns", "factor"], ["turned"]),
    ]
    identity = numpy_helper.from_array(np.eye(256, dtype=np.float32), "identity")
    inputs, outputs = [_rows("turns", TensorProto.INT64)], [_rows("turned", TensorProto.INT64)]
    return _model(helper.make_graph(nodes, "slow", inputs, outputs, [identity]))


def _pick_graph() -> bytes:
    """A graph that fails, with its whole batch, for an index that is not in its table."""
    nodes = [helper.make_node("Gather", ["table", "index"], ["value"])]
    table = numpy_helper.from_array(_TABLE, "table")
    inputs, outputs = [_rows("index", TensorProto.INT64)], [_rows("value", TensorProto.FLOAT)]
    return _model(helper.make_graph(nodes, "pick", inputs, outputs, [table]))


def _request(model: str, name: str, number: int) -> Any:
    row = np.array([[number]], np.int64).tobytes()
    request = kserve.ModelInferRequest(model_name=model, raw_input_contents=[row])
    request.inputs.add(name=name, datatype="INT64", shape=[1, 1])
    return request


class Busy:
    """A server of one thread, which can be kept busy for a while."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub: Any = GRPCInferenceServiceStub(channel)
        self.turn(1)
        began = time.monotonic()
        self.turn(100)
        self._turns = int(100 * _BUSY_S / (time.monotonic() - began))

    def turn(self, turns: int) -> Any:
        return self.stub.ModelInfer(_request("slow", "turns", turns))

    def begin(self) -> Any:
        """Keep the server busy for a while; the call that does."""
        call = self.stub.ModelInfer.future(_request("slow", "turns", self._turns))
        # On one connection: once this is answered, that has begun, for nothing else was to do.
        self.stub.ServerMetadata(kserve.ServerMetadataRequest())
        return call


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., Any]) -> Iterator[Busy]:
    repository = tmp_path_factory.mktemp("busy")
    for name, graph, config in (("slow", _slow_graph(), _SLOW), ("pick", _pick_graph(), _PICK)):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / "model.onnx").write_bytes(graph)
        (repository / name / "config.pbtxt").write_text(config, encoding="utf-8")
    with serve(repository) as server:
        assert server.address, "".join(server.log)
        with grpc.insecure_channel(server.address) as channel:
            yield Busy(channel)


def test_timeout_of_100_ms_is_answered_within_150_ms_while_the_model_is_busy(busy: Busy) -> None:
    hasty = _request("slow", "turns", 1)
    hasty.parameters["timeout"].int64_param = 100_000
    soonest_s = 60.0

    for _ in range(_LOOKS):
        call = busy.begin()
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            busy.stub.ModelInfer(hasty)
        soonest_s = min(soonest_s, time.monotonic() - began)

        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert not call.done()
        call.result()
        if soonest_s < 0.15:
            break

    assert 0.1 <= soonest_s < 0.15


def test_cancelled_and_poisoned_neighbours_in_a_batch_harm_nobody(busy: Busy) -> None:
    call = busy.begin()
    infer = busy.stub.ModelInfer.future
    good = [infer(_request("pick", "index", number)) for number in range(10)]
    poisoned = [infer(_request("pick", "index", number)) for number in (10, -99)]
    cancelled = [infer(_request("pick", "index", 0)) for _ in range(5)]
    busy.stub.ServerMetadata(kserve.ServerMetadataRequest())
    for each in cancelled:
        each.cancel()
    assert not call.done()

    values = [np.frombuffer(each.result().raw_output_contents[0], np.float32) for each in good]

    np.testing.assert_array_equal(np.concatenate(values), _TABLE)
    assert [each.exception().code() for each in poisoned] == [grpc.StatusCode.INTERNAL] * 2
    counts = busy.stub.ModelStatistics(kserve.ModelStatisticsRequest(name="pick")).model_stats[0]
    assert counts.inference_count == 10  # what was cancelled never ran
    assert call.result()


def test_client_of_thousands_of_images_does_not_starve_one_of_single_images(
    tiny_repository: Path, serve: Callable[..., Any]
) -> None:
    def timed(generate: Any, count: int) -> float:
        began = time.monotonic()
        answer = generate(pb.GenerateRequest(count=count, format=_RAW))
        assert len(answer.faces) == count
        return time.monotonic() - began

    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    flags = ("--max-images", "1000", "--max-queue-rows", "100000")
    with (
        serve(tiny_repository, *flags) as server,
        grpc.insecure_channel(server.address, options=options) as greedy,
        grpc.insecure_channel(server.address, options=options) as modest,
        ThreadPoolExecutor(4) as threads,
    ):
        single, many = FaceServiceStub(modest).Generate, FaceServiceStub(greedy).Generate
        timed(single, 1)
        done = threading.Event()

        def hoard() -> list[float]:
            spent = []
            while not done.is_set():
                spent.append(timed(many, 1000))
            return spent

        hoards = [threads.submit(hoard) for _ in range(4)]
        single_s = [timed(single, 1) for _ in range(40)]
        done.set()
        many_s = [spent for each in hoards for spent in each.result()]

    # First come, first served, each would have waited for all that was there before it.
    assert statistics.median(single_s) < statistics.median(many_s) / 4


def test_fifty_reloads_under_load_fail_no_call_and_leave_memory_as_it_was(
    tiny_repository: Path, serve: Callable[..., Any]
) -> None:
    flags = ["--model-control", "explicit", "--load-models", "*", "--allow-admin"]
    flags += ["--max-batch-rows", "16"]  # not to be measured at each load
    with (
        serve(tiny_repository, *flags) as server,
        grpc.insecure_channel(server.address) as channel,
        ThreadPoolExecutor(3) as threads,
    ):
        stub, done = GRPCInferenceServiceStub(channel), threading.Event()
        asked = kserve.ModelConfigRequest(name="tiny-vae-decoder")
        config = stub.ModelConfig(asked).config

        def reload(number: int) -> int:
            config.parameters["reload"].string_value = str(number)
            request = kserve.RepositoryModelLoadRequest(model_name=config.name)
            request.parameters["config"].string_param = json_format.MessageToJson(config)
            stub.RepositoryModelLoad(request)
            return _resident_kib(server.process.pid)

        def generate() -> int:
            wanted = FaceServiceStub(channel).Generate(pb.GenerateRequest(count=3, seed=1))
            count = 1
            while not done.is_set():
                got = FaceServiceStub(channel).Generate(pb.GenerateRequest(count=3, seed=1))
                assert got == wanted
                count += 1
            return count

        calls = [threads.submit(generate) for _ in range(3)]
        resident_kib = [reload(number) for number in range(60)]
        done.set()

        assert all(call.result() > 1 for call in calls)
        assert stub.ModelConfig(asked).config.parameters["reload"].string_value == "59"
        assert (
            statistics.median(resident_kib[-10:]) < statistics.median(resident_kib[5:15]) + 16_000
        )


def _resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0])

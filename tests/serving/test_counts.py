import re
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub

_INFER = "/inference.GRPCInferenceService/ModelInfer"
_GENERATE = "/facegen.v1.FaceService/Generate"
_RAW = image_pb2.ImageFormat(mime_type="application/octet-stream")
_THREADS = 8
_ROUNDS = 25
# `timeout` is heeded where a queue policy lets requests bring one.
_HEED_TIMEOUT = "dynamic_batching { default_queue_policy { allow_timeout_override: true } }"
_PICK = """
max_batch_size: 8
input { name: "index" data_type: TYPE_INT64 dims: 1 }
output { name: "value" data_type: TYPE_FP32 dims: 1 }
"""


def _pick_graph() -> bytes:
    """A graph that fails for every index but 0 and 1."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "index"], ["value"])],
        "pick",
        [helper.make_tensor_value_info("index", TensorProto.INT64, ["batch", 1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor("table", TensorProto.FLOAT, [2], [5.0, 7.0])],
    )
    opsets = [helper.make_opsetid("", 20)]
    graph_bytes: bytes = helper.make_model(
        graph, opset_imports=opsets, ir_version=9
    ).SerializeToString()
    return graph_bytes


class _Metrics:
    """A server's metrics, scraped once."""

    def __init__(self, log: list[str]) -> None:
        (address,) = re.findall(r"metrics ready address=(\S+)", "".join(log))
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            families = text_string_to_metric_families(answer.read().decode())
        self._samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> int:
        """The sum of the samples with these labels."""
        # The parser puts `_total` behind every counter's name.
        return int(
            sum(
                sample.value
                for sample in self._samples
                if sample.name.removesuffix("_total") == name
                and labels.items() <= sample.labels.items()
            )
        )

    def codes(self, method: str) -> Counter[str]:
        return Counter(
            {
                sample.labels["code"]: int(sample.value)
                for sample in self._samples
                if sample.name == "facegen_calls_total" and sample.labels["method"] == method
            }
        )


@pytest.fixture
def server(
    serve: Callable[..., Any], write_model: Callable[..., Path], write_graph: Callable[..., Path]
) -> Iterator[Any]:
    """A server of `double`, whose queue is short, and of `pick`, which fails for most inputs."""
    write_model("double", extra=_HEED_TIMEOUT)
    repository = write_graph(_pick_graph(), "pick", config=_PICK)
    flags = ("--metrics-address", "127.0.0.1:0", "--max-queue-rows", "4")
    with serve(repository, *flags, "--max-concurrent-calls", "6") as server:
        assert server.address, "".join(server.log)
        yield server


def _double(rows: int, columns: int = 4) -> list[triton.InferInput]:
    tensor = triton.InferInput("x", [rows, columns], "FP32")
    tensor.set_data_from_numpy(np.ones((rows, columns), np.float32))
    return [tensor]


def _pick(index: int) -> list[triton.InferInput]:
    tensor = triton.InferInput("index", [1, 1], "INT64")
    tensor.set_data_from_numpy(np.array([[index]]))
    return [tensor]


def _call(client: triton.InferenceServerClient, model: str, *arguments: Any, **options: Any) -> str:
    """Call a model; the code as the client sees it."""
    try:
        client.infer(model, *arguments, **options)
    except InferenceServerException as error:
        return str(error.status()).removeprefix("StatusCode.")
    return "OK"


def _calls(address: str) -> Counter[tuple[str, str, int]]:
    """Make good and bad calls, many at a time; counts them by what they were, code and rows."""
    counts: Counter[tuple[str, str, int]] = Counter()

    def run(thread: int) -> list[tuple[str, str, int]]:
        with triton.InferenceServerClient(address) as client:
            seen = []
            for round_ in range(_ROUNDS):
                rows = 1 + (thread + round_) % 5
                seen += [
                    ("double", _call(client, "double", _double(rows)), rows),
                    ("late", _call(client, "double", _double(1), timeout=1), 1),
                    ("shape", _call(client, "double", _double(rows, 3)), rows),
                    ("nobody", _call(client, "nobody", _double(rows)), rows),
                    ("pick", _call(client, "pick", _pick(thread % 4)), 1),
                ]
            return seen

    with ThreadPoolExecutor(_THREADS) as threads:
        for seen in threads.map(run, range(_THREADS)):
            counts.update(seen)
    return counts


def _count(calls: Counter[tuple[str, str, int]], kinds: str, *codes: str) -> int:
    return sum(n for (kind, code, _), n in calls.items() if kind in kinds.split() and code in codes)


def _check_model(statistics: Any, metrics: _Metrics) -> None:
    """Check that Statistics and metrics tell the same of a model."""
    name = statistics.name
    counts = statistics.inference_stats
    told = {
        "nv_inference_request_success": counts.success.count,
        "nv_inference_request_failure": counts.fail.count,
        "nv_inference_count": statistics.inference_count,
        "nv_inference_exec_count": statistics.execution_count,
        "nv_inference_request_duration_us": counts.success.ns // 1000,
        "nv_inference_queue_duration_us": counts.queue.ns // 1000,
        "nv_inference_compute_infer_duration_us": counts.compute_infer.ns // 1000,
        "facegen_batch_rows_sum": statistics.inference_count,
        "facegen_batch_rows_count": sum(it.compute_infer.count for it in statistics.batch_stats),
        "facegen_queue_rows": 0,
        "nv_inference_pending_request_count": 0,
    }
    assert {metric: metrics.value(metric, model=name) for metric in told} == told
    assert statistics.execution_count == told["facegen_batch_rows_count"]


def test_statistics_metrics_and_the_clients_own_counts_agree(server: Any) -> None:
    calls = _calls(server.address)

    with triton.InferenceServerClient(server.address) as client:
        statistics = client.get_inference_statistics().model_stats
    metrics = _Metrics(server.log)
    by_code: Counter[str] = Counter()
    for (_, code, _), number in calls.items():
        by_code[code] += number
    assert sum(by_code.values()) == _THREADS * _ROUNDS * 5
    assert metrics.codes(_INFER) == by_code
    durations = metrics.value("facegen_call_duration_seconds_count", method=_INFER)
    assert durations == sum(by_code.values())
    assert metrics.value("facegen_calls_in_flight") == 0
    double, pick = sorted(statistics, key=lambda model: str(model.name))
    for model in (double, pick):
        _check_model(model, metrics)
    assert double.inference_stats.success.count == _count(calls, "double late", "OK")
    assert pick.inference_stats.success.count == _count(calls, "pick", "OK")
    backend = metrics.value("nv_inference_request_failure", model="pick", reason="BACKEND")
    assert backend == _count(calls, "pick", "INTERNAL")
    rows = sum(
        rows * number
        for (kind, code, rows), number in calls.items()
        if kind in ("double", "late") and code == "OK"
    )
    assert double.inference_count == rows


def test_failing_model_writes_no_lines_of_its_own_into_the_log(server: Any) -> None:
    with triton.InferenceServerClient(server.address) as client:
        assert _call(client, "pick", _pick(3)) == "INTERNAL"
    server.terminate()
    assert server.wait() == 0

    line = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ facegen\.\S+ .*\n| \| .*\n"
    assert [text for text in server.log if not re.fullmatch(line, text)] == []


def test_faces_are_counted_row_by_row(start_server: Callable[..., Any]) -> None:
    server = start_server("--metrics-address", "127.0.0.1:0")
    with grpc.insecure_channel(server.address) as channel:
        faces = FaceServiceStub(channel)
        for count in (1, 2, 3):
            request = pb.GenerateRequest(family="tiny-vae", count=count, format=_RAW)
            assert len(faces.Generate(request).faces) == count
        with pytest.raises(grpc.RpcError):
            faces.Generate(pb.GenerateRequest(family="nobody"))
        list(faces.GenerateStream(pb.GenerateStreamRequest(family="tiny-vae", count=5)))

    metrics = _Metrics(server.log)
    assert metrics.codes(_GENERATE) == {"OK": 3, "INVALID_ARGUMENT": 1}
    assert metrics.codes(f"{_GENERATE}Stream") == {"OK": 1}
    assert metrics.value("nv_inference_count", model="tiny-vae-decoder") == 1 + 2 + 3 + 5

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from facegen.serving.config import ServerConfig
from facegen.serving.engine import VersionState
from facegen.serving.errors import ServerError
from facegen.serving.onnx.engine import OnnxEngine
from facegen.serving.remote.engine import TritonEngine
from facegen.serving.statistics import BatchStatistics, ModelStatistics
from facegen.serving.telemetry import Telemetry
from facegen.serving.telemetry.call_counts import CallCounts
from facegen.serving.telemetry.machine import CpuUse, memory_bytes
from facegen.serving.telemetry.model_metrics import model_metrics, ready_metric
from facegen.serving.telemetry.observer import Observer

_LOOPBACK = ServerConfig(metrics_address="127.0.0.1:0")
_METHOD = "/facegen.v1.FaceService/Generate"


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry(_LOOPBACK)
    telemetry.start()
    yield telemetry
    telemetry.close()


def _scrape(telemetry: Telemetry) -> str:
    with urllib.request.urlopen(f"http://{telemetry.metrics_address}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text: str = answer.read().decode()
    return text


def _samples(text: str) -> dict[tuple[str, ...], float]:
    """Values by name and labels' values, in the labels' order."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_calls_are_counted_by_method_and_code(telemetry: Telemetry) -> None:
    for code in (grpc.StatusCode.OK, grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND):
        telemetry.observer.begin(_METHOD, (), "r").end(code)
    telemetry.observer.begin(_METHOD, (), "under way")

    samples = _samples(_scrape(telemetry))

    assert samples["facegen_calls_total", "OK", _METHOD] == 2
    assert samples["facegen_calls_total", "NOT_FOUND", _METHOD] == 1
    assert samples["facegen_calls_in_flight", _METHOD] == 1
    assert samples["facegen_call_duration_seconds_count", _METHOD] == 3
    assert samples["facegen_call_duration_seconds_bucket", "30", _METHOD] == 3


def test_durations_fall_into_their_buckets() -> None:
    counts = CallCounts()
    counter = counts.of(_METHOD)
    for duration_ns in (500_000, 500_001, 31_000_000_000):
        counter.begin()
        counter.end(grpc.StatusCode.OK, duration_ns)

    (count,) = counts.read()

    assert (count.buckets[0], count.buckets[1], count.buckets[-1]) == (1, 1, 1)
    assert count.total_s == pytest.approx(31.001000001)


def test_counts_of_many_threads_are_exact() -> None:
    counts = CallCounts()
    observer = Observer(counts)

    def call() -> None:
        for _ in range(2000):
            observer.begin(_METHOD, (), "r").end(grpc.StatusCode.OK)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (count,) = counts.read()
    assert count.codes == {grpc.StatusCode.OK: 16_000}
    assert (sum(count.buckets), count.in_flight) == (16_000, 0)


def _model() -> ModelStatistics:
    model = ModelStatistics("m", "3", inference_count=11, execution_count=3)
    model.success.add(5_000_000, 4)
    model.queue.add(1_000_999)
    for reason in ("REJECTED", "TIMEOUT", "TIMEOUT", "CANCELED", "OTHER"):
        model.fail(reason, 1)
    for rows, count in ((1, 1), (5, 2)):
        model.batches[rows] = BatchStatistics()
        model.batches[rows].compute_infer.add(1, count)
    model.pending_rows, model.pending_requests = 7, 2
    return model


def test_models_are_told_in_tritons_names_and_ours() -> None:
    families = {family.name: family for family in model_metrics([_model()])}

    def values(name: str) -> list[float]:
        return [sample.value for sample in families[name].samples]

    assert values("nv_inference_request_success") == [4]
    assert values("nv_inference_count") == [11]
    assert values("nv_inference_exec_count") == [3]
    assert values("nv_inference_request_duration_us") == [5000]
    assert values("nv_inference_queue_duration_us") == [1000]
    assert values("nv_inference_pending_request_count") == [2]
    assert values("facegen_queue_rows") == [7]
    labels = {"model": "m", "version": "3"}
    failures = families["nv_inference_request_failure"].samples
    assert {s.labels["reason"]: s.value for s in failures} == {
        "REJECTED": 3,
        "CANCELED": 1,
        "BACKEND": 0,
        "OTHER": 1,
    }
    rows = families["facegen_batch_rows"].samples
    assert Sample("facegen_batch_rows_bucket", {**labels, "le": "1"}, 1) in rows
    assert Sample("facegen_batch_rows_bucket", {**labels, "le": "4"}, 1) in rows
    assert Sample("facegen_batch_rows_bucket", {**labels, "le": "8"}, 3) in rows
    assert Sample("facegen_batch_rows_count", labels, 3) in rows
    assert Sample("facegen_batch_rows_sum", labels, 11) in rows


def test_model_that_is_not_ready_is_told() -> None:
    metric = ready_metric(
        [VersionState("a", "1", "READY"), VersionState("b", "", "UNAVAILABLE", "no graph")]
    )

    assert [(s.labels["model"], s.value) for s in metric.samples] == [("a", 1), ("b", 0)]


def test_server_tells_its_versions_and_its_use_of_the_machine(telemetry: Telemetry) -> None:
    text = _scrape(telemetry)
    samples = _samples(text)

    assert 'facegen_build_info{facegen="' in text
    assert 0 <= samples["nv_cpu_utilization",] <= 1
    assert 0 < samples["nv_cpu_memory_used_bytes",] < samples["nv_cpu_memory_total_bytes",]
    assert samples["process_resident_memory_bytes",] > 10_000_000


def test_tritons_counters_have_its_names_and_are_counters(
    telemetry: Telemetry, write_model: Callable[..., Path]
) -> None:
    with OnnxEngine(write_model()) as engine:
        telemetry.watch(engine)
        engine.infer("double", {"x": np.ones((2, 4), np.float32)})

        text = _scrape(telemetry)

    assert "# TYPE nv_inference_request_success counter\n" in text
    assert 'nv_inference_request_success{model="double",version="1"} 1.0\n' in text
    assert 'nv_inference_count{model="double",version="1"} 2.0\n' in text
    assert 'facegen_model_ready{model="double",version="1"} 1.0\n' in text
    assert "untyped" not in text


def test_engine_out_of_reach_leaves_the_other_metrics(telemetry: Telemetry) -> None:
    telemetry.watch(TritonEngine("127.0.0.1:1"))

    text = _scrape(telemetry)

    assert "nv_cpu_utilization" in text
    assert "nv_inference_count" not in text


def test_other_paths_are_not_found(telemetry: Telemetry) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://{telemetry.metrics_address}/")
    with caught.value:
        assert caught.value.code == 404


@pytest.mark.parametrize("address", ["127.0.0.1:{taken}", "no port", "127.0.0.1:99999", ":-1"])
def test_address_that_cannot_be_had_is_told(address: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = address.format(taken=taken.getsockname()[1])
        telemetry = Telemetry(ServerConfig(metrics_address=address))

        with pytest.raises(ServerError, match=f'cannot serve metrics on "{address}"'):
            telemetry.start()
        telemetry.close()


def test_port_is_free_after_the_close(telemetry: Telemetry) -> None:
    address = telemetry.metrics_address
    telemetry.close()
    again = Telemetry(ServerConfig(metrics_address=address))

    again.start()

    assert again.metrics_address == address
    again.close()


def test_cpu_use_is_that_since_the_last_reading(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 1\n")
    use = CpuUse(stat)
    stat.write_text("cpu  40 0 20 120 20 0 0 0 0 0\n")

    assert use.read() == pytest.approx(0.4)
    assert use.read() == 0


def test_memory_used_is_what_cannot_be_had(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(
        "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\nHugePages_Total: 0\n"
    )

    assert memory_bytes(meminfo) == (1_024_000, 614_400)

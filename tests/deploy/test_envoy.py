"""deploy/envoy/envoy.yaml, run by a real Envoy in front of real servers; addresses alone differ."""

import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import yaml
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from benchmarks.replicas import (
    ENVOY_CONFIG,
    ENVOY_PATH,
    Envoy,
    Replica,
    envoy,
    replicas,
    wait_until,
)
from benchmarks.rollout import roll_out
from facegen.client import (
    RAW_PIXELS,
    Client,
    HealthStatus,
    Image,
    NotFoundError,
    ResourceExhaustedError,
    Retry,
    Tls,
    UnavailableError,
)
from facegen.serving.config import ServerConfig
from tests.serving.family_graphs import (
    EXPRESSION_FAMILY,
    PLAIN_FAMILY,
    write_expression_family,
    write_plain_family,
)

_PAGE = ENVOY_CONFIG.parents[2] / "docs" / "scaling.md"
_SERVER = ServerConfig()
_ONCE = Retry(max_attempts=1)


def _config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(ENVOY_CONFIG.read_text("utf-8"))
    return config


def _cluster() -> dict[str, Any]:
    """The part about the replicas."""
    cluster: dict[str, Any] = _config()["static_resources"]["clusters"][0]
    return cluster


def _chain(config: dict[str, Any]) -> dict[str, Any]:
    """The part about what comes from clients."""
    chain: dict[str, Any] = config["static_resources"]["listeners"][0]["filter_chains"][0]
    return chain


def _manager(config: dict[str, Any]) -> dict[str, Any]:
    """The part about connections of clients."""
    manager: dict[str, Any] = _chain(config)["filters"][0]["typed_config"]
    return manager


def _seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


@contextmanager
def _fronted(repository: Path, folder: Path, *flags: str) -> Iterator[tuple[list[Replica], Envoy]]:
    """Two replicas that this test may end, and an Envoy."""
    with (
        replicas(repository, 2, folder=folder, flags=flags) as started,
        envoy([replica.port for replica in started], folder=folder) as front,
    ):
        wait_until(lambda: len(front.healthy_ports()) == 2, "both being healthy")
        yield started, front


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plain_family(write_expression_family(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def front(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """An Envoy before two replicas that all tests share."""
    with _fronted(repository, tmp_path_factory.mktemp("fleet"), "--allow-admin") as (_, running):
        yield running


def test_configuration_is_valid_as_it_stands_and_uses_nothing_deprecated() -> None:
    command = [str(ENVOY_PATH), "--mode", "validate", "-c", str(ENVOY_CONFIG)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert "Deprecated" not in done.stderr


def test_numbers_agree_with_the_servers() -> None:
    protocol = _cluster()["typed_extension_protocol_options"]
    upstream = protocol["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    http2 = upstream["explicit_http_config"]["http2_protocol_options"]

    assert http2["max_concurrent_streams"] <= _SERVER.max_connection_streams
    # The server takes pings of a connection at rest every ten seconds.
    assert _seconds(http2["connection_keepalive"]["interval"]) > 10
    # Envoy lets go of a call after the server's own wait for its end.
    assert _seconds(_manager(_config())["stream_idle_timeout"]) > _SERVER.drain_timeout_s
    assert _config()["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_calls_of_one_connection_go_to_all_replicas(front: Envoy) -> None:
    before = front.host_counts("rq_total")

    with Client(front.address) as client:
        for seed in range(100):
            client.generate(1, family=PLAIN_FAMILY, seed=seed)

    calls = [count - before[port] for port, count in front.host_counts("rq_total").items()]
    assert sum(calls) == 100
    assert min(calls) > 20


def test_calls_at_once_are_shared_by_how_busy_replicas_are(front: Envoy) -> None:
    with Client(front.address, timeout_s=60) as client:
        streams = [
            client.generate_stream(100_000, family=PLAIN_FAMILY, seed=seed, mime_type=RAW_PIXELS)
            for seed in range(8)
        ]
        for stream in streams:
            next(stream)
        active = front.host_counts("rq_active")

    assert sum(active.values()) == 8
    assert min(active.values()) >= 2


def test_methods_that_change_one_replica_are_refused(front: Envoy) -> None:
    with grpc.insecure_channel(front.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for call, request in (
            (stub.RepositoryModelLoad, kserve.RepositoryModelLoadRequest(model_name="a")),
            (stub.RepositoryModelUnload, kserve.RepositoryModelUnloadRequest(model_name="a")),
            (stub.SystemSharedMemoryRegister, kserve.SystemSharedMemoryRegisterRequest(name="a")),
            (stub.TraceSetting, kserve.TraceSettingRequest()),
            (stub.LogSettings, kserve.LogSettingsRequest()),
        ):
            with pytest.raises(grpc.RpcError, match="call each by its own address") as caught:
                call(request)
            assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert stub.RepositoryIndex(kserve.RepositoryIndexRequest()).models


def test_large_messages_pass_both_ways_up_to_the_servers_limit(front: Envoy) -> None:
    side_px = 3000
    pixels = np.zeros((side_px, side_px, 1), np.uint8).tobytes()
    photo = Image(pixels, RAW_PIXELS, height_px=side_px, width_px=side_px, channel_count=1)
    with Client(front.address, timeout_s=120) as client:
        given = client.transfer(
            [photo] * 3,
            ["happiness", "anger"],
            family=EXPRESSION_FAMILY,
            finding="cropped",
            mime_type=RAW_PIXELS,
        )
        with pytest.raises(ResourceExhaustedError, match="--max-message-bytes"):
            client.encode([photo] * 8, family=EXPRESSION_FAMILY)

    images = [made.image for each in given.photos for made in each.images]
    assert [len(image.data) for image in images] == [side_px * side_px] * 6


def test_health_is_answered_by_a_replica(front: Envoy) -> None:
    with Client(front.address) as client:
        client.wait_until_serving()

        assert client.health() is HealthStatus.SERVING
        assert client.health("nobody") is HealthStatus.SERVICE_UNKNOWN


def test_family_that_nobody_has_is_told_so(front: Envoy) -> None:
    with Client(front.address) as client, pytest.raises(NotFoundError, match="nobody"):
        client.model("nobody")


def test_only_statistics_are_read_from_outside(front: Envoy) -> None:
    def get(path: str, **how: Any) -> tuple[int, str]:
        request = urllib.request.Request(f"http://{front.stats_address}{path}", **how)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, ""

    status, metrics = get("/stats/prometheus")

    assert status == 200
    assert 'envoy_cluster_upstream_rq_retry{envoy_cluster_name="facegen"}' in metrics
    assert get("/ready")[0] == 200
    assert get("/ready", method="POST")[0] == 404
    for path in ("/", "/config_dump", "/quitquitquit", "/stats", "/stats/prometheus/../clusters"):
        assert get(path)[0] in (400, 404)


def test_name_of_a_call_reaches_the_servers_log(repository: Path, tmp_path: Path) -> None:
    with _fronted(repository, tmp_path, "--log-level", "debug") as (started, front):
        with grpc.insecure_channel(front.address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            stub.ServerMetadata(
                kserve.ServerMetadataRequest(), metadata=[("x-request-id", "gallery-17")]
            )

        wait_until(
            lambda: any("gallery-17" in each.log_path.read_text() for each in started), "the log"
        )


def test_replica_that_drains_gets_no_more_calls_before_it_takes_none(
    repository: Path, tmp_path: Path
) -> None:
    check = _cluster()["health_checks"][0]
    # What docs/scaling.md asks for: the drain's delay is longer than this.
    notice_s = _seconds(check["interval"]) + _seconds(check["timeout"])

    with _fronted(repository, tmp_path, "--drain-delay-s", "600") as (started, front):
        leaving, staying = started
        leaving.ask_to_end()
        wait_until(
            lambda: front.healthy_ports() == {staying.port}, "noticing", timeout_s=10 * notice_s
        )
        before = front.host_counts("rq_total")
        with Client(front.address, retry=_ONCE) as client, Client(leaving.address) as directly:
            for seed in range(50):
                client.generate(1, family=PLAIN_FAMILY, seed=seed)
            after = front.host_counts("rq_total")

            assert after[leaving.port] == before[leaving.port]
            assert len(directly.generate(1, family=PLAIN_FAMILY).faces) == 1  # all the while


def test_drain_delays_of_deployments_are_longer_than_envoy_takes_to_notice() -> None:
    check = _cluster()["health_checks"][0]
    root = ENVOY_CONFIG.parents[2]
    files = [root / "docker-compose.scale.yml", *(root / "deploy" / "kubernetes").rglob("*.yaml")]
    delays = [
        float(delay)
        for file in files
        for delay in re.findall(r"DRAIN_DELAY_S\W+(\d+)", file.read_text())
    ]

    assert delays
    # NOT_SERVING counts at once; checks that are lost, only so many in a row.
    assert min(delays) > _seconds(check["interval"]) * check["unhealthy_threshold"]


def test_stream_that_outlasts_the_drain_goes_on_elsewhere(repository: Path, tmp_path: Path) -> None:
    with (
        _fronted(repository, tmp_path, "--drain-timeout-s", "0.5") as (started, front),
        Client(front.address, timeout_s=60) as client,
    ):
        stream = client.generate_stream(5000, family=PLAIN_FAMILY, seed=1, mime_type=RAW_PIXELS)
        indices = [next(stream).index]
        (busy,) = [port for port, count in front.host_counts("rq_active").items() if count]
        (leaving,) = [replica for replica in started if replica.port == busy]

        assert leaving.terminate() == 0  # while the stream is not read
        indices += [face.index for face in stream]

        assert indices == list(range(5000))
        assert front.count("http.grpc.downstream_rq_total") == 2


def test_killed_replica_is_passed_over_after_three_calls(repository: Path, tmp_path: Path) -> None:
    with _fronted(repository, tmp_path) as (started, front):
        started[0].kill()
        with Client(front.address, retry=_ONCE) as client:
            for seed in range(300):
                client.generate(1, family=PLAIN_FAMILY, seed=seed)

        assert front.count("cluster.facegen.upstream_rq_retry") <= 3


def test_version_that_one_replica_lacks_is_found_on_the_other(tmp_path: Path) -> None:
    folders = [tmp_path / "behind", tmp_path / "ahead"]
    for folder in folders:
        folder.mkdir()
        write_plain_family(folder)
    roll_out(folders[1], PLAIN_FAMILY, "2", make=lambda _, graph: graph)
    with ExitStack() as stack:
        (behind,) = stack.enter_context(replicas(folders[0], 1, folder=folders[0].parent))
        (ahead,) = stack.enter_context(replicas(folders[1], 1, folder=tmp_path))
        front = stack.enter_context(envoy([behind.port, ahead.port], folder=tmp_path))
        wait_until(lambda: len(front.healthy_ports()) == 2, "both being healthy")

        with (
            Client(front.address, retry=_ONCE) as client,
            grpc.insecure_channel(front.address) as channel,
        ):
            metadata = GRPCInferenceServiceStub(channel).ModelMetadata
            decoder = kserve.ModelMetadataRequest(name=f"{PLAIN_FAMILY}-decoder", version="2")
            for seed in range(25):
                drawn = client.generate(1, family=PLAIN_FAMILY, version="2", seed=seed)
                assert drawn.version == "2"
                assert metadata(decoder).versions == ["2"]

        assert min(front.host_counts("rq_total").values()) >= 10


def test_call_while_no_replica_is_there_is_unavailable(repository: Path, tmp_path: Path) -> None:
    with _fronted(repository, tmp_path) as (started, front):
        for replica in started:
            replica.kill()

        with Client(front.address, retry=_ONCE) as client, pytest.raises(UnavailableError):
            client.generate(1, family=PLAIN_FAMILY)

        started[0].restart()
        with Client(front.address, timeout_s=60) as client:
            client.wait_until_serving()
            assert len(client.generate(1, family=PLAIN_FAMILY).faces) == 1


def test_connection_that_is_ended_for_its_age_loses_nothing(
    repository: Path, tmp_path: Path
) -> None:
    def hurry(config: dict[str, Any]) -> None:
        _manager(config)["common_http_protocol_options"]["max_connection_duration"] = "0.5s"
        _manager(config)["drain_timeout"] = "0.5s"

    with (
        replicas(repository, 1, folder=tmp_path) as (replica,),
        envoy([replica.port], folder=tmp_path, change=hurry) as front,
        Client(front.address, retry=_ONCE, timeout_s=60) as client,
    ):
        stream = client.generate_stream(5000, family=PLAIN_FAMILY, seed=1, mime_type=RAW_PIXELS)
        indices = [next(stream).index]
        while front.count("http.grpc.downstream_cx_max_duration_reached") < 3:
            client.generate(1, family=PLAIN_FAMILY)
        indices += [face.index for face in stream]

    assert indices == list(range(5000))


def test_tls_of_the_documentation_ends_at_envoy(
    repository: Path, tmp_path: Path, new_authority: Callable[[], Any]
) -> None:
    authority = new_authority()
    certificate, key = authority.issue("envoy")
    (text,) = re.findall(r"^```yaml\n(transport_socket:.*?)^```", _PAGE.read_text(), re.M | re.S)
    for path, file in (("/run/envoy/server.pem", certificate), ("/run/envoy/server.key", key)):
        assert path in text
        text = text.replace(path, str(file))

    with (
        replicas(repository, 1, folder=tmp_path) as (replica,),
        envoy(
            [replica.port],
            folder=tmp_path,
            change=lambda it: _chain(it).update(yaml.safe_load(text)),
        ) as front,
        Client(front.address, credentials=Tls(authority.certificate)) as client,
        Client(front.address, retry=_ONCE) as plain,
    ):
        assert len(client.generate(1, family=PLAIN_FAMILY).faces) == 1
        with pytest.raises(UnavailableError):
            plain.generate(1, family=PLAIN_FAMILY)

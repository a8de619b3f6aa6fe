import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # ships no py.typed
    RetryInfo,
)
from grpc_health.v1 import health_pb2, health_pb2_grpc

from facegen.client import (
    RAW_PIXELS,
    AsyncClient,
    Client,
    DeadlineError,
    Face,
    ResourceExhaustedError,
    Retry,
    ServerError,
    UnavailableError,
)

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
FAST = Retry(max_attempts=3, initial_backoff_s=0.01, max_backoff_s=0.02)
Make = Callable[..., Any]


class BreakingHealth(health_pb2_grpc.HealthServicer):
    """Breaks off the first watches; the third says that it serves."""

    def __init__(self) -> None:
        self.watch_count = 0

    def Watch(  # noqa: N802  # gRPC's name
        self, request: Any, context: Any
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        self.watch_count += 1
        if self.watch_count < 3:
            yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
            context.abort(UNAVAILABLE, "going away")
        yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
def breaking_health() -> Iterator[str]:
    """The address of a server whose health breaks off."""
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(BreakingHealth(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def retry_after(seconds: float) -> RetryInfo:
    return RetryInfo(retry_delay=Duration(nanos=round(seconds * 1e9)))


def test_unavailable_is_tried_again(scripted_server: Make, fail: Make) -> None:
    server = scripted_server(fail(UNAVAILABLE), fail(UNAVAILABLE))

    with Client(server.address, retry=FAST) as client:
        generated = client.generate(2)

    assert [face.index for face in generated.faces] == [0, 1]
    assert len(server.faces.requests) == 3


def test_answer_that_breaks_off_is_asked_for_again(scripted_server: Make, fail: Make) -> None:
    server = scripted_server(fail(UNAVAILABLE, begun=True), fail(UNAVAILABLE, begun=True))

    with Client(server.address, retry=FAST) as client:
        generated = client.generate(2)

    assert [face.index for face in generated.faces] == [0, 1]
    assert len(server.faces.requests) == 3


async def test_answer_that_breaks_off_is_asked_for_again_by_asyncio(
    scripted_server: Make, fail: Make
) -> None:
    server = scripted_server(fail(UNAVAILABLE, begun=True))

    async with AsyncClient(server.address, retry=FAST) as client:
        generated = await client.generate(2)

    assert len(generated.faces) == 2
    assert len(server.faces.requests) == 2


def test_large_request_is_tried_again_too(scripted_server: Make, fail: Make) -> None:
    server = scripted_server(fail(UNAVAILABLE))

    with Client(server.address, retry=FAST) as client:
        client.generate(1, family="f" * 1_000_000)

    assert len(server.faces.requests) == 2


def test_unavailable_is_not_waited_for_past_the_deadline(scripted_server: Make, fail: Make) -> None:
    server = scripted_server(*[fail(UNAVAILABLE)] * 9)
    slow = Retry(initial_backoff_s=10.0, max_backoff_s=10.0)

    with (
        Client(server.address, retry=slow, timeout_s=1.0) as client,
        pytest.raises(UnavailableError),
    ):
        client.generate(1)

    assert len(server.faces.requests) == 1


def test_unavailable_for_good_raises_after_the_last_attempt(
    scripted_server: Make, fail: Make
) -> None:
    server = scripted_server(*[fail(UNAVAILABLE)] * 9)

    with (
        Client(server.address, retry=FAST) as client,
        pytest.raises(UnavailableError, match=rf"{server.address}: is the server running"),
    ):
        client.generate(1)

    assert len(server.faces.requests) == 3


def test_retries_can_be_switched_off(scripted_server: Make, fail: Make) -> None:
    server = scripted_server(fail(UNAVAILABLE))

    with (
        Client(server.address, retry=Retry(max_attempts=1)) as client,
        pytest.raises(UnavailableError),
    ):
        client.generate(1)

    assert len(server.faces.requests) == 1


def test_full_queue_is_tried_again_when_the_server_said(scripted_server: Make, fail: Make) -> None:
    server = scripted_server(fail(EXHAUSTED, retry_after(0.2)))
    start_s = time.monotonic()

    with Client(server.address, retry=FAST) as client:
        client.generate(1)

    assert time.monotonic() - start_s >= 0.2
    assert len(server.faces.requests) == 2


def test_full_queue_is_not_waited_for_past_the_deadline(scripted_server: Make, fail: Make) -> None:
    server = scripted_server(fail(EXHAUSTED, retry_after(0.9)))

    with (
        Client(server.address, retry=FAST, timeout_s=0.8) as client,
        pytest.raises(ResourceExhaustedError) as caught,
    ):
        client.generate(1)

    assert caught.value.retry_after_s == pytest.approx(0.9)
    assert len(server.faces.requests) == 1


def test_exhaustion_without_advice_is_final(scripted_server: Make, fail: Make) -> None:
    server = scripted_server(fail(EXHAUSTED, message="message of 9 bytes, at most 4"))

    with (
        Client(server.address, retry=FAST) as client,
        pytest.raises(ResourceExhaustedError, match="message of 9 bytes") as caught,
    ):
        client.generate(1)

    assert caught.value.retry_after_s is None
    assert len(server.faces.requests) == 1


def test_broken_stream_resumes_at_the_next_face(scripted_server: Make, fail: Make) -> None:
    server = scripted_server(fail(UNAVAILABLE, after=2), fail(UNAVAILABLE, after=1))

    with Client(server.address, retry=FAST) as client:
        faces = list(client.generate_stream(5, first_index=10))

    assert [face.index for face in faces] == [10, 11, 12, 13, 14]
    assert [face.image.data for face in faces] == [b"10", b"11", b"12", b"13", b"14"]
    first, second, third = server.faces.requests
    assert not first.HasField("seed")
    assert (second.first_index, second.count, second.seed) == (12, 3, 7)
    assert (third.first_index, third.count, third.seed) == (13, 2, 7)
    assert (third.family, third.version, third.prior) == ("scripted", "3", "normal")


async def test_broken_asyncio_stream_resumes_at_the_next_face(
    scripted_server: Make, fail: Make
) -> None:
    server = scripted_server(fail(UNAVAILABLE, after=2))

    async with AsyncClient(server.address, retry=FAST) as client:
        indices = [face.index async for face in client.generate_stream(4)]

    assert indices == [0, 1, 2, 3]


def test_stream_refused_by_a_full_queue_waits_and_goes_on(
    scripted_server: Make, fail: Make
) -> None:
    server = scripted_server(fail(EXHAUSTED, retry_after(0.01)))

    with Client(server.address, retry=FAST) as client:
        assert len(list(client.generate_stream(3))) == 3


def test_stream_that_brings_nothing_fails_after_the_last_attempt(
    scripted_server: Make, fail: Make
) -> None:
    server = scripted_server(*[fail(UNAVAILABLE)] * 9)

    with Client(server.address, retry=FAST) as client, pytest.raises(UnavailableError):
        list(client.generate_stream(3))

    assert len(server.faces.requests) == 3


def test_stream_past_its_deadline_goes_on_if_faces_came(scripted_server: Make, fail: Make) -> None:
    server = scripted_server(
        fail(grpc.StatusCode.DEADLINE_EXCEEDED, after=2), fail(grpc.StatusCode.DEADLINE_EXCEEDED)
    )
    faces: list[Face] = []

    with Client(server.address, retry=FAST) as client, pytest.raises(DeadlineError):
        faces.extend(client.generate_stream(3))

    assert len(server.faces.requests) == 2


def test_stream_that_ends_early_is_an_error(scripted_server: Make) -> None:
    server = scripted_server(1)

    with (
        Client(server.address) as client,
        pytest.raises(ServerError, match="with 2 faces still to come"),
    ):
        list(client.generate_stream(3))


def test_health_is_asked_once(free_address: Make) -> None:
    start_s = time.monotonic()
    patient = Retry(initial_backoff_s=20.0, max_backoff_s=20.0)

    with Client(free_address(), retry=patient) as client, pytest.raises(UnavailableError):
        client.health()

    assert time.monotonic() - start_s < 10


def test_waiting_goes_on_when_the_server_goes_before_it_serves(breaking_health: str) -> None:
    with Client(breaking_health, retry=FAST) as client:
        client.wait_until_serving()


async def test_waiting_goes_on_by_asyncio_too(breaking_health: str) -> None:
    async with AsyncClient(breaking_health, retry=FAST) as client:
        await client.wait_until_serving()


def test_stream_outlives_a_killed_server(serve: Make, free_address: Make) -> None:
    address = free_address()
    wanted: dict[str, Any] = {"seed": 7, "mime_type": RAW_PIXELS}
    with Client(address, timeout_s=60, wait_for_ready=True) as client:
        with serve(address) as process:
            client.wait_until_serving()
            stream = client.generate_stream(1_000_000, **wanted)
            indices = [next(stream).index]
            process.kill()
        with serve(address):
            # Far more than the connection to the first server can have held.
            while indices[-1] < 2000:
                face = next(stream)
                indices.append(face.index)
            again = client.generate(1, first_index=2000, **wanted).faces[0]

    assert indices == list(range(2001))
    assert face == again

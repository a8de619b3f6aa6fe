import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # ships no py.typed
    RetryInfo,
)

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


def retry_after(seconds: float) -> RetryInfo:
    return RetryInfo(retry_delay=Duration(nanos=round(seconds * 1e9)))


def test_unavailable_is_tried_again(scripted_server: Make, fail: Make) -> None:
    server = scripted_server(fail(UNAVAILABLE), fail(UNAVAILABLE))

    with Client(server.address, retry=FAST) as client:
        generated = client.generate(2)

    assert [face.index for face in generated.faces] == [0, 1]
    assert len(server.faces.requests) == 3


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


def test_stream_that_brings_nothing_fails_after_the_attempts_of_grpc(
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

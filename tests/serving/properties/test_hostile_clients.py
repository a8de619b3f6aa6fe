"""Clients that keep to no rules: odd headers, false lengths, calls begun and left."""

import threading
import zlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2
from tests.serving.properties.calls import METHODS, path_of
from tests.serving.properties.conftest import MOST_CALLS, MOST_STREAMS
from tests.serving.properties.http2 import Connection, framed
from tests.serving.properties.process import unharmed

_PATHS = {method.name: path_of(method) for method in METHODS}
_INFER = _PATHS["ModelInfer"]
_RAW = image_pb2.ImageFormat(mime_type="application/octet-stream")
_ENDLESS = pb.GenerateStreamRequest(count=2**60, seed=1, format=_RAW).SerializeToString()
# As many as a connection takes, and more.
_CALLS = 3 * MOST_STREAMS


def _request() -> Any:
    request = kserve.ModelInferRequest(model_name="affine", raw_input_contents=[bytes(24)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 6])
    return request


_MESSAGE = _request().SerializeToString()
_MESSAGES = {"GenerateStream": _ENDLESS, "ModelInfer": _MESSAGE, "ModelStreamInfer": _MESSAGE}
_STREAMS = ("ModelStreamInfer", "GenerateStream", "Watch", "ServerReflectionInfo")


@pytest.fixture
def known(channels: list[grpc.Channel]) -> Callable[[], Any]:
    """What the server must go on answering, at once."""
    stub = GRPCInferenceServiceStub(channels[0])

    def ask() -> Any:
        metadata = stub.ServerMetadata(kserve.ServerMetadataRequest(), timeout=10)
        return stub.ModelInfer(_request(), timeout=10), metadata

    return ask


_HEADERS = (
    (b"x-a", b"\xff\xfe\x80"),
    (b"authorization", b"Bearer \xff\0"),
    (b"x-request-id", b"\xff\n\0"),
    (b"X-A \xff", b"a"),
    (b"x-a", b"a\0b\r\nc: d"),
    (b"x-bin", b"***!"),
    (b"traceparent", b"00-\xff" * 50),
    (b"x-a", b"a" * 12_000),
    (b"grpc-timeout", b"-1S"),
    (b"grpc-timeout", b"99999999H"),
    (b"grpc-timeout", b"99999999999H"),
    (b"grpc-timeout", b"0n"),
    (b"grpc-encoding", b"zzz"),
)


@pytest.mark.parametrize(
    "method", ["ModelInfer", "Generate", "ServerLive", "Watch", "ModelStreamInfer"]
)
def test_odd_headers_do_no_harm(server: Any, known: Callable[[], Any], method: str) -> None:
    with unharmed(server, known):
        for header in _HEADERS:
            with Connection(server.address) as connection:
                stream = connection.begin(_PATHS[method], header)
                connection.data(stream, framed(_MESSAGES.get(method, b"")))
                if method != "Watch":
                    connection.wait_for_end(stream)


_FRAMES = (
    framed(_MESSAGE, length=2**32 - 1),
    framed(_MESSAGE, length=3),
    framed(_MESSAGE) * 2,
    b"",
    b"\0\0",  # half of what comes before a message
    framed(_MESSAGE, compressed=1),
    framed(_MESSAGE, compressed=7),
)


@pytest.mark.parametrize("method", ["ModelInfer", "Encode", *_STREAMS])
def test_false_frames_do_no_harm(server: Any, known: Callable[[], Any], method: str) -> None:
    with unharmed(server, known):
        for content in _FRAMES:
            for encoding in (b"identity", b"gzip"):
                with Connection(server.address) as connection:
                    stream = connection.begin(_PATHS[method], (b"grpc-encoding", encoding))
                    connection.data(stream, content)
                    connection.ping()


def _gzip(content: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    return compressor.compress(content) + compressor.flush()


def test_message_that_unpacks_to_too_much_is_refused(server: Any, known: Callable[[], Any]) -> None:
    bomb = framed(_gzip(bytes(2**28)), compressed=1)

    with unharmed(server, known), Connection(server.address) as connection:
        stream = connection.begin(_INFER, (b"grpc-encoding", b"gzip"))
        for begin in range(0, len(bomb), 2**14):
            connection.data(stream, bomb[begin : begin + 2**14], end=begin + 2**14 >= len(bomb))
        connection.wait_for_end(stream)


@pytest.mark.parametrize("method", ["ModelInfer", "Encode", "GenerateStream", "Watch"])
def test_calls_without_messages_take_no_room_and_delay_nobody(
    server: Any, known: Callable[[], Any], method: str
) -> None:
    with unharmed(server, known):
        connections = [Connection(server.address) for _ in range(MOST_CALLS // MOST_STREAMS + 2)]
        for connection in connections:
            for _ in range(MOST_STREAMS):
                connection.begin(_PATHS[method])
            connection.ping()

        known()
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("method", ["ModelInfer", "Encode", *_STREAMS])
def test_calls_begun_and_cancelled_again_and_again_do_no_harm(
    server: Any, known: Callable[[], Any], method: str
) -> None:
    with unharmed(server, known), Connection(server.address) as connection:
        for _ in range(10 * _CALLS):
            stream = connection.begin(_PATHS[method])
            connection.data(stream, framed(_MESSAGES.get(method, b"")))
            connection.reset(stream)
        connection.ping()


@pytest.mark.parametrize("method", ["ModelInfer", *_STREAMS])
def test_clients_that_vanish_midway_do_no_harm(
    server: Any, known: Callable[[], Any], method: str
) -> None:
    with unharmed(server, known):
        for times in range(_CALLS):
            with Connection(server.address) as connection:
                stream = connection.begin(_PATHS[method])
                connection.data(stream, framed(_MESSAGES.get(method, b"")), end=False)
                if times % 2:
                    connection.ping()


def test_clients_that_do_not_read_delay_nobody(server: Any, known: Callable[[], Any]) -> None:
    with unharmed(server, known):
        connections = [Connection(server.address) for _ in range(10)]
        for connection in connections:
            stream = connection.begin(_PATHS["GenerateStream"])
            connection.data(stream, framed(_ENDLESS))
            connection.ping()

        for _ in range(20):
            known()
        for connection in connections:
            connection.close()


def test_clients_that_crash_with_calls_under_way_do_no_harm(
    server: Any, known: Callable[[], Any]
) -> None:
    def client() -> None:
        with Connection(server.address) as connection:
            for method in ("ModelInfer", "GenerateStream", "ModelStreamInfer") * 5:
                stream = connection.begin(_PATHS[method])
                connection.data(stream, framed(_MESSAGES[method]))

    with unharmed(server, known):
        threads = [threading.Thread(target=client) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_unknown_methods_do_no_harm(server: Any, known: Callable[[], Any]) -> None:
    long = "/" + "a" * 7000 + "/b"

    with unharmed(server, known), Connection(server.address) as connection:
        for path in ("/a/b", "no slash", "/", "//", long, "/inference.\xff/ModelInfer"):
            stream = connection.begin(path)
            connection.data(stream, framed(_MESSAGE))
        connection.ping()


def test_bytes_that_are_no_http2_do_no_harm(server: Any, known: Callable[[], Any]) -> None:
    with unharmed(server, known):
        for content in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", bytes(range(256)) * 400):
            with Connection(server.address) as connection:
                connection.send(content)

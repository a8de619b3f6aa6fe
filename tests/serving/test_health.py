import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from facegen.serving.rpc.calls import Calls
from facegen.serving.rpc.health import Health

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@contextmanager
def _stub(health: Health) -> Iterator[Any]:
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)
    health.close()
    server.stop(None)


def _request(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


class _Context:
    """Of a watch that a test makes by itself."""

    def add_callback(self, callback: Any) -> bool:
        return True


def test_check_tells_of_names_that_are_known() -> None:
    health = Health(Calls(), max_watches=4)
    health.update({"": True, "double": False})
    with _stub(health) as stub:
        assert stub.Check(_request("")).status == _SERVING
        assert stub.Check(_request("double")).status == _NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(_request("triple"))

    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_watch_follows_a_name_that_comes_goes_and_drains() -> None:
    health = Health(Calls(), max_watches=4)
    with _stub(health) as stub:
        watch = stub.Watch(_request("double"))
        seen = [next(watch).status]
        health.update({"double": True})
        seen.append(next(watch).status)
        health.update({"other": True, "double": True})
        health.update({"double": False})
        seen.append(next(watch).status)
        health.update({"double": True})
        seen.append(next(watch).status)
        health.drain()
        seen.append(next(watch).status)
        health.update({"double": True})
        health.close()

        assert list(watch) == []
    assert seen == [_SERVICE_UNKNOWN, _SERVING, _NOT_SERVING, _SERVING, _NOT_SERVING]


def test_many_watch_with_two_threads() -> None:
    health = Health(Calls(), max_watches=64)
    health.update({"": False})
    with _stub(health) as stub:
        watches = [stub.Watch(_request("")) for _ in range(64)]
        assert [next(watch).status for watch in watches] == [_NOT_SERVING] * 64
        health.update({"": True})

        assert [next(watch).status for watch in watches] == [_SERVING] * 64
        assert stub.Check(_request("")).status == _SERVING


def test_more_watchers_than_allowed_are_refused_until_one_leaves() -> None:
    health = Health(Calls(), max_watches=1)
    health.update({"": True})
    with _stub(health) as stub:
        first = stub.Watch(_request(""))
        next(first)
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.Watch(_request("")))
        first.cancel()

        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        while not _is_watched(stub):
            pass


def test_watcher_that_does_not_read_delays_nobody() -> None:
    health = Health(Calls(), max_watches=4)
    health.update({"": True})
    stuck, read = threading.Event(), threading.Event()
    told: SimpleQueue[Any] = SimpleQueue()

    def send_slowly(response: Any) -> None:
        stuck.set()
        assert read.wait(30)

    watch: Any = health.Watch
    watching = threading.Thread(target=watch, args=(_request(""), _Context(), send_slowly))
    watching.start()
    assert stuck.wait(30)
    watch(_request(""), _Context(), told.put)
    health.drain()

    assert [told.get(timeout=30).status for _ in range(2)] == [_SERVING, _NOT_SERVING]
    with _stub(health) as stub:
        assert stub.Check(_request("")).status == _NOT_SERVING
    read.set()
    watching.join()


def _is_watched(stub: Any) -> bool:
    try:
        return bool(next(stub.Watch(_request(""))).status == _SERVING)
    except grpc.RpcError:
        return False

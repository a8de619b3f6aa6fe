"""The engine on a remote server: NVIDIA Triton, or another facegen server."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from facegen.errors import FacegenError
from facegen.serving.engine import Array, Done, Engine, InferRequest, ModelInfo, VersionState
from facegen.serving.errors import (
    CallCancelledError,
    CapabilityError,
    DeadlineError,
    EngineClosedError,
    ModelNotFoundError,
    QueueFullError,
    ServerError,
    UnreachableError,
)
from facegen.serving.remote.messages import check_dtypes, count_rows, infer_messages
from facegen.serving.remote.pending import PendingRequest
from facegen.serving.remote.server import RemoteServer
from facegen.serving.remote.status import Call
from facegen.serving.statistics import ModelStatistics

__all__ = ["TritonEngine"]

_LOGGER = logging.getLogger(__name__)

_PAUSE_S = 0.1
_RETRY_AFTER_S = 0.1


class TritonEngine(Engine):
    """Runs models on a server that speaks KServe v2 with Triton's extensions.

    What it serves is read by RepositoryIndex and ModelConfig: at the start, every `poll_s`, and
    after loading or unloading through this engine. While the server is away, requests fail with
    `UnreachableError`; gRPC connects again by itself.

    Args:
        address: The server's host and port.
        max_queue_rows: Rows of one model that may be under way at a time.
        start_timeout_s: How long to wait for the server at the start.
        poll_s: Seconds between looks at what it serves.
    """

    def __init__(
        self,
        address: str,
        *,
        max_queue_rows: int = 2048,
        start_timeout_s: float = 60.0,
        poll_s: float = 5.0,
    ) -> None:
        self._server = RemoteServer(address)
        self._max_queue_rows = max_queue_rows
        self._start_timeout_s = start_timeout_s
        self._poll_s = poll_s
        self._models: dict[str, dict[str, ModelInfo]] = {}  # by name, then version, both rising
        self._callbacks: list[Callable[[], None]] = []
        self._refreshing = threading.Lock()
        self._rows: Counter[str] = Counter()  # under way, by model
        self._idle = threading.Condition()  # guards _rows
        self._closed = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="remote-poll", daemon=True)

    def start(self) -> Self:
        """Wait for the server and read what it serves.

        Raises:
            ServerError: It does not answer in time, or lacks what discovery needs.
        """
        try:
            self._await_server()
        except BaseException:
            self.close()
            raise
        self._poller.start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def models(self) -> Sequence[ModelInfo]:
        """See `Engine`."""
        return [info for versions in self._models.values() for info in versions.values()]

    def model(self, name: str, version: str = "") -> ModelInfo:
        """See `Engine`."""
        models = self._models
        versions = models.get(name, {})
        info = versions.get(version) if version else next(reversed(versions.values()), None)
        if info is None:
            raise ModelNotFoundError(name, version, available=list(models))
        return info

    def index(self) -> Sequence[VersionState]:
        """See `Engine`; raises UnreachableError while the server is away."""
        return self._server.index()

    def submit(self, request: InferRequest, done: Done) -> None:
        """See `Engine`."""
        try:
            info = self.model(request.model, request.version)
            rows = count_rows(info, request)
            call = self._call_of(request)
            check_dtypes(request)
            self._take_room(info.name, rows)
        except FacegenError as error:
            done(error)
            return

        def answered(answer: dict[str, Array] | FacegenError) -> None:
            self._give_room(info.name, rows)
            done(answer)

        messages = infer_messages(info, request, rows)
        count = -(-rows // (info.max_batch_size or 1))
        PendingRequest(call, info, request, answered).send(self._server.infer, messages, count)

    def load(
        self, model: str, *, config: str = "", files: Mapping[str, bytes] | None = None
    ) -> None:
        """See `Engine`; the server must allow it."""
        try:
            self._server.load(model, config, files or {})
        finally:
            self._refresh()

    def unload(self, model: str) -> None:
        """See `Engine`; the server must allow it."""
        self._server.unload(model)
        self._refresh()

    def statistics(self, model: str = "", version: str = "") -> Sequence[ModelStatistics]:
        """See `Engine`: what the server did for all its callers."""
        return self._server.statistics(model, version)

    def on_change(self, callback: Callable[[], None]) -> None:
        """See `Engine`."""
        self._callbacks.append(callback)

    def close(self) -> None:
        """See `Engine`."""
        self._closed.set()
        with self._idle:
            self._idle.wait_for(lambda: not self._rows)
        if self._poller.is_alive():
            self._poller.join()
        self._server.close()

    def _call_of(self, request: InferRequest) -> Call:
        """Give what errors will tell of a request, unless nobody waits for it already."""
        if request.context.cancelled:
            raise CallCancelledError
        if request.context.left_s() == 0:
            raise DeadlineError(request.model, timeout_s=0)
        return Call(self._server.name, request.model, request.version)

    def _take_room(self, model: str, rows: int) -> None:
        with self._idle:
            if self._closed.is_set():
                raise EngineClosedError
            taken, limit = self._rows[model], self._max_queue_rows
            if taken and taken + rows > limit:
                raise QueueFullError(
                    model, rows, queued=taken, limit=limit, retry_after_s=_RETRY_AFTER_S
                )
            self._rows[model] += rows

    def _give_room(self, model: str, rows: int) -> None:
        with self._idle:
            self._rows[model] -= rows
            if not self._rows[model]:
                del self._rows[model]
                self._idle.notify_all()

    def _await_server(self) -> None:
        end = time.monotonic() + self._start_timeout_s
        waiting = False
        while True:
            try:
                self._refresh()
                return
            except (UnreachableError, DeadlineError) as error:
                if time.monotonic() > end:
                    raise ServerError(
                        f"no answer within {self._start_timeout_s:g} s: {error}",
                        "start that server, or correct --engine",
                    ) from error
                if not waiting:
                    _LOGGER.info("waiting for server address=%s", self._server.name)
                    waiting = True
            except CapabilityError as error:
                raise ServerError(
                    f"{self._server.name} lacks Triton's RepositoryIndex or ModelConfig: {error}",
                    "name a Triton or a facegen server",
                ) from error
            self._closed.wait(_PAUSE_S)

    def _poll(self) -> None:
        reachable = True
        while not self._closed.wait(self._poll_s):
            try:
                self._refresh()
            except FacegenError as error:
                if reachable:
                    _LOGGER.warning("server is away address=%s: %s", self._server.name, error)
                reachable = False
            else:
                if not reachable:
                    _LOGGER.info("server is back address=%s", self._server.name)
                reachable = True

    def _refresh(self) -> None:
        """Read what the server serves, and tell if that changed."""
        with self._refreshing:
            models = self._server.models()
            changed = models != self._models
            self._models = models
        if changed:
            _LOGGER.info("models address=%s ready=%s", self._server.name, ",".join(models))
            for callback in tuple(self._callbacks):
                callback()

"""What a client for asyncio code has whatever it asks for: a connection to a server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from facegen.client import convert
from facegen.client.attempts import Attempts, DrawStream
from facegen.client.channel import Retry, channel_options
from facegen.client.credentials import Tls, call_metadata, channel_credentials
from facegen.client.errors import NotFoundError, UnavailableError
from facegen.client.types import HealthStatus, Model
from facegen.v1 import (
    face_service_pb2_grpc,
    mesh_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)

__all__ = ["AsyncServerConnection"]

T = TypeVar("T")
Request = TypeVar("Request")
Response = TypeVar("Response")

_ONCE = Retry(max_attempts=1)
_WATCH_PAUSE_S = 0.1


class AsyncServerConnection:
    """A connection to a server, its health and its models; see `AsyncClient`."""

    def __init__(
        self,
        address: str = "localhost:50051",
        *,
        timeout_s: float = 30.0,
        wait_for_ready: bool = False,
        retry: Retry | None = None,
        credentials: Tls | grpc.ChannelCredentials | None = None,
        token: str = "",
        insecure_token: bool = False,
    ) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._wait_for_ready = wait_for_ready
        self._retry = retry or Retry()
        options = channel_options(address, credentials=credentials)
        secure = channel_credentials(credentials)
        self._metadata = call_metadata(
            token, address=address, secure=secure is not None, insecure_token=insecure_token
        )
        self._channel = (
            grpc.aio.secure_channel(address, secure, options)
            if secure
            else grpc.aio.insecure_channel(address, options)
        )
        self._faces = face_service_pb2_grpc.FaceServiceStub(self._channel)
        self._meshes = mesh_service_pb2_grpc.MeshServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        health: Any = health_pb2_grpc.HealthStub(self._channel)  # its types lack its methods
        self._check, self._watch = health.Check, health.Watch

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._channel.close()

    async def models(self) -> tuple[Model, ...]:
        """List the families that are served, by name."""
        models: list[Model] = []
        request = model_service_pb2.ListModelsRequest()
        while True:
            response = await self._call(self._models.ListModels, request)
            models.extend(map(convert.model, response.models))
            if not response.next_page_token:
                return tuple(models)
            request.page_token = response.next_page_token

    async def model(self, family: str, *, version: str = "") -> Model:
        """Describe one family; `version` empty: the newest."""
        request = model_service_pb2.GetModelRequest(family=family, version=version)
        return convert.model((await self._call(self._models.GetModel, request)).model)

    async def health(self, service: str = "") -> HealthStatus:
        """Ask how the server (or one of its services) is; asked once, with no retry.

        Raises:
            UnavailableError: No server answers.
        """
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            response = await self._call(self._check, request, retry=_ONCE)
        except NotFoundError:
            return HealthStatus.SERVICE_UNKNOWN
        return convert.health_status(response)

    async def wait_until_serving(self, service: str = "") -> None:
        """Wait until the server is ready; see `Client.wait_until_serving`."""
        request = health_pb2.HealthCheckRequest(service=service)
        attempts = self._attempts()
        while True:
            call = self._watch(
                request,
                timeout=attempts.remaining_s(),
                wait_for_ready=True,
                metadata=self._metadata,
            )
            try:
                async for response in call:
                    if convert.health_status(response) is HealthStatus.SERVING:
                        return
            except grpc.RpcError as error:
                failure = attempts.failure(error)
                if not isinstance(failure, UnavailableError):
                    raise failure from error
            finally:
                call.cancel()
            # This server is going away; another may come.
            await asyncio.sleep(min(_WATCH_PAUSE_S, attempts.remaining_s()))

    async def _call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        *,
        retry: Retry | None = None,
    ) -> Response:
        attempts = self._attempts(retry)
        while True:
            try:
                return await method(
                    request,
                    timeout=attempts.remaining_s(),
                    wait_for_ready=self._wait_for_ready,
                    metadata=self._metadata,
                )
            except grpc.RpcError as error:
                await asyncio.sleep(attempts.pause_s(error))

    def _attempts(self, retry: Retry | None = None) -> Attempts:
        return Attempts(
            address=self._address, timeout_s=self._timeout_s, retry=retry or self._retry
        )

    async def _stream(
        self,
        method: "grpc.aio.UnaryStreamMultiCallable[Any, Any]",
        request: Any,
        read: Callable[[Any], tuple[T, ...]],
    ) -> AsyncIterator[T]:
        """Call a method that streams faces, again where it broke off; `read` gives a response's."""
        stream = DrawStream(
            request, read, address=self._address, timeout_s=self._timeout_s, retry=self._retry
        )
        while True:
            call = method(
                stream.request,
                timeout=stream.timeout_s,
                wait_for_ready=self._wait_for_ready,
                metadata=self._metadata,
            )
            try:
                async for response in call:
                    for face in stream.accept(response):
                        yield face
                stream.finish()
            except grpc.RpcError as error:
                await asyncio.sleep(stream.pause_s(error))
            else:
                return
            finally:
                call.cancel()

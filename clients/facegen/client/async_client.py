"""The client for asyncio code: the methods of `Client`, awaited."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from facegen.client import convert, requests
from facegen.client.attempts import Attempts, FaceStream
from facegen.client.channel import Retry, channel_options
from facegen.client.credentials import Tls, call_metadata, channel_credentials
from facegen.client.errors import NotFoundError
from facegen.client.status import error_of_status
from facegen.client.types import (
    Animation,
    Crop,
    Decoded,
    Edited,
    EditView,
    Encoding,
    Endpoint,
    ExpressionTarget,
    Face,
    FaceFinding,
    FaceSource,
    Generated,
    HealthStatus,
    ImageSource,
    Interpolated,
    Interpolation,
    Latent,
    Model,
    Reconstructed,
    Transferred,
    TransferView,
    Traversal,
)
from facegen.v1 import face_service_pb2_grpc, model_service_pb2, model_service_pb2_grpc

__all__ = ["AsyncClient"]

Request = TypeVar("Request")
Response = TypeVar("Response")


class AsyncClient:
    """Calls a facegen server from one event loop; its methods, arguments and errors are `Client`'s.

    Args:
        address: `host:port`, or any target gRPC understands (`dns:///…`, `unix:…`).
        timeout_s: Seconds within which a call must be answered, retries included.
        wait_for_ready: Whether calls wait for a server that is not there yet, up to their timeout.
        retry: When failed calls are made again.
        credentials: `Tls()`, or gRPC's own; None: plain text.
        token: A bearer token; sent only over TLS, or within this machine.
        insecure_token: Whether it may be sent in plain text to other machines all the same.

    Raises:
        FileError: A file of `credentials` cannot be read.
        TokenError: The token would leave this machine in plain text.

    Example:
        >>> async with AsyncClient("localhost:50051") as client:  # doctest: +SKIP
        ...     async for face in client.generate_stream(1000, seed=7):
        ...         face.image.save(f"{face.index}.png")
    """

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
        options = channel_options(address, retry=self._retry, credentials=credentials)
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

    async def generate(
        self,
        count: int,
        *,
        family: str = "",
        version: str = "",
        seed: int | None = None,
        first_index: int = 0,
        temperature: float | None = None,
        prior: str = "",
        expression: str = "",
        mime_type: str = "image/png",
        quality: int | None = None,
        include_latents: bool = False,
    ) -> Generated:
        """Draw faces from a prior; see `Client.generate`."""
        request = requests.generate_request(
            count,
            family=family,
            version=version,
            seed=seed,
            first_index=first_index,
            temperature=temperature,
            prior=prior,
            expression=expression,
            mime_type=mime_type,
            quality=quality,
            include_latents=include_latents,
        )
        return convert.generated(await self._call(self._faces.Generate, request))

    def generate_stream(
        self,
        count: int,
        *,
        family: str = "",
        version: str = "",
        seed: int | None = None,
        first_index: int = 0,
        temperature: float | None = None,
        prior: str = "",
        expression: str = "",
        mime_type: str = "image/png",
        quality: int | None = None,
        include_latents: bool = False,
    ) -> AsyncIterator[Face]:
        """Draw any number of faces, given as they are made; the arguments are those of `generate`.

        If the server goes away the stream resumes at the next face by itself.
        """
        request = requests.generate_stream_request(
            count,
            family=family,
            version=version,
            seed=seed,
            first_index=first_index,
            temperature=temperature,
            prior=prior,
            expression=expression,
            mime_type=mime_type,
            quality=quality,
            include_latents=include_latents,
        )
        stream = FaceStream(
            request, address=self._address, timeout_s=self._timeout_s, retry=self._retry
        )
        return self._stream(stream)

    async def reconstruct(
        self,
        images: Iterable[ImageSource],
        *,
        family: str = "",
        version: str = "",
        crop: Crop | None = None,
        expression: str = "",
        mime_type: str = "image/png",
        quality: int | None = None,
        include_inputs: bool = False,
    ) -> Reconstructed:
        """Encode pictures and decode their latents; see `Client.reconstruct`."""
        request = await asyncio.to_thread(
            requests.reconstruct_request,
            images,
            family=family,
            version=version,
            crop=crop,
            expression=expression,
            mime_type=mime_type,
            quality=quality,
            include_inputs=include_inputs,
        )
        return convert.reconstructed(await self._call(self._faces.Reconstruct, request))

    async def encode(
        self,
        images: Iterable[ImageSource],
        *,
        family: str = "",
        version: str = "",
        crop: Crop | None = None,
    ) -> tuple[Encoding, ...]:
        """Give the latents of pictures; see `Client.encode`."""
        request = await asyncio.to_thread(
            requests.encode_request, images, family=family, version=version, crop=crop
        )
        return convert.encodings(await self._call(self._faces.Encode, request))

    async def decode(
        self,
        latents: Iterable[Latent],
        *,
        family: str = "",
        version: str = "",
        expression: str = "",
        mime_type: str = "image/png",
        quality: int | None = None,
    ) -> Decoded:
        """Draw the pictures of latents; see `Client.decode`."""
        request = requests.decode_request(
            latents,
            family=family,
            version=version,
            expression=expression,
            mime_type=mime_type,
            quality=quality,
        )
        return convert.decoded(await self._call(self._faces.Decode, request))

    async def interpolate(
        self,
        start: Endpoint,
        end: Endpoint,
        *,
        count: int,
        interpolation: Interpolation = "spherical",
        family: str = "",
        version: str = "",
        crop: Crop | None = None,
        expression: str = "",
        animation: Animation | None = None,
        mime_type: str = "",
        quality: int | None = None,
    ) -> Interpolated:
        """Draw the path between two faces; see `Client.interpolate`."""
        request = await asyncio.to_thread(
            requests.interpolate_request,
            start,
            end,
            count=count,
            interpolation=interpolation,
            family=family,
            version=version,
            crop=crop,
            expression=expression,
            animation=animation,
            mime_type=mime_type,
            quality=quality,
        )
        return convert.interpolated(await self._call(self._faces.Interpolate, request))

    async def edit(
        self,
        faces: Iterable[FaceSource],
        moves: Mapping[str, float] | None = None,
        *,
        traversal: Traversal | None = None,
        family: str = "",
        version: str = "",
        crop: Crop | None = None,
        view: EditView | None = None,
        animation: Animation | None = None,
        mime_type: str = "",
        quality: int | None = None,
    ) -> Edited:
        """Move faces along directions; see `Client.edit`."""
        request = await asyncio.to_thread(
            requests.edit_request,
            faces,
            moves,
            traversal=traversal,
            family=family,
            version=version,
            crop=crop,
            view=view,
            animation=animation,
            mime_type=mime_type,
            quality=quality,
        )
        return convert.edited(await self._call(self._faces.Edit, request))

    async def transfer(
        self,
        images: Iterable[ImageSource],
        targets: Iterable[ExpressionTarget | str] = (),
        *,
        family: str = "",
        version: str = "",
        finding: FaceFinding = "detect",
        max_faces: int | None = None,
        view: TransferView = "photo",
        mime_type: str = "image/png",
        quality: int | None = None,
    ) -> Transferred:
        """Give the faces of photos other expressions; see `Client.transfer`."""
        request = await asyncio.to_thread(
            requests.transfer_request,
            images,
            targets,
            family=family,
            version=version,
            finding=finding,
            max_faces=max_faces,
            view=view,
            mime_type=mime_type,
            quality=quality,
        )
        response = await self._call(self._faces.Transfer, request)
        return convert.transferred(response, view=view)

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
            response = await self._call(self._check, request)
        except NotFoundError:
            return HealthStatus.SERVICE_UNKNOWN
        return convert.health_status(response)

    async def wait_until_serving(self, service: str = "") -> None:
        """Wait until the server is ready; see `Client.wait_until_serving`."""
        request = health_pb2.HealthCheckRequest(service=service)
        call = self._watch(
            request, timeout=self._timeout_s, wait_for_ready=True, metadata=self._metadata
        )
        try:
            async for response in call:
                if convert.health_status(response) is HealthStatus.SERVING:
                    return
        except grpc.RpcError as error:
            raise error_of_status(
                error, address=self._address, timeout_s=self._timeout_s
            ) from error
        finally:
            call.cancel()

    async def _call(
        self, method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]", request: Request
    ) -> Response:
        attempts = Attempts(address=self._address, timeout_s=self._timeout_s, retry=self._retry)
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

    async def _stream(self, stream: FaceStream) -> AsyncIterator[Face]:
        while True:
            call = self._faces.GenerateStream(
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

"""The client for code that waits for its answers."""

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from facegen.client import convert
from facegen.client.attempts import Attempts, FaceStream
from facegen.client.channel import Retry, channel_options
from facegen.client.credentials import Tls, call_metadata, channel_credentials
from facegen.client.errors import NotFoundError
from facegen.client.status import error_of_status
from facegen.client.types import (
    Crop,
    Decoded,
    Encoding,
    Endpoint,
    ExpressionTarget,
    Face,
    FaceFinding,
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
)
from facegen.v1 import face_service_pb2_grpc, model_service_pb2, model_service_pb2_grpc

__all__ = ["Client"]

Request = TypeVar("Request")
Response = TypeVar("Response")


class Client:
    """Calls a facegen server; may be shared between threads.

    Every method raises a `ClientError`, never a bare `grpc.RpcError`: `InvalidRequestError` and
    `NotFoundError` if the request can never succeed, `UnavailableError`, `DeadlineError` and
    `ResourceExhaustedError` if it may later (the client has already tried again), `FileError` if a
    picture given by its path cannot be read.

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
        >>> with Client("localhost:50051") as client:  # doctest: +SKIP
        ...     for face in client.generate(4, seed=7).faces:
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
            grpc.secure_channel(address, secure, options)
            if secure
            else grpc.insecure_channel(address, options)
        )
        self._faces = face_service_pb2_grpc.FaceServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        health: Any = health_pb2_grpc.HealthStub(self._channel)  # its types lack its methods
        self._check, self._watch = health.Check, health.Watch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._channel.close()

    def generate(
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
        """Draw faces from a prior: face i of a seed is the same in every call.

        Args:
            count: How many, 1 to the server's limit (256 unless configured); `generate_stream` has
                none.
            family: The family to draw from; empty: the server's default.
            version: Its version; empty: the newest.
            seed: 0 to 2**64 - 1; None: drawn by the server, and part of the answer.
            first_index: The index of the first face under the seed.
            temperature: Standard deviation of the noise, 0 to 10; None: 1.
            prior: The name of one of the family's priors; empty: its default.
            expression: The expression to draw, of a family that has some; empty: its first.
            mime_type: `image/png`, `image/jpeg`, `image/webp` or `RAW_PIXELS`.
            quality: Of JPEG and WebP, 1 to 100; None: 90.
            include_latents: Whether each face brings its latent.
        """
        request = convert.generate_request(
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
        return convert.generated(self._call(self._faces.Generate, request))

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
    ) -> Iterator[Face]:
        """Draw any number of faces, given as they are made; the arguments are those of `generate`.

        If the server goes away the stream resumes at the next face by itself. It fails only when no
        face has come for as long as the client's timeout.
        """
        request = convert.generate_stream_request(
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

    def reconstruct(
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
        """Encode pictures and decode their latents.

        Args:
            images: Encoded bytes, paths or `Image` values, 1 to the server's limit.
            family: The family to use; empty: the server's default.
            version: Its version; empty: the newest.
            crop: Which square of each picture the model sees; None: the central one.
            expression: The expression to draw, of a family that has some; empty: its first.
            mime_type: `image/png`, `image/jpeg`, `image/webp` or `RAW_PIXELS`.
            quality: Of JPEG and WebP, 1 to 100; None: 90.
            include_inputs: Whether the model's view of each picture is given too.
        """
        request = convert.reconstruct_request(
            images,
            family=family,
            version=version,
            crop=crop,
            expression=expression,
            mime_type=mime_type,
            quality=quality,
            include_inputs=include_inputs,
        )
        return convert.reconstructed(self._call(self._faces.Reconstruct, request))

    def encode(
        self,
        images: Iterable[ImageSource],
        *,
        family: str = "",
        version: str = "",
        crop: Crop | None = None,
    ) -> tuple[Encoding, ...]:
        """Give the latents of pictures; the arguments are those of `reconstruct`."""
        request = convert.encode_request(images, family=family, version=version, crop=crop)
        return convert.encodings(self._call(self._faces.Encode, request))

    def decode(
        self,
        latents: Iterable[Latent],
        *,
        family: str = "",
        version: str = "",
        expression: str = "",
        mime_type: str = "image/png",
        quality: int | None = None,
    ) -> Decoded:
        """Draw the pictures of latents.

        Args:
            latents: 1 to the server's limit, all of one family and version.
            family: The family to use; empty: that of the first latent.
            version: Its version; empty: that of the first latent.
            expression: The expression to draw, of a family that has some; empty: its first.
            mime_type: `image/png`, `image/jpeg`, `image/webp` or `RAW_PIXELS`.
            quality: Of JPEG and WebP, 1 to 100; None: 90.
        """
        request = convert.decode_request(
            latents,
            family=family,
            version=version,
            expression=expression,
            mime_type=mime_type,
            quality=quality,
        )
        return convert.decoded(self._call(self._faces.Decode, request))

    def interpolate(
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
        mime_type: str = "image/png",
        quality: int | None = None,
    ) -> Interpolated:
        """Draw the path between two faces.

        Args:
            start: Where it begins: a picture (bytes, path or `Image`) or a `Latent`.
            end: Where it ends.
            count: The number of pictures, both ends included: 2 to the server's limit.
            interpolation: `linear`, or `spherical` (which keeps the latent's norm).
            family: The family to use; empty: the server's default.
            version: Its version; empty: the newest.
            crop: Which square of a picture the model sees; None: the central one.
            expression: The expression to draw, of a family that has some; empty: its first.
            mime_type: `image/png`, `image/jpeg`, `image/webp` or `RAW_PIXELS`.
            quality: Of JPEG and WebP, 1 to 100; None: 90.
        """
        request = convert.interpolate_request(
            start,
            end,
            count=count,
            interpolation=interpolation,
            family=family,
            version=version,
            crop=crop,
            expression=expression,
            mime_type=mime_type,
            quality=quality,
        )
        return convert.interpolated(self._call(self._faces.Interpolate, request))

    def transfer(
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
        """Give the faces of photos other expressions; all else in them stays.

        Args:
            images: Photos as encoded bytes, paths or `Image` values, 1 to the server's limit.
            targets: The expressions wanted, those given by name alone at strength 1; empty: each
                of the family's `expressions`.
            family: The family to use; empty: the server's default if it has expressions, else the
                first by name that has.
            version: Its version; empty: the newest.
            finding: `detect`, or `cropped`: a photo's central square frames one face.
            max_faces: The most faces in a photo, 1 to 32; None: 8. One with more is refused.
            view: `photo`, `crop` (each face alone, aligned, grey and at the model's size) or
                `sheet` (one labelled picture of a photo's faces with every target).
            mime_type: `image/png`, `image/jpeg`, `image/webp` or `RAW_PIXELS`.
            quality: Of JPEG and WebP, 1 to 100; None: 90.

        Raises:
            InvalidRequestError: Among others, a photo shows no face, one too small, or too many:
                `field` says which photo (`images[2]`), `reason` is `NO_FACE`, `FACE_TOO_SMALL` or
                `TOO_MANY_FACES`. No photo of the call is then answered.
            FailedPreconditionError: The family has no expressions.
        """
        request = convert.transfer_request(
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
        return convert.transferred(self._call(self._faces.Transfer, request), view=view)

    def models(self) -> tuple[Model, ...]:
        """List the families that are served, by name."""
        models: list[Model] = []
        request = model_service_pb2.ListModelsRequest()
        while True:
            response = self._call(self._models.ListModels, request)
            models.extend(map(convert.model, response.models))
            if not response.next_page_token:
                return tuple(models)
            request.page_token = response.next_page_token

    def model(self, family: str, *, version: str = "") -> Model:
        """Describe one family; `version` empty: the newest."""
        request = model_service_pb2.GetModelRequest(family=family, version=version)
        return convert.model(self._call(self._models.GetModel, request).model)

    def health(self, service: str = "") -> HealthStatus:
        """Ask how the server (or one of its services) is; asked once, with no retry.

        Raises:
            UnavailableError: No server answers.
        """
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            response = self._call(self._check, request)
        except NotFoundError:
            return HealthStatus.SERVICE_UNKNOWN
        return convert.health_status(response)

    def wait_until_serving(self, service: str = "") -> None:
        """Wait until the server (or one of its services) is ready, also if it is not there yet.

        Raises:
            DeadlineError: It was not ready within the client's timeout.
        """
        request = health_pb2.HealthCheckRequest(service=service)
        call = self._watch(
            request, timeout=self._timeout_s, wait_for_ready=True, metadata=self._metadata
        )
        try:
            for response in call:
                if convert.health_status(response) is HealthStatus.SERVING:
                    return
        except grpc.RpcError as error:
            raise error_of_status(
                error, address=self._address, timeout_s=self._timeout_s
            ) from error
        finally:
            call.cancel()

    def _call(
        self, method: "grpc.UnaryUnaryMultiCallable[Request, Response]", request: Request
    ) -> Response:
        attempts = Attempts(address=self._address, timeout_s=self._timeout_s, retry=self._retry)
        while True:
            try:
                return method(
                    request,
                    timeout=attempts.remaining_s(),
                    wait_for_ready=self._wait_for_ready,
                    metadata=self._metadata,
                )
            except grpc.RpcError as error:
                time.sleep(attempts.pause_s(error))

    def _stream(self, stream: FaceStream) -> Iterator[Face]:
        while True:
            call = self._faces.GenerateStream(
                stream.request,
                timeout=stream.timeout_s,
                wait_for_ready=self._wait_for_ready,
                metadata=self._metadata,
            )
            try:
                for response in call:
                    yield from stream.accept(response)
                stream.finish()
            except grpc.RpcError as error:
                time.sleep(stream.pause_s(error))
            else:
                return
            finally:
                call.cancel()

"""The client for asyncio code: the methods of `Client`, awaited."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

from facegen.client import convert, requests
from facegen.client.async_mesh_client import AsyncMeshClient
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
    ImageSource,
    Interpolated,
    Interpolation,
    Latent,
    Reconstructed,
    Transferred,
    TransferView,
    Traversal,
)

__all__ = ["AsyncClient"]


class AsyncClient(AsyncMeshClient):
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
        return self._stream(self._faces.GenerateStream, request, convert.faces)

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
        response = await self._call(self._faces.Encode, request)
        return convert.encodings(response.encodings)

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

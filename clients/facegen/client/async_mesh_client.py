"""What a client for asyncio code asks of families of meshes: what `MeshClient` does, awaited."""

import asyncio
from collections.abc import AsyncIterator, Iterable

from facegen.client import convert, mesh_requests
from facegen.client.async_connection import AsyncServerConnection
from facegen.client.meshes import (
    RAW_VERTICES,
    DecodedMeshes,
    DrawnMesh,
    GeneratedMeshes,
    InterpolatedMeshes,
    MeshEndpoint,
    MeshSource,
    ReconstructedMeshes,
    Topology,
)
from facegen.client.types import Encoding, Interpolation, Latent

__all__ = ["AsyncMeshClient"]


class AsyncMeshClient(AsyncServerConnection):
    """Calls for meshes; see `AsyncClient`."""

    async def topology(
        self, family: str = "", *, version: str = "", mime_type: str = RAW_VERTICES
    ) -> Topology:
        """Give a family's triangles and its template; see `MeshClient.topology`."""
        request = mesh_requests.topology_request(family, version=version, mime_type=mime_type)
        return mesh_requests.topology(await self._call(self._meshes.GetTopology, request))

    async def generate_meshes(
        self,
        count: int,
        *,
        family: str = "",
        version: str = "",
        seed: int | None = None,
        first_index: int = 0,
        temperature: float | None = None,
        prior: str = "",
        mime_type: str = RAW_VERTICES,
        include_latents: bool = False,
    ) -> GeneratedMeshes:
        """Draw meshes from a prior; see `MeshClient.generate_meshes`."""
        request = mesh_requests.generate_request(
            count,
            family=family,
            version=version,
            seed=seed,
            first_index=first_index,
            temperature=temperature,
            prior=prior,
            mime_type=mime_type,
            include_latents=include_latents,
        )
        return mesh_requests.generated(await self._call(self._meshes.GenerateMeshes, request))

    def generate_meshes_stream(
        self,
        count: int,
        *,
        family: str = "",
        version: str = "",
        seed: int | None = None,
        first_index: int = 0,
        temperature: float | None = None,
        prior: str = "",
        mime_type: str = RAW_VERTICES,
        include_latents: bool = False,
    ) -> AsyncIterator[DrawnMesh]:
        """Draw any number of meshes, given as they are made; arguments as of `generate_meshes`.

        If the server goes away the stream resumes at the next mesh by itself.
        """
        request = mesh_requests.generate_stream_request(
            count,
            family=family,
            version=version,
            seed=seed,
            first_index=first_index,
            temperature=temperature,
            prior=prior,
            mime_type=mime_type,
            include_latents=include_latents,
        )
        return self._stream(self._meshes.GenerateMeshesStream, request, mesh_requests.drawn)

    async def reconstruct_meshes(
        self,
        meshes: Iterable[MeshSource],
        *,
        family: str = "",
        version: str = "",
        mime_type: str = RAW_VERTICES,
    ) -> ReconstructedMeshes:
        """Encode meshes and decode their latents; see `MeshClient.reconstruct_meshes`."""
        request = await asyncio.to_thread(
            mesh_requests.reconstruct_request,
            meshes,
            family=family,
            version=version,
            mime_type=mime_type,
        )
        return mesh_requests.reconstructed(
            await self._call(self._meshes.ReconstructMeshes, request)
        )

    async def encode_meshes(
        self, meshes: Iterable[MeshSource], *, family: str = "", version: str = ""
    ) -> tuple[Encoding, ...]:
        """Give the latents of meshes; see `MeshClient.encode_meshes`."""
        request = await asyncio.to_thread(
            mesh_requests.encode_request, meshes, family=family, version=version
        )
        response = await self._call(self._meshes.EncodeMeshes, request)
        return convert.encodings(response.encodings)

    async def decode_meshes(
        self,
        latents: Iterable[Latent],
        *,
        family: str = "",
        version: str = "",
        mime_type: str = RAW_VERTICES,
    ) -> DecodedMeshes:
        """Make the meshes of latents; see `MeshClient.decode_meshes`."""
        request = mesh_requests.decode_request(
            latents, family=family, version=version, mime_type=mime_type
        )
        return mesh_requests.decoded(await self._call(self._meshes.DecodeMeshes, request))

    async def interpolate_meshes(
        self,
        start: MeshEndpoint,
        end: MeshEndpoint,
        *,
        count: int,
        interpolation: Interpolation = "spherical",
        family: str = "",
        version: str = "",
        mime_type: str = RAW_VERTICES,
    ) -> InterpolatedMeshes:
        """Make the path between two faces; see `MeshClient.interpolate_meshes`."""
        request = await asyncio.to_thread(
            mesh_requests.interpolate_request,
            start,
            end,
            count=count,
            interpolation=interpolation,
            family=family,
            version=version,
            mime_type=mime_type,
        )
        return mesh_requests.interpolated(await self._call(self._meshes.InterpolateMeshes, request))

"""What a client that waits for its answers asks of families of meshes."""

from collections.abc import Iterable, Iterator

from facegen.client import convert, mesh_requests
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
from facegen.client.server_connection import ServerConnection
from facegen.client.types import Encoding, Interpolation, Latent

__all__ = ["MeshClient"]


class MeshClient(ServerConnection):
    """Calls for meshes; see `Client`. They are in millimetres: x right, y up, z to the viewer."""

    def topology(
        self, family: str = "", *, version: str = "", mime_type: str = RAW_VERTICES
    ) -> Topology:
        """Give the triangles that all meshes of a family have, and its template.

        Args:
            family: The family; empty: the server's default if that is of meshes, else the first by
                name that is.
            version: Its version; empty: the newest.
            mime_type: How the template comes: `RAW_VERTICES`, `model/ply`, `model/obj` or
                `model/gltf-binary`.
        """
        request = mesh_requests.topology_request(family, version=version, mime_type=mime_type)
        return mesh_requests.topology(self._call(self._meshes.GetTopology, request))

    def generate_meshes(
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
        """Draw meshes from a prior: mesh i of a seed is the same in every call.

        Args:
            count: How many, 1 to the server's limit (256 unless configured);
                `generate_meshes_stream` has none.
            family: The family to draw from; empty: as of `topology`.
            version: Its version; empty: the newest.
            seed: 0 to 2**64 - 1; None: drawn by the server, and part of the answer.
            first_index: The index of the first mesh under the seed.
            temperature: Standard deviation of the noise, 0 to 10; None: 1.
            prior: The name of one of the family's priors; empty: its default.
            mime_type: `RAW_VERTICES`, `model/ply`, `model/obj` or `model/gltf-binary`.
            include_latents: Whether each mesh brings its latent.
        """
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
        return mesh_requests.generated(self._call(self._meshes.GenerateMeshes, request))

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
    ) -> Iterator[DrawnMesh]:
        """Draw any number of meshes, given as they are made; arguments as of `generate_meshes`.

        If the server goes away the stream resumes at the next mesh by itself. It fails only when no
        mesh has come for as long as the client's timeout.
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

    def reconstruct_meshes(
        self,
        meshes: Iterable[MeshSource],
        *,
        family: str = "",
        version: str = "",
        mime_type: str = RAW_VERTICES,
    ) -> ReconstructedMeshes:
        """Encode meshes and decode their latents, and tell how far off the vertices then are.

        Args:
            meshes: Bytes or paths of PLY or OBJ files in the family's topology, or `Mesh` values;
                1 to the server's limit.
            family: The family to use; empty: as of `topology`.
            version: Its version; empty: the newest.
            mime_type: `RAW_VERTICES`, `model/ply`, `model/obj` or `model/gltf-binary`.

        Raises:
            InvalidRequestError: Among others, a mesh is broken or of another topology: `field` says
                which (`meshes[2].data`), `reason` is `MESH` or `TOPOLOGY`.
        """
        request = mesh_requests.reconstruct_request(
            meshes, family=family, version=version, mime_type=mime_type
        )
        return mesh_requests.reconstructed(self._call(self._meshes.ReconstructMeshes, request))

    def encode_meshes(
        self, meshes: Iterable[MeshSource], *, family: str = "", version: str = ""
    ) -> tuple[Encoding, ...]:
        """Give the latents of meshes; the arguments are those of `reconstruct_meshes`."""
        request = mesh_requests.encode_request(meshes, family=family, version=version)
        response = self._call(self._meshes.EncodeMeshes, request)
        return convert.encodings(response.encodings)

    def decode_meshes(
        self,
        latents: Iterable[Latent],
        *,
        family: str = "",
        version: str = "",
        mime_type: str = RAW_VERTICES,
    ) -> DecodedMeshes:
        """Make the meshes of latents.

        Args:
            latents: 1 to the server's limit, all of one family and version.
            family: The family to use; empty: that of the first latent.
            version: Its version; empty: that of the first latent.
            mime_type: `RAW_VERTICES`, `model/ply`, `model/obj` or `model/gltf-binary`.
        """
        request = mesh_requests.decode_request(
            latents, family=family, version=version, mime_type=mime_type
        )
        return mesh_requests.decoded(self._call(self._meshes.DecodeMeshes, request))

    def interpolate_meshes(
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
        """Make the path between two faces.

        Args:
            start: Where it begins: a mesh (bytes, path or `Mesh`), a `Latent`, or a mesh of a seed
                (`DrawnFace`).
            end: Where it ends.
            count: The number of meshes, both ends included: 2 to the server's limit.
            interpolation: `linear`, or `spherical` (which keeps the latent's norm).
            family: The family to use; empty: as of `topology`.
            version: Its version; empty: the newest.
            mime_type: `RAW_VERTICES`, `model/ply`, `model/obj` or `model/gltf-binary`.
        """
        request = mesh_requests.interpolate_request(
            start,
            end,
            count=count,
            interpolation=interpolation,
            family=family,
            version=version,
            mime_type=mime_type,
        )
        return mesh_requests.interpolated(self._call(self._meshes.InterpolateMeshes, request))

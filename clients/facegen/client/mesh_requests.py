"""Between our values of meshes and protobuf: requests of arguments, and answers of responses."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict, Unpack

from facegen.client.convert import latent
from facegen.client.files import read_mesh
from facegen.client.meshes import (
    RAW_VERTICES,
    DecodedMeshes,
    DrawnMesh,
    GeneratedMeshes,
    InterpolatedMeshes,
    Mesh,
    MeshEndpoint,
    MeshSource,
    ReconstructedMesh,
    ReconstructedMeshes,
    Topology,
)
from facegen.client.requests import (
    INTERPOLATIONS,
    UINT32_MAX,
    UINT64_MAX,
    drawn_message,
    latent_message,
    unsigned,
)
from facegen.client.types import DrawnFace, Interpolation, Latent
from facegen.v1 import mesh_service_pb2 as pb

__all__ = [
    "decode_request",
    "decoded",
    "drawn",
    "encode_request",
    "generate_request",
    "generate_stream_request",
    "generated",
    "interpolate_request",
    "interpolated",
    "reconstruct_request",
    "reconstructed",
    "topology",
    "topology_request",
]

_RAW_SUFFIX = ".f32"
"""What files of vertices alone end in."""


class GenerateArguments(TypedDict):
    """What both ways of drawing meshes have in common; see `MeshClient.generate_meshes`."""

    family: str
    version: str
    seed: int | None
    first_index: int
    temperature: float | None
    prior: str
    mime_type: str
    include_latents: bool


def topology_request(family: str, *, version: str, mime_type: str) -> pb.GetTopologyRequest:
    """Build the request of `topology`."""
    return pb.GetTopologyRequest(family=family, version=version, mime_type=mime_type)


def generate_request(
    count: int, **arguments: Unpack[GenerateArguments]
) -> pb.GenerateMeshesRequest:
    """Build the request of `generate_meshes`."""
    fields = _generate_fields(**arguments)
    return pb.GenerateMeshesRequest(count=unsigned("count", count, most=UINT32_MAX), **fields)


def generate_stream_request(
    count: int, **arguments: Unpack[GenerateArguments]
) -> pb.GenerateMeshesStreamRequest:
    """Build the request of `generate_meshes_stream`."""
    fields = _generate_fields(**arguments)
    return pb.GenerateMeshesStreamRequest(count=unsigned("count", count, most=UINT64_MAX), **fields)


def reconstruct_request(
    meshes: Iterable[MeshSource], *, family: str, version: str, mime_type: str
) -> pb.ReconstructMeshesRequest:
    """Build the request of `reconstruct_meshes`, reading the meshes given by path."""
    return pb.ReconstructMeshesRequest(
        family=family,
        version=version,
        meshes=[_mesh_message(mesh) for mesh in meshes],
        mime_type=mime_type,
    )


def encode_request(
    meshes: Iterable[MeshSource], *, family: str, version: str
) -> pb.EncodeMeshesRequest:
    """Build the request of `encode_meshes`, reading the meshes given by path."""
    return pb.EncodeMeshesRequest(
        family=family, version=version, meshes=[_mesh_message(mesh) for mesh in meshes]
    )


def decode_request(
    latents: Iterable[Latent], *, family: str, version: str, mime_type: str
) -> pb.DecodeMeshesRequest:
    """Build the request of `decode_meshes`."""
    return pb.DecodeMeshesRequest(
        family=family,
        version=version,
        latents=[latent_message(it) for it in latents],
        mime_type=mime_type,
    )


def interpolate_request(
    start: MeshEndpoint,
    end: MeshEndpoint,
    *,
    count: int,
    interpolation: Interpolation,
    family: str,
    version: str,
    mime_type: str,
) -> pb.InterpolateMeshesRequest:
    """Build the request of `interpolate_meshes`, reading the meshes given by path."""
    return pb.InterpolateMeshesRequest(
        family=family,
        version=version,
        start=_endpoint_message(start),
        end=_endpoint_message(end),
        count=unsigned("count", count, most=UINT32_MAX),
        interpolation=INTERPOLATIONS[interpolation],
        mime_type=mime_type,
    )


def topology(response: pb.GetTopologyResponse) -> Topology:
    """Read the response to `topology`."""
    return Topology(
        data=response.faces,
        template=_mesh(response.template),
        vertex_count=response.vertex_count,
        face_count=response.face_count,
        family=response.family,
        version=response.version,
    )


def drawn(
    response: pb.GenerateMeshesResponse | pb.GenerateMeshesStreamResponse,
) -> tuple[DrawnMesh, ...]:
    """Read the meshes of a response."""
    return tuple(
        DrawnMesh(
            index=it.index,
            mesh=_mesh(it.mesh),
            latent=latent(it.latent) if it.HasField("latent") else None,
            seed=response.seed,
            family=response.family,
            version=response.version,
            prior=response.prior,
        )
        for it in response.meshes
    )


def generated(response: pb.GenerateMeshesResponse) -> GeneratedMeshes:
    """Read the response to `generate_meshes`."""
    return GeneratedMeshes(
        meshes=drawn(response),
        seed=response.seed,
        family=response.family,
        version=response.version,
        prior=response.prior,
    )


def reconstructed(response: pb.ReconstructMeshesResponse) -> ReconstructedMeshes:
    """Read the response to `reconstruct_meshes`."""
    return ReconstructedMeshes(
        meshes=tuple(
            ReconstructedMesh(_mesh(it.mesh), it.mean_error_mm, it.max_error_mm)
            for it in response.meshes
        ),
        family=response.family,
        version=response.version,
    )


def decoded(response: pb.DecodeMeshesResponse) -> DecodedMeshes:
    """Read the response to `decode_meshes`."""
    return DecodedMeshes(
        meshes=tuple(map(_mesh, response.meshes)),
        family=response.family,
        version=response.version,
    )


def interpolated(response: pb.InterpolateMeshesResponse) -> InterpolatedMeshes:
    """Read the response to `interpolate_meshes`."""
    return InterpolatedMeshes(
        meshes=tuple(map(_mesh, response.meshes)),
        latents=tuple(map(latent, response.latents)),
        family=response.family,
        version=response.version,
    )


def _generate_fields(**arguments: Unpack[GenerateArguments]) -> dict[str, Any]:
    seed = arguments["seed"]
    return {
        **arguments,
        "seed": None if seed is None else unsigned("seed", seed, most=UINT64_MAX),
        "first_index": unsigned("first_index", arguments["first_index"], most=UINT64_MAX),
    }


def _endpoint_message(source: MeshEndpoint) -> pb.MeshEndpoint:
    if isinstance(source, Latent):
        return pb.MeshEndpoint(latent=latent_message(source))
    if isinstance(source, DrawnFace):
        return pb.MeshEndpoint(drawn=drawn_message(source))
    return pb.MeshEndpoint(mesh=_mesh_message(source))


def _mesh_message(source: MeshSource) -> pb.Mesh:
    if isinstance(source, Mesh):
        return pb.Mesh(data=source.data, mime_type=source.mime_type)
    if isinstance(source, bytes):
        return pb.Mesh(data=source)
    raw = Path(source).suffix.lower() == _RAW_SUFFIX
    return pb.Mesh(data=read_mesh(source), mime_type=RAW_VERTICES if raw else "")


def _mesh(message: pb.Mesh) -> Mesh:
    return Mesh(data=message.data, mime_type=message.mime_type, vertex_count=message.vertex_count)

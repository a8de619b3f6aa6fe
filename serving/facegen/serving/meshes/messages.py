"""Between messages of meshes and our own types; every mesh of a request is described here."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facegen.serving.errors import InputError, ResponseSizeError
from facegen.serving.faces.convert import count_from, drawn_from, latent_from, model_message
from facegen.serving.faces.latent_pipelines import Draw
from facegen.serving.meshes.coding import FORMATS, RAW, MeshUpload
from facegen.serving.meshes.family import MeshFamily
from facegen.v1 import mesh_service_pb2 as pb
from facegen.v1 import model_service_pb2

__all__ = [
    "OVERHEAD_BYTES",
    "check_made",
    "format_from",
    "mesh_model_message",
    "source_from",
    "too_large",
    "uploads_from",
    "write_mesh",
]

OVERHEAD_BYTES = 256
"""What a mesh costs in a message beside its file and the values of its latent: names and tags."""

Source = MeshUpload | NDArray[np.float32] | Draw
"""A mesh not read yet, a latent (Z,), or one mesh of a seed."""


def format_from(mime_type: str) -> str:
    """Read how to code meshes.

    Raises:
        InputError: An unknown format. Never right.
    """
    mime_type = mime_type or RAW
    if mime_type not in FORMATS:
        raise InputError("mime_type", f'"{mime_type}" is none of {", ".join(FORMATS)}')
    return mime_type


def uploads_from(meshes: Sequence[pb.Mesh], *, max_meshes: int) -> list[MeshUpload]:
    """Read the meshes of a request's `meshes`, none decoded yet.

    Raises:
        InputError: Too few or many, or one of an unknown type. Never right.
    """
    count_from(len(meshes), field="meshes", most=max_meshes)
    return [_upload_from(mesh, f"meshes[{i}]") for i, mesh in enumerate(meshes)]


def source_from(message: pb.MeshEndpoint, family: MeshFamily, field: str) -> Source:
    """Read which mesh is meant.

    Args:
        message: The message.
        family: The family addressed.
        field: The message's field, for example `start`.

    Raises:
        InputError: None is given, or it is described wrongly. Never right.
        LatentSizeError: A latent has too few or many values. Never right.
    """
    match message.WhichOneof("face"):
        case "mesh":
            return _upload_from(message.mesh, f"{field}.mesh")
        case "latent":
            return latent_from(message.latent, family, f"{field}.latent")
        case "drawn":
            return drawn_from(message.drawn, family, f"{field}.drawn")
        case _:
            raise InputError(field, "is missing; give a mesh, a latent or a mesh of a seed")


def _upload_from(mesh: pb.Mesh, field: str) -> MeshUpload:
    # Any file is recognised by its content; what is told of it does not matter.
    mime_type = mesh.mime_type
    if mime_type not in ("", RAW) and not mime_type.startswith(("model/", "text/")):
        raise InputError(f"{field}.mime_type", f'"{mime_type}" is neither model/… nor {RAW}')
    return MeshUpload(mesh.data, f"{field}.data", raw=mime_type == RAW)


def check_made(vertices: NDArray[np.float32], fields: Sequence[str]) -> None:
    """Refuse what was made of values so large that they leave the numbers there are.

    Args:
        vertices: (B, V, 3), of each mesh made.
        fields: What each was made of.

    Raises:
        InputError: A mesh is not finite. Never right.
    """
    if not np.isfinite(vertices).all():
        row = int(np.flatnonzero(~np.isfinite(vertices).all(axis=(1, 2)))[0])
        raise InputError(
            fields[row], "gives vertices that are not finite; its values are too large"
        )


def write_mesh(message: pb.Mesh, data: bytes, *, mime_type: str, family: MeshFamily) -> None:
    """Write a coded mesh where it belongs: a message made apart would be copied there."""
    message.data = data
    message.mime_type = mime_type
    message.vertex_count = family.vertex_count


def too_large(field: str, *, limit: int) -> ResponseSizeError:
    """Give the error of a request whose meshes are larger than a response may be."""
    remedy = f"or for {RAW}, vertices alone"
    return ResponseSizeError(field, limit=limit, made="meshes", remedy=remedy)


def mesh_model_message(family: MeshFamily) -> model_service_pb2.Model:
    """Write a family of meshes."""
    message = model_message(family)
    message.vertex_count, message.face_count = family.vertex_count, family.face_count
    return message

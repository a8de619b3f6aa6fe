"""Codes meshes as vertices alone, PLY, OBJ or glTF, and reads them; files say what made them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facegen.serving.errors import InputError, MeshError, TopologyError
from facegen.serving.imaging import Origin
from facegen.serving.meshes.family import MeshFamily
from facegen.serving.meshes.gltf import write_glb
from facegen.serving.meshes.mesh_file import MeshLimits, TooManyError
from facegen.serving.meshes.obj import read_obj, write_obj
from facegen.serving.meshes.ply import is_ply, read_ply, write_ply
from facegen.serving.meshes.topology import Topology

__all__ = ["FORMATS", "OBJ", "RAW", "MeshUpload", "encode_mesh", "file_vertices", "raw_vertices"]

RAW, PLY, OBJ = "application/octet-stream", "model/ply", "model/obj"
GLB = "model/gltf-binary"
FORMATS = (RAW, PLY, OBJ, GLB)

# https://cv.iptc.org/newscodes/digitalsourcetype/: as pictures say it in XMP.
_MADE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_FRAME = "millimetres, x right, y up, z towards the viewer"
_ROW_BYTES = 12

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MeshUpload:
    """A mesh as it was sent.

    Attributes:
        data: The file, or the vertices alone.
        field: Its field in the request, for example `meshes[3].data`.
        raw: Whether it is vertices alone.
    """

    data: bytes
    field: str
    raw: bool


def raw_vertices(upload: MeshUpload, family: MeshFamily) -> Floats:
    """Read vertices alone, without a copy.

    Returns:
        (V, 3).

    Raises:
        TopologyError: They are not as many as the family's meshes have. Never right.
        InputError: One is not finite. Never right.
    """
    wanted = family.vertex_count * _ROW_BYTES
    if len(upload.data) != wanted:
        raise TopologyError(
            upload.field,
            family.name,
            problem=f"has {len(upload.data)} bytes, {family.vertex_count} vertices x 3 float32 "
            f"need {wanted}",
        )
    vertices = np.frombuffer(upload.data, "<f4").reshape(-1, 3)
    _check_finite(vertices, upload.field)
    return vertices


def file_vertices(upload: MeshUpload, family: MeshFamily, topology: Topology) -> Floats:
    """Read the vertices of a file, in its order.

    Returns:
        (V, 3).

    Raises:
        MeshError: It is neither PLY nor OBJ, or broken. Never right.
        TopologyError: It has other vertices or triangles than the family's meshes. Never right.
        InputError: A vertex is not finite. Never right.
    """
    limits = MeshLimits(family.vertex_count, family.face_count)
    try:
        file = (read_ply if is_ply(upload.data) else read_obj)(upload.data, limits)
    except TooManyError as error:
        raise TopologyError(upload.field, family.name, problem=str(error)) from error
    except ValueError as error:
        raise MeshError(upload.field, _explained(upload, str(error))) from error
    counts = len(file.vertices), len(file.faces)
    if counts != (family.vertex_count, family.face_count):
        problem = (
            f"has {counts[0]} vertices and {counts[1]} triangles, "
            f"{family.vertex_count} and {family.face_count} are needed"
        )
        raise TopologyError(upload.field, family.name, problem=problem)
    if not topology.has(file.faces):
        problem = "has as many vertices and triangles, but other triangles"
        raise TopologyError(upload.field, family.name, problem=problem)
    _check_finite(file.vertices, upload.field)
    return file.vertices


def encode_mesh(
    vertices: Floats, mime_type: str, topology: Topology | None, *, origin: Origin | None = None
) -> bytes:
    """Code a mesh.

    Args:
        vertices: (V, 3), millimetres.
        mime_type: One of `FORMATS`.
        topology: Its triangles; may be None for vertices alone.
        origin: What made it; None: it is data. Vertices alone carry none.
    """
    if mime_type == RAW:
        return np.asarray(vertices, "<f4").tobytes()
    assert topology is not None
    if mime_type == GLB:
        facts = {} if origin is None else {"digitalSourceType": _MADE, **_facts(origin)}
        return write_glb(vertices, topology, extras=facts)
    write = write_ply if mime_type == PLY else write_obj
    return write(vertices, topology, comments=_comments(origin))


def _comments(origin: Origin | None) -> Sequence[str]:
    if origin is None:
        return (_FRAME,)
    return (_FRAME, f"digitalSourceType {_MADE}", f"facegen {json.dumps(_facts(origin))}")


def _facts(origin: Origin) -> dict[str, str]:
    facts = {"family": origin.family, "version": origin.version}
    if origin.seed is not None and origin.index is not None:
        # As text: many readers of JSON have no whole numbers of 64 bits.
        facts |= {"seed": str(origin.seed), "index": str(origin.index)}
    return facts


def _check_finite(vertices: Floats, field: str) -> None:
    if not np.isfinite(vertices).all():
        i = int(np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0])
        raise InputError(field, f"vertex {i} is {vertices[i].tolist()}, must be finite")


def _explained(upload: MeshUpload, problem: str) -> str:
    """Say what is wrong with a file; of what is no file at all, what it should be."""
    if is_ply(upload.data):
        return f"is a broken PLY: {problem}"
    if upload.data[:4] == b"glTF":
        return "is glTF, which is written here but not read; send PLY or OBJ"
    if problem == "has no vertices":
        return "is neither PLY nor OBJ; vertices alone need mime_type application/octet-stream"
    return f"is a broken OBJ: {problem}"

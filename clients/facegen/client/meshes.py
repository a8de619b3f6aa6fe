"""The values of meshes that a client takes and gives: immutable, without protobuf or numpy."""

import os
import sys
from array import array
from dataclasses import dataclass, field
from typing import Any

from facegen.client.errors import InvalidRequestError
from facegen.client.files import write_atomically
from facegen.client.types import DrawnFace, Latent

__all__ = [
    "RAW_VERTICES",
    "DecodedMeshes",
    "DrawnMesh",
    "GeneratedMeshes",
    "InterpolatedMeshes",
    "Mesh",
    "MeshEndpoint",
    "MeshSource",
    "ReconstructedMesh",
    "ReconstructedMeshes",
    "Topology",
]

RAW_VERTICES = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Mesh:
    """One mesh, as its vertices alone or as a file.

    Attributes:
        data: For `RAW_VERTICES` float32, little-endian, vertices x 3, in millimetres: x to the
            right, y up, z towards the viewer. Else the file.
        mime_type: `RAW_VERTICES`, `model/ply`, `model/obj` or `model/gltf-binary`; of files sent
            it may be empty.
        vertex_count: How many vertices it has; 0 if not known (a mesh that was never sent).
    """

    data: bytes = field(repr=False)
    mime_type: str = ""
    vertex_count: int = 0

    @property
    def vertices(self) -> memoryview:
        """The vertices as a view of float32, V x 3: `mesh.vertices[7, 1]`, `np.asarray(…)`.

        Raises:
            InvalidRequestError: The mesh is a file.
        """
        if self.mime_type != RAW_VERTICES:
            raise InvalidRequestError(
                f"the mesh is {self.mime_type or 'a file'}, whose vertices are not read here; ask "
                "for RAW_VERTICES",
                field="mime_type",
            )
        return _rows(array("f", self.data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `data` to a file, whole or not at all.

        Raises:
            FileError: The file cannot be written.
        """
        write_atomically(path, self.data)


@dataclass(frozen=True, slots=True)
class Topology:
    """What all meshes of a family have in common.

    Attributes:
        data: The triangles: int32, little-endian, faces x 3, indices of vertices from 0,
            counter-clockwise seen from outside.
        template: A plain face at rest.
        vertex_count: How many vertices each mesh has.
        face_count: How many triangles.
        family: The family.
        version: Its version.
    """

    data: bytes = field(repr=False)
    template: Mesh
    vertex_count: int
    face_count: int
    family: str
    version: str

    @property
    def faces(self) -> memoryview:
        """The triangles as a view of int32, F x 3: `topology.faces[7, 1]`, `np.asarray(…)`."""
        return _rows(array("i", self.data))


@dataclass(frozen=True, slots=True)
class DrawnMesh:
    """One mesh drawn from a prior, with all it takes to draw it again.

    Attributes:
        index: Its index under the seed.
        mesh: The mesh.
        latent: Its latent, if asked for.
        seed: The seed.
        family: The family that drew it.
        version: The family's version.
        prior: The prior it was drawn from.
    """

    index: int
    mesh: Mesh
    latent: Latent | None
    seed: int
    family: str
    version: str
    prior: str


@dataclass(frozen=True, slots=True)
class GeneratedMeshes:
    """The answer to `generate_meshes`: in the order of their indices, and what drew them."""

    meshes: tuple[DrawnMesh, ...]
    seed: int
    family: str
    version: str
    prior: str


@dataclass(frozen=True, slots=True)
class ReconstructedMesh:
    """What became of one mesh.

    Attributes:
        mesh: The mesh of its latent.
        mean_error_mm: The mean distance of its vertices from those sent.
        max_error_mm: The largest distance of a vertex from the one sent.
    """

    mesh: Mesh
    mean_error_mm: float
    max_error_mm: float


@dataclass(frozen=True, slots=True)
class ReconstructedMeshes:
    """The answer to `reconstruct_meshes`: one for each mesh sent, in its order."""

    meshes: tuple[ReconstructedMesh, ...]
    family: str
    version: str


@dataclass(frozen=True, slots=True)
class DecodedMeshes:
    """The answer to `decode_meshes`: one for each latent, in its order, and what made them."""

    meshes: tuple[Mesh, ...]
    family: str
    version: str


@dataclass(frozen=True, slots=True)
class InterpolatedMeshes:
    """The answer to `interpolate_meshes`.

    Attributes:
        meshes: From start to end.
        latents: The latent of each.
        family: The family used.
        version: Its version.
    """

    meshes: tuple[Mesh, ...]
    latents: tuple[Latent, ...]
    family: str
    version: str


MeshSource = bytes | str | os.PathLike[str] | Mesh
"""A PLY or OBJ file's bytes, the path of a file (.ply, .obj; .f32: vertices alone), or a `Mesh`."""
MeshEndpoint = MeshSource | Latent | DrawnFace
"""A face: a mesh, a latent, or a mesh of a seed."""


def _rows(numbers: "array[float] | array[int]") -> memoryview:
    """Give little-endian numbers as a view of rows of three."""
    if sys.byteorder == "big":
        numbers.byteswap()
    flat: Any = memoryview(numbers)
    view: memoryview = flat.cast("B").cast(flat.format, (len(flat) // 3, 3))
    return view

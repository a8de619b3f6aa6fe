"""The meshes of a family."""

from collections.abc import Mapping, Sequence

import numpy as np

from facegen.serving.call_context import CallContext
from facegen.serving.errors import InputError
from facegen.serving.faces.latent_pipelines import Draw, Floats
from facegen.serving.imaging import Origin
from facegen.serving.meshes.coding import MeshUpload, encode_mesh, file_vertices
from facegen.serving.meshes.family import MeshFamily
from facegen.serving.meshes.pipelines import MeshPipelines
from facegen.serving.rendering.media.medium import Contents, Medium
from facegen.serving.rendering.rows import Column

__all__ = ["MESH_SUFFIXES", "Meshes"]

MESH_SUFFIXES = (".obj", ".ply")


class Meshes(Medium):
    """The meshes of a family.

    Args:
        pipelines: Run its models.
        family: The family.
        mime_type: How meshes are coded.
    """

    fidelity = "error_mm"
    expressions = ()

    def __init__(self, pipelines: MeshPipelines, family: MeshFamily, *, mime_type: str) -> None:
        self._pipelines, self._family, self._mime_type = pipelines, family, mime_type
        self._topology = pipelines.topology(family)
        self.priors = tuple(family.priors)
        self.latent_size, self.batch_rows = family.latent_size, family.batch_rows

    def draw(self, draws: Sequence[Draw], *, context: CallContext) -> Floats:
        """Draw latents; see `Medium.draw`."""
        return self._pipelines.draw_latents(self._family, draws, context=context)

    def read(self, data: bytes, name: str) -> Contents:
        """Read the vertices of a PLY or OBJ file: (V, 3), millimetres."""
        return file_vertices(MeshUpload(data, name, raw=False), self._family, self._topology)

    def encode(self, contents: Contents, *, context: CallContext) -> Floats:
        """Encode meshes (B, V, 3)."""
        return self._pipelines.encode(self._family, contents, context=context).mu

    def decode(self, latents: Floats, *, expression: str, context: CallContext) -> Contents:
        """Decode latents (B, Z) to vertices (B, V, 3); of expressions there are none."""
        assert not expression
        return self._pipelines.decode(self._family, latents, context=context).vertices

    def code(self, contents: Contents, origins: Sequence[Origin]) -> list[bytes]:
        """Code meshes."""
        return [
            encode_mesh(vertices, self._mime_type, self._topology, origin=origin)
            for vertices, origin in zip(contents, origins, strict=True)
        ]

    def compare(self, contents: Contents, others: Contents) -> list[float]:
        """Give the mean distance between the vertices of each two meshes, in millimetres."""
        distances = np.linalg.norm(contents.astype(np.float64) - others, axis=2)
        return [float(mean) for mean in distances.mean(axis=1)]

    def scores(self, contents: Contents) -> list[float | None]:
        """Refused: no detector looks at meshes."""
        raise AssertionError("columns() has refused them")

    def columns(self, *, scored: bool) -> Mapping[str, Column]:
        """Name the facts that `scores` gives: none.

        Raises:
            InputError: Scores are wanted. Never right.
        """
        if scored:
            raise InputError(
                "scores", "are of pictures, and this family makes meshes; leave it out"
            )
        return {}

"""Reads and codes the meshes of a call: files in the imaging pool, vertices alone at once."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from facegen.serving.call_context import CallContext
from facegen.serving.faces.latent_pipelines import Draw, Floats
from facegen.serving.imaging import ImagingPool, Origin
from facegen.serving.meshes import messages
from facegen.serving.meshes.coding import (
    OBJ,
    RAW,
    MeshUpload,
    encode_mesh,
    file_vertices,
    raw_vertices,
)
from facegen.serving.meshes.family import MeshFamily
from facegen.serving.meshes.pipelines import MeshPipelines
from facegen.serving.rpc.calls import Finish
from facegen.v1 import mesh_service_pb2 as pb

__all__ = ["MeshCoder"]

# Up to so many bytes of vertices are copied in about the time that it takes to wake a thread.
_QUICK_BYTES = 1024 * 1024
_VERTEX_BYTES = 12


class MeshCoder:
    """Reads the meshes of one call, and codes those of its answer.

    Args:
        pipelines: Know the topology, without which no file is read or written.
        imaging: Has threads for files.
        family: Whose meshes.
        mime_type: How to code the answer.
        max_bytes: The most bytes of a response.
        context: Whose call it is.
    """

    def __init__(
        self,
        pipelines: MeshPipelines,
        imaging: ImagingPool,
        family: MeshFamily,
        *,
        mime_type: str,
        max_bytes: int,
        context: CallContext,
    ) -> None:
        self._pipelines, self._imaging, self._family = pipelines, imaging, family
        self._mime_type, self._max_bytes, self._context = mime_type, max_bytes, context
        # What a mesh costs in a message beside its own bytes.
        self._overhead_bytes = messages.OVERHEAD_BYTES + 4 * family.latent_size

    def check_count(self, field: str, count: int) -> None:
        """Refuse so many meshes before they are made, if they cannot fit a response.

        Of files the vertices alone are counted here, in OBJ with coordinates of a single digit.

        Raises:
            ResponseSizeError: They are larger. Never right.
        """
        least = 8 if self._mime_type == OBJ else _VERTEX_BYTES
        if count * (self._family.vertex_count * least + self._overhead_bytes) > self._max_bytes:
            raise messages.too_large(field, limit=self._max_bytes)

    def is_quick(self, count: int) -> bool:
        """Tell whether so many are coded in about the time of handing them to a thread."""
        size = count * self._family.vertex_count * _VERTEX_BYTES
        return self._mime_type == RAW and size <= _QUICK_BYTES

    def begin_read(
        self, uploads: Sequence[MeshUpload], work: Callable[[Floats], None], finish: Finish
    ) -> None:
        """Read meshes, and then do work with their vertices (B, V, 3); never blocks.

        Args:
            uploads: At least one.
            work: What to do; quick.
            finish: Gets the error of a mesh that cannot be read, or of the work.
        """

        def read() -> None:
            try:
                work(self.vertices(uploads))
            except Exception as error:  # the outermost frame of a call
                finish(error)

        if all(upload.raw for upload in uploads):
            read()
        else:
            self._imaging.begin(read)

    def vertices(self, uploads: Sequence[MeshUpload]) -> Floats:
        """Read meshes: (B, V, 3); of one that is vertices alone, without a copy.

        Raises:
            InputError: One is broken, or not of the family's topology. Never right.
            CallCancelledError: The caller went away.
        """

        def read(upload: MeshUpload) -> Floats:
            if upload.raw:
                return raw_vertices(upload, self._family)
            topology = self._pipelines.topology(self._family, context=self._context)
            return file_vertices(upload, self._family, topology)

        if all(upload.raw for upload in uploads):
            some = [read(upload) for upload in uploads]
        else:
            some = self._imaging.each(read, uploads, context=self._context, stage="mesh coding")
        return some[0][None] if len(some) == 1 else np.stack(some)

    def encode(self, vertices: Floats, *, draw: Draw | None = None) -> list[bytes]:
        """Code meshes (B, V, 3); `write` puts them into messages.

        Args:
            vertices: Theirs.
            draw: Which were drawn; None: they were made of other meshes, or of latents.

        Raises:
            CallCancelledError: The caller went away.
        """
        if self._mime_type == RAW:
            return [encode_mesh(mesh, RAW, None) for mesh in vertices]
        topology = self._pipelines.topology(self._family, context=self._context)

        def code(row: int) -> bytes:
            seed, index = (draw.seed, draw.first_index + row) if draw else (None, None)
            origin = Origin(self._family.name, self._family.version, seed, index)
            return encode_mesh(vertices[row], self._mime_type, topology, origin=origin)

        # Text takes long; of the others several are worth a job.
        sizes = None if self._mime_type == OBJ else [self._family.vertex_count] * len(vertices)
        return self._imaging.each(
            code,
            range(len(vertices)),
            pixel_counts=sizes,
            context=self._context,
            stage="mesh coding",
        )

    def encode_all(self, vertices: Floats, *, field: str, draw: Draw | None = None) -> list[bytes]:
        """Code meshes for one response; see `encode`.

        Raises:
            ResponseSizeError: They are too large together; `field` asks for so many. Never right.
        """
        coded = self.encode(vertices, draw=draw)
        if sum(map(self._size, coded)) > self._max_bytes:
            raise messages.too_large(field, limit=self._max_bytes)
        return coded

    def encode_parts(self, vertices: Floats, *, draw: Draw) -> Iterator[tuple[slice, list[bytes]]]:
        """Code meshes for the responses of a stream; see `encode`.

        Yields:
            Which meshes go into the next response, and these.

        Raises:
            ResponseSizeError: One alone is too large. Never right.
        """
        coded = self.encode(vertices, draw=draw)
        first, size = 0, 0
        for row, data in enumerate(coded):
            own = self._size(data)
            if own > self._max_bytes:
                raise messages.too_large("mime_type", limit=self._max_bytes)
            if size + own > self._max_bytes:
                yield slice(first, row), coded[first:row]
                first, size = row, 0
            size += own
        yield slice(first, len(coded)), coded[first:]

    def write(self, message: pb.Mesh, data: bytes) -> None:
        """Write a coded mesh where it belongs in a response."""
        messages.write_mesh(message, data, mime_type=self._mime_type, family=self._family)

    def _size(self, data: bytes) -> int:
        return len(data) + self._overhead_bytes

"""The gRPC service of meshes: each method reads its request, runs a pipeline, writes its answer.

Only InterpolateMeshes and GetTopology hold a thread while they wait. Vertices alone are read and
written where they are; files, which take longer, in the threads of the imaging pool.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from google.protobuf.message import Message

from facegen.serving.call_context import CallContext
from facegen.serving.faces import convert
from facegen.serving.faces.answering import answering, served_family
from facegen.serving.faces.latent_pipelines import Draw, Floats, Posteriors
from facegen.serving.faces.reloads import begins_again, ends_with_version, tries_again
from facegen.serving.faces.service_state import ServiceState
from facegen.serving.faces.sources import joined_latents
from facegen.serving.meshes import messages
from facegen.serving.meshes.coder import MeshCoder
from facegen.serving.meshes.coding import MeshUpload, encode_mesh
from facegen.serving.meshes.family import MeshFamily, default_mesh_family
from facegen.serving.meshes.pipelines import Meshes, MeshPipelines
from facegen.serving.rpc.calls import Finish, answers, deferred, streams
from facegen.v1 import face_service_pb2
from facegen.v1 import mesh_service_pb2 as pb
from facegen.v1.mesh_service_pb2_grpc import MeshServiceServicer

__all__ = ["MeshService"]

_MOST_STREAMED = 2**64


class MeshService(MeshServiceServicer):
    """Generates, reconstructs and blends meshes of faces."""

    def __init__(self, state: ServiceState) -> None:
        self.calls = state.calls
        self._state = state

    @answers
    @tries_again
    def GetTopology(  # noqa: N802 - gRPC's name
        self, request: pb.GetTopologyRequest, context: CallContext
    ) -> pb.GetTopologyResponse:
        """Give the triangles of a family's meshes, and its template."""
        family = self._family(request.family, request.version)
        mime_type = messages.format_from(request.mime_type)
        topology = self._pipelines.topology(family, context=context)
        data, limit = encode_mesh(topology.template, mime_type, topology), self._max_bytes
        if len(data) + topology.faces.nbytes > limit:
            raise messages.too_large("mime_type", limit=limit)
        response = pb.GetTopologyResponse(
            faces=topology.faces.tobytes(),
            vertex_count=family.vertex_count,
            face_count=family.face_count,
            family=family.name,
            version=family.version,
        )
        messages.write_mesh(response.template, data, mime_type=mime_type, family=family)
        return response

    @deferred
    @begins_again
    def GenerateMeshes(  # noqa: N802 - gRPC's name
        self, request: pb.GenerateMeshesRequest, context: CallContext, finish: Finish
    ) -> None:
        """Draw meshes from a prior."""
        family = self._family(request.family, request.version)
        draw = convert.draw_from(request, family, max_count=self._state.max_images)
        coder = self._coder(family, request.mime_type, context)
        coder.check_count("count", draw.count)

        def respond(meshes: Meshes) -> pb.GenerateMeshesResponse:
            messages.check_made(meshes.vertices, ["temperature"] * draw.count)
            coded = coder.encode_all(meshes.vertices, field="count", draw=draw)
            response = pb.GenerateMeshesResponse()
            latents = meshes.latents if request.include_latents else None
            _write_drawn(response, draw, family, coder, coded, latents)
            return response

        done = self._answering(respond, finish, quick=coder.is_quick(draw.count))
        self._pipelines.begin_generate(family, draw, done, context=context)

    @streams
    def GenerateMeshesStream(  # noqa: N802 - gRPC's name
        self, request: pb.GenerateMeshesStreamRequest, context: CallContext
    ) -> Iterator[pb.GenerateMeshesStreamResponse]:
        """Draw any number of meshes; the next are computed while these are sent, no more."""
        family = self._family(request.family, request.version)
        draw = convert.draw_from(request, family, max_count=_MOST_STREAMED)
        coder = self._coder(family, request.mime_type, context)
        coder.check_count("mime_type", 1)
        chunks = self._pipelines.generate_chunks(family, draw, context=context)
        with closing(chunks), ends_with_version(family):
            for part, meshes in chunks:
                messages.check_made(meshes.vertices, ["temperature"] * part.count)
                for some, coded in coder.encode_parts(meshes.vertices, draw=part):
                    response = pb.GenerateMeshesStreamResponse()
                    latents = meshes.latents[some] if request.include_latents else None
                    sent = replace(part, first_index=part.first_index + some.start)
                    _write_drawn(response, sent, family, coder, coded, latents)
                    yield response

    @deferred
    @begins_again
    def ReconstructMeshes(  # noqa: N802 - gRPC's name
        self, request: pb.ReconstructMeshesRequest, context: CallContext, finish: Finish
    ) -> None:
        """Encode meshes and decode their latents."""
        family = self._family(request.family, request.version)
        coder = self._coder(family, request.mime_type, context)
        uploads = messages.uploads_from(request.meshes, max_meshes=self._state.max_images)
        coder.check_count("meshes", len(uploads))

        def reconstruct(vertices: Floats) -> None:
            def respond(meshes: Meshes) -> pb.ReconstructMeshesResponse:
                messages.check_made(meshes.vertices, [upload.field for upload in uploads])
                coded = coder.encode_all(meshes.vertices, field="meshes")
                response = pb.ReconstructMeshesResponse(family=family.name, version=family.version)
                for data, made, sent in zip(coded, meshes.vertices, vertices, strict=True):
                    mean, largest = _errors_mm(made, sent)
                    coder.write(
                        response.meshes.add(mean_error_mm=mean, max_error_mm=largest).mesh, data
                    )
                return response

            done = self._answering(respond, finish, quick=coder.is_quick(len(uploads)))
            self._pipelines.begin_reconstruct(family, vertices, done, context=context)

        coder.begin_read(uploads, reconstruct, finish)

    @deferred
    @begins_again
    def EncodeMeshes(  # noqa: N802 - gRPC's name
        self, request: pb.EncodeMeshesRequest, context: CallContext, finish: Finish
    ) -> None:
        """Give the latents of meshes."""
        family = self._family(request.family, request.version)
        coder = self._coder(family, "", context)
        uploads = messages.uploads_from(request.meshes, max_meshes=self._state.max_images)

        def respond(posteriors: Posteriors) -> pb.EncodeMeshesResponse:
            means = convert.latent_messages(posteriors.mu, family)
            logvar = posteriors.logvar
            variances = [[]] * len(means) if logvar is None else logvar.tolist()
            return pb.EncodeMeshesResponse(
                encodings=[
                    face_service_pb2.Encoding(mean=mean, log_variance=variance)
                    for mean, variance in zip(means, variances, strict=True)
                ]
            )

        def encode(vertices: Floats) -> None:
            done = self._answering(respond, finish, quick=True)
            self._pipelines.begin_encode(family, vertices, done, context=context)

        coder.begin_read(uploads, encode, finish)

    @deferred
    @begins_again
    def DecodeMeshes(  # noqa: N802 - gRPC's name
        self, request: pb.DecodeMeshesRequest, context: CallContext, finish: Finish
    ) -> None:
        """Make the meshes of latents."""
        name, version, fields = convert.address_of(request)
        family = self._family(name, version, fields=fields)
        coder = self._coder(family, request.mime_type, context)
        latents = convert.latents_from(request.latents, family, max_images=self._state.max_images)
        coder.check_count("latents", len(latents))

        def respond(meshes: Meshes) -> pb.DecodeMeshesResponse:
            fields = [f"latents[{row}].values" for row in range(len(latents))]
            messages.check_made(meshes.vertices, fields)
            coded = coder.encode_all(meshes.vertices, field="latents")
            response = pb.DecodeMeshesResponse(family=family.name, version=family.version)
            for data in coded:
                coder.write(response.meshes.add(), data)
            return response

        done = self._answering(respond, finish, quick=coder.is_quick(len(latents)))
        self._pipelines.begin_decode(family, latents, done, context=context)

    @answers
    @tries_again
    def InterpolateMeshes(  # noqa: N802 - gRPC's name
        self, request: pb.InterpolateMeshesRequest, context: CallContext
    ) -> pb.InterpolateMeshesResponse:
        """Make the path between two faces."""
        family = self._family(request.family, request.version)
        count = convert.count_from(request.count, least=2, most=self._state.max_images)
        spherical = convert.spherical_from(request.interpolation)
        coder = self._coder(family, request.mime_type, context)
        coder.check_count("count", count)
        ends = self._ends(request, family, coder, context)
        meshes = self._pipelines.interpolate(
            family, ends, count=count, spherical=spherical, context=context
        )
        nearer = ["start" if 2 * step < count else "end" for step in range(count)]
        messages.check_made(meshes.vertices, nearer)
        response = pb.InterpolateMeshesResponse(
            latents=convert.latent_messages(meshes.latents, family),
            family=family.name,
            version=family.version,
        )
        for data in coder.encode_all(meshes.vertices, field="count"):
            coder.write(response.meshes.add(), data)
        return response

    def look_again(self) -> None:
        """Look for the families that there are now."""
        self._pipelines.refresh()

    @property
    def _pipelines(self) -> MeshPipelines:
        return self._state.open_meshes()

    @property
    def _max_bytes(self) -> int:
        return self._state.max_response_bytes

    def _family(
        self, name: str, version: str, *, fields: tuple[str, str] = ("family", "version")
    ) -> MeshFamily:
        """Find the family that a request addresses."""
        pipelines, wanted = self._pipelines, self._state.default_family
        if not name:
            there = {family.name for family in pipelines.families}
            name = wanted if wanted in there else default_mesh_family(pipelines.families)
        others = self._state.pipelines
        return served_family(pipelines, name, version=version, fields=fields, others=others)

    def _coder(self, family: MeshFamily, mime_type: str, context: CallContext) -> MeshCoder:
        return MeshCoder(
            self._pipelines,
            self._state.imaging,
            family,
            mime_type=messages.format_from(mime_type),
            max_bytes=self._max_bytes,
            context=context,
        )

    def _answering(
        self, respond: Callable[[Any], Message], finish: Finish, *, quick: bool
    ) -> Callable[[Any], None]:
        """Give what the pipelines are to call back; see `answering`."""
        return answering(respond, finish, imaging=self._state.imaging, quick=quick)

    def _ends(
        self,
        request: pb.InterpolateMeshesRequest,
        family: MeshFamily,
        coder: MeshCoder,
        context: CallContext,
    ) -> tuple[Floats, Floats]:
        """Read both ends of a path: (Z,) each; meshes are encoded together."""
        sources = [
            messages.source_from(request.start, family, "start"),
            messages.source_from(request.end, family, "end"),
        ]
        uploads = [source for source in sources if isinstance(source, MeshUpload)]
        encoded = None
        if uploads:
            vertices = coder.vertices(uploads)
            encoded = self._pipelines.encode(family, vertices, context=context).mu
        start, end = joined_latents(self._pipelines, family, sources, encoded, context=context)
        return start, end


def _write_drawn(
    response: pb.GenerateMeshesResponse | pb.GenerateMeshesStreamResponse,
    draw: Draw,
    family: MeshFamily,
    coder: MeshCoder,
    coded: Sequence[bytes],
    latents: Floats | None,
) -> None:
    """Write coded meshes that were drawn from a prior; with their latents (B, Z), if wanted."""
    response.seed, response.prior = draw.seed, draw.prior
    response.family, response.version = family.name, family.version
    for row, data in enumerate(coded):
        coder.write(response.meshes.add(index=draw.first_index + row).mesh, data)
    if latents is not None:
        told = convert.latent_messages(latents, family)
        for drawn, latent in zip(response.meshes, told, strict=True):
            drawn.latent.CopyFrom(latent)


def _errors_mm(made: Floats, sent: Floats) -> tuple[float, float]:
    """Give the mean and the largest distance of vertices (V, 3) from those sent."""
    away = made.astype(np.float64)  # squares of large float32 would be infinite
    away -= sent
    away *= away
    distances = np.sqrt(away[:, 0] + away[:, 1] + away[:, 2])
    return float(distances.mean()), float(distances.max())

"""The gRPC service of faces: each method reads its request, runs a pipeline, writes its answer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.serving.faces import convert
from facegen.serving.rpc.calls import answers, streams
from facegen.serving.errors import InputError
from facegen.serving.faces.family import Family
from facegen.serving.imaging import CropSquare, Origin, PictureFormat
from facegen.serving.faces.pipelines import Draw, Faces, Pipelines
from facegen.serving.faces.service_state import ServiceState
from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2, latent_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceServicer

__all__ = ["FaceService"]

# The stubs know no type that fits the generated servicers and grpc.aio both.
Context = Any

_MOST_STREAMED = 2**64


class FaceService(FaceServiceServicer):
    """Generates, reconstructs and blends faces."""

    def __init__(self, state: ServiceState) -> None:
        self.calls = state.calls
        self._state = state

    @answers
    async def Generate(  # noqa: N802 - gRPC's name
        self, request: pb.GenerateRequest, context: Context
    ) -> pb.GenerateResponse:
        """Draw faces from a prior."""
        family = self._family(request.family, request.version)
        draw = convert.draw_from(request, family, max_count=self._state.max_images)
        picture_format = convert.format_from(request.format)
        faces = await self._pipelines.generate(family, draw, timeout_s=context.time_remaining())
        messages = await self._generated(
            family, draw, faces, picture_format, include_latents=request.include_latents
        )
        return pb.GenerateResponse(
            faces=messages,
            seed=draw.seed,
            family=family.name,
            version=family.version,
            prior=draw.prior,
        )

    @streams
    async def GenerateStream(  # noqa: N802 - gRPC's name
        self, request: pb.GenerateStreamRequest, context: Context
    ) -> AsyncIterator[pb.GenerateStreamResponse]:
        """Draw any number of faces; the next are computed while these are sent, no more."""
        family = self._family(request.family, request.version)
        draw = convert.draw_from(request, family, max_count=_MOST_STREAMED)
        picture_format = convert.format_from(request.format)
        chunks = self._pipelines.generate_chunks(family, draw, timeout_s=context.time_remaining())
        async with aclosing(chunks):
            async for part, faces in chunks:
                messages = await self._generated(
                    family, part, faces, picture_format, include_latents=request.include_latents
                )
                yield pb.GenerateStreamResponse(
                    faces=messages,
                    seed=draw.seed,
                    family=family.name,
                    version=family.version,
                    prior=draw.prior,
                )

    @answers
    async def Reconstruct(  # noqa: N802 - gRPC's name
        self, request: pb.ReconstructRequest, context: Context
    ) -> pb.ReconstructResponse:
        """Encode pictures and decode their latents."""
        family = self._family(request.family, request.version)
        picture_format = convert.format_from(request.format)
        views = await self._views(request.images, request.crop, family)
        pixels = await self._pipelines.reconstruct(
            family, views, timeout_s=context.time_remaining()
        )
        images = await self._images(family, pixels, picture_format)
        inputs: list[image_pb2.Image] = []
        if request.include_inputs:
            files = await self._state.imaging.encode(views, picture_format)
            inputs = convert.image_messages(files, family, picture_format)
        return pb.ReconstructResponse(
            images=images, inputs=inputs, family=family.name, version=family.version
        )

    @answers
    async def Encode(  # noqa: N802 - gRPC's name
        self, request: pb.EncodeRequest, context: Context
    ) -> pb.EncodeResponse:
        """Give the latents of pictures."""
        family = self._family(request.family, request.version)
        views = await self._views(request.images, request.crop, family)
        posteriors = await self._pipelines.encode(family, views, timeout_s=context.time_remaining())
        means = convert.latent_messages(posteriors.mu, family)
        variances = [[]] * len(means) if posteriors.logvar is None else posteriors.logvar.tolist()
        return pb.EncodeResponse(
            encodings=[
                pb.Encoding(mean=mean, log_variance=variance)
                for mean, variance in zip(means, variances, strict=True)
            ]
        )

    @answers
    async def Decode(  # noqa: N802 - gRPC's name
        self, request: pb.DecodeRequest, context: Context
    ) -> pb.DecodeResponse:
        """Draw the pictures of latents."""
        family = convert.decoding_family(
            request, self._pipelines.families, default=self._state.default_family
        )
        picture_format = convert.format_from(request.format)
        latents = convert.latents_from(request.latents, family, max_images=self._state.max_images)
        pixels = await self._pipelines.decode(family, latents, timeout_s=context.time_remaining())
        images = await self._images(family, pixels, picture_format)
        return pb.DecodeResponse(images=images, family=family.name, version=family.version)

    @answers
    async def Interpolate(  # noqa: N802 - gRPC's name
        self, request: pb.InterpolateRequest, context: Context
    ) -> pb.InterpolateResponse:
        """Draw the path between two faces."""
        family = self._family(request.family, request.version)
        count = convert.count_from(request.count, least=2, most=self._state.max_images)
        spherical = convert.spherical_from(request.interpolation)
        picture_format = convert.format_from(request.format)
        crop = convert.crop_from(request.crop, family)
        start = await self._end(request.start, "start", family, crop, context)
        end = await self._end(request.end, "end", family, crop, context)
        faces = await self._pipelines.interpolate(
            family,
            (start, end),
            count=count,
            spherical=spherical,
            timeout_s=context.time_remaining(),
        )
        return pb.InterpolateResponse(
            images=await self._images(family, faces.pixels, picture_format),
            latents=convert.latent_messages(faces.latents, family),
        )

    @property
    def _pipelines(self) -> Pipelines:
        return self._state.open_pipelines()

    def _family(self, name: str, version: str) -> Family:
        return convert.addressed_family(
            self._pipelines.families, name, version=version, default=self._state.default_family
        )

    async def _views(
        self, images: Sequence[image_pb2.Image], crop: image_pb2.Crop, family: Family
    ) -> NDArray[np.uint8]:
        """Read what the model sees of a request's pictures: (B, H, W, C)."""
        uploads = convert.uploads_from(images, max_images=self._state.max_images)
        square = convert.crop_from(crop, family)
        return await self._state.imaging.read(uploads, square, shape=convert.shape_of(family))

    async def _end(
        self, end: pb.Endpoint, field: str, family: Family, crop: CropSquare, context: Context
    ) -> NDArray[np.float32]:
        """Read one end of a path: (Z,)."""
        match end.WhichOneof("face"):
            case "latent":
                return convert.latent_from(end.latent, family, f"{field}.latent")
            case "image":
                upload = convert.upload_from(end.image, f"{field}.image")
                view = await self._state.imaging.read(
                    [upload], crop, shape=convert.shape_of(family)
                )
                posteriors = await self._pipelines.encode(
                    family, view, timeout_s=context.time_remaining()
                )
                mean: NDArray[np.float32] = posteriors.mu[0]
                return mean
            case _:
                raise InputError(field, "is missing; give an image or a latent")

    async def _images(
        self, family: Family, pixels: NDArray[np.uint8], picture_format: PictureFormat
    ) -> list[image_pb2.Image]:
        """Code faces that were made from given latents or pictures."""
        origins = [Origin(family.name, family.version)] * len(pixels)
        files = await self._state.imaging.encode(pixels, picture_format, origins=origins)
        return convert.image_messages(files, family, picture_format)

    async def _generated(
        self,
        family: Family,
        draw: Draw,
        faces: Faces,
        picture_format: PictureFormat,
        *,
        include_latents: bool,
    ) -> list[pb.GeneratedFace]:
        """Code faces that were drawn from a prior."""
        indices = range(draw.first_index, draw.first_index + draw.count)
        origins = [Origin(family.name, family.version, draw.seed, index) for index in indices]
        files = await self._state.imaging.encode(faces.pixels, picture_format, origins=origins)
        images = convert.image_messages(files, family, picture_format)
        latents: Sequence[latent_pb2.Latent | None] = [None] * draw.count
        if include_latents:
            latents = convert.latent_messages(faces.latents, family)
        return [
            pb.GeneratedFace(index=index, image=image, latent=latent)
            for index, image, latent in zip(indices, images, latents, strict=True)
        ]

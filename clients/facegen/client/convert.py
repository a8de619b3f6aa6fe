"""Between our values and protobuf: requests out of arguments, answers out of responses."""

from collections.abc import Iterable
from typing import Any, TypedDict, Unpack

from grpc_health.v1 import health_pb2

from facegen.client.errors import InvalidRequestError
from facegen.client.files import read_picture
from facegen.client.types import (
    CenterCrop,
    Crop,
    Decoded,
    Encoding,
    Endpoint,
    ExpressionTarget,
    Face,
    FaceFinding,
    FoundFace,
    Generated,
    HealthStatus,
    Image,
    ImageSource,
    Interpolated,
    Interpolation,
    Latent,
    Model,
    Point,
    Reconstructed,
    SquareCrop,
    Transferred,
    TransferredImage,
    TransferredPhoto,
    TransferView,
)
from facegen.v1 import face_service_pb2, image_pb2, latent_pb2, model_service_pb2

__all__ = [
    "decode_request",
    "decoded",
    "encode_request",
    "encodings",
    "faces",
    "generate_request",
    "generate_stream_request",
    "generated",
    "health_status",
    "interpolate_request",
    "interpolated",
    "model",
    "reconstruct_request",
    "reconstructed",
    "transfer_request",
    "transferred",
]

_UINT32_MAX, _UINT64_MAX = 2**32 - 1, 2**64 - 1
_INTERPOLATIONS = {
    "linear": face_service_pb2.INTERPOLATION_LINEAR,
    "spherical": face_service_pb2.INTERPOLATION_SPHERICAL,
}
_FINDINGS = {
    "detect": face_service_pb2.FACE_FINDING_DETECT,
    "cropped": face_service_pb2.FACE_FINDING_CROPPED,
}
_VIEWS = {
    "photo": face_service_pb2.TRANSFER_VIEW_PHOTO,
    "crop": face_service_pb2.TRANSFER_VIEW_CROP,
    "sheet": face_service_pb2.TRANSFER_VIEW_SHEET,
}
_KINDS = {
    model_service_pb2.MODEL_KIND_AUTOENCODER: "autoencoder",
    model_service_pb2.MODEL_KIND_VAE: "vae",
    model_service_pb2.MODEL_KIND_EXPRESSION: "expression",
    model_service_pb2.MODEL_KIND_MESH: "mesh",
}
_HEALTH = {
    health_pb2.HealthCheckResponse.SERVING: HealthStatus.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING: HealthStatus.NOT_SERVING,
    health_pb2.HealthCheckResponse.SERVICE_UNKNOWN: HealthStatus.SERVICE_UNKNOWN,
}


class GenerateArguments(TypedDict):
    """What `generate` and `generate_stream` have in common; see `Client.generate`."""

    family: str
    version: str
    seed: int | None
    first_index: int
    temperature: float | None
    prior: str
    expression: str
    mime_type: str
    quality: int | None
    include_latents: bool


def generate_request(
    count: int, **arguments: Unpack[GenerateArguments]
) -> face_service_pb2.GenerateRequest:
    """Build the request of `generate`."""
    fields = _generate_fields(**arguments)
    return face_service_pb2.GenerateRequest(
        count=_unsigned("count", count, most=_UINT32_MAX), **fields
    )


def generate_stream_request(
    count: int, **arguments: Unpack[GenerateArguments]
) -> face_service_pb2.GenerateStreamRequest:
    """Build the request of `generate_stream`."""
    fields = _generate_fields(**arguments)
    return face_service_pb2.GenerateStreamRequest(
        count=_unsigned("count", count, most=_UINT64_MAX), **fields
    )


def reconstruct_request(
    images: Iterable[ImageSource],
    *,
    family: str,
    version: str,
    crop: Crop | None,
    expression: str,
    mime_type: str,
    quality: int | None,
    include_inputs: bool,
) -> face_service_pb2.ReconstructRequest:
    """Build the request of `reconstruct`, reading the pictures given by path."""
    return face_service_pb2.ReconstructRequest(
        family=family,
        version=version,
        images=[_image_message(image) for image in images],
        crop=_crop_message(crop),
        expression=expression,
        format=_format(mime_type, quality),
        include_inputs=include_inputs,
    )


def encode_request(
    images: Iterable[ImageSource], *, family: str, version: str, crop: Crop | None
) -> face_service_pb2.EncodeRequest:
    """Build the request of `encode`, reading the pictures given by path."""
    return face_service_pb2.EncodeRequest(
        family=family,
        version=version,
        images=[_image_message(image) for image in images],
        crop=_crop_message(crop),
    )


def decode_request(
    latents: Iterable[Latent],
    *,
    family: str,
    version: str,
    expression: str,
    mime_type: str,
    quality: int | None,
) -> face_service_pb2.DecodeRequest:
    """Build the request of `decode`."""
    return face_service_pb2.DecodeRequest(
        family=family,
        version=version,
        latents=[_latent_message(latent) for latent in latents],
        expression=expression,
        format=_format(mime_type, quality),
    )


def interpolate_request(
    start: Endpoint,
    end: Endpoint,
    *,
    count: int,
    interpolation: Interpolation,
    family: str,
    version: str,
    crop: Crop | None,
    expression: str,
    mime_type: str,
    quality: int | None,
) -> face_service_pb2.InterpolateRequest:
    """Build the request of `interpolate`, reading the pictures given by path."""
    return face_service_pb2.InterpolateRequest(
        family=family,
        version=version,
        start=_endpoint_message(start),
        end=_endpoint_message(end),
        count=_unsigned("count", count, most=_UINT32_MAX),
        interpolation=_INTERPOLATIONS[interpolation],
        crop=_crop_message(crop),
        expression=expression,
        format=_format(mime_type, quality),
    )


def transfer_request(
    images: Iterable[ImageSource],
    targets: Iterable[ExpressionTarget | str],
    *,
    family: str,
    version: str,
    finding: FaceFinding,
    max_faces: int | None,
    view: TransferView,
    mime_type: str,
    quality: int | None,
) -> face_service_pb2.TransferRequest:
    """Build the request of `transfer`, reading the photos given by path."""
    return face_service_pb2.TransferRequest(
        family=family,
        version=version,
        images=[_image_message(image) for image in images],
        targets=[_target_message(target) for target in targets],
        finding=_FINDINGS[finding],
        max_faces=None if max_faces is None else _unsigned("max_faces", max_faces, most=32),
        view=_VIEWS[view],
        format=_format(mime_type, quality),
    )


def faces(
    response: face_service_pb2.GenerateResponse | face_service_pb2.GenerateStreamResponse,
) -> tuple[Face, ...]:
    """Read the faces of a response."""
    return tuple(
        Face(
            index=face.index,
            image=_image(face.image),
            latent=_latent(face.latent) if face.HasField("latent") else None,
            seed=response.seed,
            family=response.family,
            version=response.version,
            prior=response.prior,
        )
        for face in response.faces
    )


def generated(response: face_service_pb2.GenerateResponse) -> Generated:
    """Read the response to `generate`."""
    return Generated(
        faces=faces(response),
        seed=response.seed,
        family=response.family,
        version=response.version,
        prior=response.prior,
    )


def reconstructed(response: face_service_pb2.ReconstructResponse) -> Reconstructed:
    """Read the response to `reconstruct`."""
    return Reconstructed(
        images=tuple(map(_image, response.images)),
        inputs=tuple(map(_image, response.inputs)),
        family=response.family,
        version=response.version,
    )


def encodings(response: face_service_pb2.EncodeResponse) -> tuple[Encoding, ...]:
    """Read the response to `encode`."""
    return tuple(
        Encoding(mean=_latent(encoding.mean), log_variance=tuple(encoding.log_variance))
        for encoding in response.encodings
    )


def decoded(response: face_service_pb2.DecodeResponse) -> Decoded:
    """Read the response to `decode`."""
    return Decoded(
        images=tuple(map(_image, response.images)),
        family=response.family,
        version=response.version,
    )


def interpolated(response: face_service_pb2.InterpolateResponse) -> Interpolated:
    """Read the response to `interpolate`."""
    return Interpolated(
        images=tuple(map(_image, response.images)), latents=tuple(map(_latent, response.latents))
    )


def transferred(response: face_service_pb2.TransferResponse, *, view: TransferView) -> Transferred:
    """Read the response to `transfer`; `view` is what was asked for."""
    return Transferred(
        photos=tuple(
            TransferredPhoto(
                images=tuple(_transferred_image(image, view) for image in photo.images),
                faces=tuple(map(_found_face, photo.faces)),
            )
            for photo in response.photos
        ),
        family=response.family,
        version=response.version,
    )


def model(message: model_service_pb2.Model) -> Model:
    """Read the description of a family."""
    return Model(
        family=message.family,
        version=message.version,
        kind=_KINDS.get(message.kind, "unknown"),
        latent_size=message.latent_size,
        height_px=message.height_px,
        width_px=message.width_px,
        channel_count=message.channel_count,
        priors=tuple(message.priors),
        dataset=message.dataset,
        data_license=message.data_license,
        metrics=dict(message.metrics),
        graphs=tuple(message.graphs),
        expressions=tuple(message.expressions),
        experimental_expressions=tuple(message.experimental_expressions),
    )


def health_status(response: health_pb2.HealthCheckResponse) -> HealthStatus:
    """Read the answer to a health check."""
    return _HEALTH.get(response.status, HealthStatus.UNKNOWN)


def _generate_fields(**arguments: Unpack[GenerateArguments]) -> dict[str, Any]:
    seed = arguments["seed"]
    return {
        "family": arguments["family"],
        "version": arguments["version"],
        "seed": None if seed is None else _unsigned("seed", seed, most=_UINT64_MAX),
        "first_index": _unsigned("first_index", arguments["first_index"], most=_UINT64_MAX),
        "temperature": arguments["temperature"],
        "prior": arguments["prior"],
        "expression": arguments["expression"],
        "format": _format(arguments["mime_type"], arguments["quality"]),
        "include_latents": arguments["include_latents"],
    }


def _unsigned(field: str, value: int, *, most: int) -> int:
    if not 0 <= value <= most:
        raise InvalidRequestError(f"{field} is {value}, expected 0 to {most}", field=field)
    return value


def _format(mime_type: str, quality: int | None) -> image_pb2.ImageFormat:
    if quality is not None:
        _unsigned("quality", quality, most=100)
    return image_pb2.ImageFormat(mime_type=mime_type, quality=quality)


def _image_message(source: ImageSource) -> image_pb2.Image:
    if isinstance(source, Image):
        return image_pb2.Image(
            data=source.data,
            mime_type=source.mime_type,
            height_px=source.height_px,
            width_px=source.width_px,
            channel_count=source.channel_count,
        )
    data = source if isinstance(source, bytes) else read_picture(source)
    return image_pb2.Image(data=data)


def _latent_message(latent: Latent) -> latent_pb2.Latent:
    return latent_pb2.Latent(family=latent.family, version=latent.version, values=latent.values)


def _endpoint_message(endpoint: Endpoint) -> face_service_pb2.Endpoint:
    if isinstance(endpoint, Latent):
        return face_service_pb2.Endpoint(latent=_latent_message(endpoint))
    return face_service_pb2.Endpoint(image=_image_message(endpoint))


def _crop_message(crop: Crop | None) -> image_pb2.Crop | None:
    if crop is None:
        return None
    if isinstance(crop, CenterCrop):
        return image_pb2.Crop(center_fraction=crop.fraction)
    if isinstance(crop, SquareCrop):
        square = image_pb2.Square(
            left_px=_unsigned("crop.square_px.left_px", crop.left_px, most=_UINT32_MAX),
            top_px=_unsigned("crop.square_px.top_px", crop.top_px, most=_UINT32_MAX),
            side_px=_unsigned("crop.square_px.side_px", crop.side_px, most=_UINT32_MAX),
        )
        return image_pb2.Crop(square_px=square)
    return image_pb2.Crop(dataset=True)


def _image(message: image_pb2.Image) -> Image:
    return Image(
        data=message.data,
        mime_type=message.mime_type,
        height_px=message.height_px,
        width_px=message.width_px,
        channel_count=message.channel_count,
    )


def _latent(message: latent_pb2.Latent) -> Latent:
    return Latent(family=message.family, version=message.version, values=tuple(message.values))


def _target_message(target: ExpressionTarget | str) -> face_service_pb2.ExpressionTarget:
    if isinstance(target, str):
        return face_service_pb2.ExpressionTarget(expression=target)
    return face_service_pb2.ExpressionTarget(expression=target.expression, strength=target.strength)


def _transferred_image(
    message: face_service_pb2.TransferredImage, view: TransferView
) -> TransferredImage:
    return TransferredImage(
        expression=message.expression,
        # A float32 on the way: six decimals of it are those that were sent.
        strength=round(message.strength, 6),
        face_index=message.face_index if view == "crop" else None,
        image=_image(message.image),
    )


def _found_face(message: face_service_pb2.FoundFace) -> FoundFace:
    return FoundFace(
        left_px=message.left_px,
        top_px=message.top_px,
        right_px=message.right_px,
        bottom_px=message.bottom_px,
        points=tuple(Point(point.x_px, point.y_px) for point in message.points),
        score=message.score,
    )

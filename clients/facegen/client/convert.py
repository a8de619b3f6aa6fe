"""Between protobuf and our values: answers out of responses. `requests` is the other way."""

from collections.abc import Iterable

from grpc_health.v1 import health_pb2

from facegen.client.types import (
    Decoded,
    Direction,
    Edited,
    EditedFace,
    Encoding,
    Face,
    FoundFace,
    Generated,
    HealthStatus,
    Image,
    Interpolated,
    Latent,
    Model,
    Point,
    Reconstructed,
    Transferred,
    TransferredImage,
    TransferredPhoto,
    TransferView,
)
from facegen.v1 import face_service_pb2, image_pb2, latent_pb2, model_service_pb2

__all__ = [
    "decoded",
    "edited",
    "encodings",
    "faces",
    "generated",
    "health_status",
    "interpolated",
    "latent",
    "model",
    "reconstructed",
    "transferred",
]

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


def faces(
    response: face_service_pb2.GenerateResponse | face_service_pb2.GenerateStreamResponse,
) -> tuple[Face, ...]:
    """Read the faces of a response."""
    return tuple(
        Face(
            index=face.index,
            image=_image(face.image),
            latent=latent(face.latent) if face.HasField("latent") else None,
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


def encodings(messages: Iterable[face_service_pb2.Encoding]) -> tuple[Encoding, ...]:
    """Read the response to `encode` or `encode_meshes`."""
    return tuple(
        Encoding(mean=latent(encoding.mean), log_variance=tuple(encoding.log_variance))
        for encoding in messages
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
        images=tuple(map(_image, response.images)),
        latents=tuple(map(latent, response.latents)),
        animation=_image(response.animation) if response.HasField("animation") else None,
    )


def edited(response: face_service_pb2.EditResponse) -> Edited:
    """Read the response to `edit`."""
    return Edited(
        faces=tuple(
            EditedFace(
                images=tuple(map(_image, face.images)),
                latents=tuple(map(latent, face.latents)),
                original=latent(face.original),
                animation=_image(face.animation) if face.HasField("animation") else None,
            )
            for face in response.faces
        ),
        strengths=tuple(map(_short, response.strengths)),
        family=response.family,
        version=response.version,
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
        directions=tuple(
            Direction(it.name, it.effect if it.HasField("effect") else None)
            for it in message.directions
        ),
        vertex_count=message.vertex_count,
        face_count=message.face_count,
    )


def health_status(response: health_pb2.HealthCheckResponse) -> HealthStatus:
    """Read the answer to a health check."""
    return _HEALTH.get(response.status, HealthStatus.UNKNOWN)


def _image(message: image_pb2.Image) -> Image:
    return Image(
        data=message.data,
        mime_type=message.mime_type,
        height_px=message.height_px,
        width_px=message.width_px,
        channel_count=message.channel_count,
    )


def latent(message: latent_pb2.Latent) -> Latent:
    """Read a latent."""
    return Latent(family=message.family, version=message.version, values=tuple(message.values))


def _transferred_image(
    message: face_service_pb2.TransferredImage, view: TransferView
) -> TransferredImage:
    return TransferredImage(
        expression=message.expression,
        strength=_short(message.strength),
        face_index=message.face_index if view == "crop" else None,
        image=_image(message.image),
    )


def _short(strength: float) -> float:
    """Give a float32 as it was sent: six decimals of it are right."""
    return round(strength, 6)


def _found_face(message: face_service_pb2.FoundFace) -> FoundFace:
    return FoundFace(
        left_px=message.left_px,
        top_px=message.top_px,
        right_px=message.right_px,
        bottom_px=message.bottom_px,
        points=tuple(Point(point.x_px, point.y_px) for point in message.points),
        score=message.score,
    )

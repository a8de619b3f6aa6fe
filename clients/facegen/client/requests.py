"""Between our values and protobuf: requests out of arguments. `convert` is the other way."""

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, Unpack

from facegen.client.errors import InvalidRequestError
from facegen.client.files import read_picture
from facegen.client.types import (
    Animation,
    CenterCrop,
    Crop,
    DrawnFace,
    EditView,
    Endpoint,
    ExpressionTarget,
    FaceCrop,
    FaceFinding,
    FaceSource,
    Image,
    ImageSource,
    Interpolation,
    Latent,
    SquareCrop,
    TransferView,
    Traversal,
)
from facegen.v1 import face_service_pb2, image_pb2, latent_pb2

__all__ = [
    "INTERPOLATIONS",
    "UINT32_MAX",
    "UINT64_MAX",
    "decode_request",
    "drawn_message",
    "edit_request",
    "encode_request",
    "generate_request",
    "generate_stream_request",
    "interpolate_request",
    "latent_message",
    "reconstruct_request",
    "transfer_request",
    "unsigned",
]

UINT32_MAX, UINT64_MAX = 2**32 - 1, 2**64 - 1
INTERPOLATIONS = {
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
_EDIT_VIEWS = {
    None: face_service_pb2.EDIT_VIEW_UNSPECIFIED,
    "photo": face_service_pb2.EDIT_VIEW_PHOTO,
    "crop": face_service_pb2.EDIT_VIEW_CROP,
    "decoded": face_service_pb2.EDIT_VIEW_DECODED,
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
        count=unsigned("count", count, most=UINT32_MAX), **fields
    )


def generate_stream_request(
    count: int, **arguments: Unpack[GenerateArguments]
) -> face_service_pb2.GenerateStreamRequest:
    """Build the request of `generate_stream`."""
    fields = _generate_fields(**arguments)
    return face_service_pb2.GenerateStreamRequest(
        count=unsigned("count", count, most=UINT64_MAX), **fields
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
        latents=[latent_message(latent) for latent in latents],
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
    animation: Animation | None,
    mime_type: str,
    quality: int | None,
) -> face_service_pb2.InterpolateRequest:
    """Build the request of `interpolate`, reading the pictures given by path."""
    return face_service_pb2.InterpolateRequest(
        family=family,
        version=version,
        start=face_service_pb2.Endpoint(**_face_fields(start)),
        end=face_service_pb2.Endpoint(**_face_fields(end)),
        count=unsigned("count", count, most=UINT32_MAX),
        interpolation=INTERPOLATIONS[interpolation],
        crop=_crop_message(crop),
        expression=expression,
        animation=_animation_message(animation),
        format=_format(mime_type, quality),
    )


def edit_request(
    sources: Iterable[FaceSource],
    moves: Mapping[str, float] | None,
    *,
    traversal: Traversal | None,
    family: str,
    version: str,
    crop: Crop | None,
    view: EditView | None,
    animation: Animation | None,
    mime_type: str,
    quality: int | None,
) -> face_service_pb2.EditRequest:
    """Build the request of `edit`, reading the pictures given by path."""
    return face_service_pb2.EditRequest(
        family=family,
        version=version,
        faces=[face_service_pb2.FaceSource(**_face_fields(source)) for source in sources],
        moves=[
            face_service_pb2.Move(direction=direction, strength=strength)
            for direction, strength in (moves or {}).items()
        ],
        traversal=_traversal_message(traversal),
        crop=_crop_message(crop),
        view=_EDIT_VIEWS[view],
        animation=_animation_message(animation),
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
        max_faces=None if max_faces is None else unsigned("max_faces", max_faces, most=32),
        view=_VIEWS[view],
        format=_format(mime_type, quality),
    )


def _generate_fields(**arguments: Unpack[GenerateArguments]) -> dict[str, Any]:
    seed = arguments["seed"]
    return {
        "family": arguments["family"],
        "version": arguments["version"],
        "seed": None if seed is None else unsigned("seed", seed, most=UINT64_MAX),
        "first_index": unsigned("first_index", arguments["first_index"], most=UINT64_MAX),
        "temperature": arguments["temperature"],
        "prior": arguments["prior"],
        "expression": arguments["expression"],
        "format": _format(arguments["mime_type"], arguments["quality"]),
        "include_latents": arguments["include_latents"],
    }


def unsigned(field: str, value: int, *, most: int) -> int:
    """Check a number that has no sign.

    Raises:
        InvalidRequestError: It is out of range.
    """
    if not 0 <= value <= most:
        raise InvalidRequestError(f"{field} is {value}, expected 0 to {most}", field=field)
    return value


def _format(mime_type: str, quality: int | None) -> image_pb2.ImageFormat:
    if quality is not None:
        unsigned("quality", quality, most=100)
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


def latent_message(latent: Latent) -> latent_pb2.Latent:
    """Write a latent."""
    return latent_pb2.Latent(family=latent.family, version=latent.version, values=latent.values)


def _face_fields(source: FaceSource) -> dict[str, Any]:
    """Give the one field of a message that holds a face."""
    if isinstance(source, Latent):
        return {"latent": latent_message(source)}
    if isinstance(source, DrawnFace):
        return {"drawn": drawn_message(source)}
    return {"image": _image_message(source)}


def drawn_message(drawn: DrawnFace) -> face_service_pb2.DrawnFace:
    """Write a face of a seed."""
    return face_service_pb2.DrawnFace(
        seed=unsigned("seed", drawn.seed, most=UINT64_MAX),
        index=unsigned("index", drawn.index, most=UINT64_MAX),
        prior=drawn.prior,
        temperature=drawn.temperature,
    )


def _traversal_message(traversal: Traversal | None) -> face_service_pb2.Traversal | None:
    if traversal is None:
        return None
    return face_service_pb2.Traversal(
        direction=traversal.direction,
        start=traversal.start,
        end=traversal.end,
        count=unsigned("traversal.count", traversal.count, most=UINT32_MAX),
    )


def _animation_message(animation: Animation | None) -> face_service_pb2.Animation | None:
    if animation is None:
        return None
    return face_service_pb2.Animation(
        frame_ms=unsigned("animation.frame_ms", animation.frame_ms, most=UINT32_MAX),
        there_and_back=animation.there_and_back,
    )


def _crop_message(crop: Crop | None) -> image_pb2.Crop | None:
    if crop is None:
        return None
    if isinstance(crop, CenterCrop):
        return image_pb2.Crop(center_fraction=crop.fraction)
    if isinstance(crop, SquareCrop):
        square = image_pb2.Square(
            left_px=unsigned("crop.square_px.left_px", crop.left_px, most=UINT32_MAX),
            top_px=unsigned("crop.square_px.top_px", crop.top_px, most=UINT32_MAX),
            side_px=unsigned("crop.square_px.side_px", crop.side_px, most=UINT32_MAX),
        )
        return image_pb2.Crop(square_px=square)
    if isinstance(crop, FaceCrop):
        return image_pb2.Crop(face=True)
    return image_pb2.Crop(dataset=True)


def _target_message(target: ExpressionTarget | str) -> face_service_pb2.ExpressionTarget:
    if isinstance(target, str):
        return face_service_pb2.ExpressionTarget(expression=target)
    return face_service_pb2.ExpressionTarget(expression=target.expression, strength=target.strength)

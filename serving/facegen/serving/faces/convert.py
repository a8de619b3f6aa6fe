"""Between protobuf messages and our own types; every request is checked here, its fields named."""

import math
import secrets
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from facegen.serving.errors import (
    CapabilityError,
    InputError,
    LatentSizeError,
    ModelNotFoundError,
    UnknownFamilyError,
)
from facegen.serving.faces.family import Family
from facegen.serving.faces.latent_family import LatentFamily, find_family
from facegen.serving.faces.latent_pipelines import Draw
from facegen.serving.imaging import (
    GIF,
    JPEG,
    PNG,
    RAW,
    WEBP,
    AnimationFormat,
    CenterCrop,
    CropSquare,
    FaceCrop,
    PictureFormat,
    PixelSquare,
    Upload,
)
from facegen.v1 import (
    face_service_pb2,
    image_pb2,
    latent_pb2,
    mesh_service_pb2,
    model_service_pb2,
)

__all__ = [
    "address_of",
    "addressed_family",
    "animation_from",
    "count_from",
    "crop_from",
    "draw_from",
    "drawn_from",
    "expression_from",
    "format_from",
    "image_messages",
    "latent_from",
    "latent_messages",
    "latents_from",
    "model_message",
    "picture_model_message",
    "shape_of",
    "spherical_from",
    "unknown_name",
    "upload_from",
    "uploads_from",
]

AnyFamily = TypeVar("AnyFamily", bound=LatentFamily)
_Drawing = (
    face_service_pb2.GenerateRequest
    | face_service_pb2.GenerateStreamRequest
    | mesh_service_pb2.GenerateMeshesRequest
    | mesh_service_pb2.GenerateMeshesStreamRequest
)

_FORMATS = (PNG, JPEG, WEBP, RAW)
_ANIMATED_FORMATS = (WEBP, GIF)
_LEAST_FRAME_MS, _MOST_FRAME_MS, _FRAME_MS = 20, 10_000, 100
_MOST_TEMPERATURE = 10.0
_INDEX_COUNT = 2**64
_KINDS = {
    "autoencoder": model_service_pb2.MODEL_KIND_AUTOENCODER,
    "vae": model_service_pb2.MODEL_KIND_VAE,
    "expression": model_service_pb2.MODEL_KIND_EXPRESSION,
    "mesh": model_service_pb2.MODEL_KIND_MESH,
}


def addressed_family(
    families: Sequence[AnyFamily],
    name: str,
    *,
    version: str,
    fields: tuple[str, str] = ("family", "version"),
) -> AnyFamily:
    """Find the family that a request addresses.

    Args:
        families: Those served.
        name: The family's name; empty if none is served.
        version: What the request says; may be empty.
        fields: Where the request says so, for the error.

    Raises:
        UnknownFamilyError: It is not served. Never right.
    """
    try:
        return find_family(families, name, version=version)
    except ModelNotFoundError as error:
        versions = [family.version for family in families if family.name == name]
        if versions:
            wanted = f"{name} version {version}"
            raise UnknownFamilyError(fields[1], wanted, available=versions) from error
        names = sorted({family.name for family in families})
        raise UnknownFamilyError(fields[0], name or "family", available=names) from error


def address_of(
    request: face_service_pb2.DecodeRequest | mesh_service_pb2.DecodeMeshesRequest,
) -> tuple[str, str, tuple[str, str]]:
    """Read the family and version of a request that may leave them to its first latent.

    Returns:
        The family and the version, either may be empty, and the fields that they were read from.
    """
    first = request.latents[0] if request.latents else latent_pb2.Latent()
    name = request.family or first.family
    version = request.version or (first.version if first.family == name else "")
    fields = (
        "family" if request.family else "latents[0].family",
        "version" if request.version else "latents[0].version",
    )
    return name, version, fields


def count_from(count: int, *, field: str = "count", least: int = 1, most: int) -> int:
    """Check a number of pictures or meshes."""
    if count < least:
        raise InputError(field, f"is {count}, must be at least {least}")
    if count > most:
        raise InputError(field, f"is {count}, above the limit of {most} (--max-images)")
    return count


def draw_from(
    request: _Drawing, family: LatentFamily, *, max_count: int, expression: str = ""
) -> Draw:
    """Read which faces to draw; a seed is drawn where the request has none.

    Args:
        request: The request.
        family: The family that it addresses.
        max_count: The most faces.
        expression: What `expression_from` gave, of a family that has some.

    Raises:
        InputError: Count, index, temperature or prior is out of range. Never right.
    """
    count = count_from(request.count, most=max_count)
    if request.first_index + count > _INDEX_COUNT:
        raise InputError(
            "first_index", f"{request.first_index} leaves no room for {count} faces below 2^64"
        )
    temperature = _temperature_from(request, "temperature")
    prior = _prior_from(request.prior, family, "prior")
    # 32 bits are enough for chance and short enough to write down.
    seed = request.seed if request.HasField("seed") else secrets.randbits(32)
    return Draw(
        seed=seed,
        first_index=request.first_index,
        count=count,
        temperature=temperature,
        prior=prior,
        expression=expression,
    )


def drawn_from(drawn: face_service_pb2.DrawnFace, family: LatentFamily, field: str) -> Draw:
    """Read which one face of a seed is meant.

    Raises:
        InputError: Temperature or prior is out of range. Never right.
    """
    return Draw(
        seed=drawn.seed,
        first_index=drawn.index,
        count=1,
        temperature=_temperature_from(drawn, f"{field}.temperature"),
        prior=_prior_from(drawn.prior, family, f"{field}.prior"),
    )


def expression_from(expression: str, family: Family, *, field: str = "expression") -> str:
    """Read which expression to draw.

    Returns:
        The expression, the family's default if the request names none; empty for a family that has
        none.

    Raises:
        CapabilityError: The family has none. Right with another family.
        InputError: The family does not have this one. Never right.
    """
    if family.expressions is None:
        if not expression:
            return ""
        raise CapabilityError(
            f'family "{family.name}" has no expressions, {field} asks for "{expression}"',
            "leave it out, or address a family of expressions (ListModels tells which)",
        )
    if not expression:
        return family.expressions.default
    if expression not in family.expressions.decoders:
        raise unknown_name(field, expression, family=family, known=[*family.expressions.decoders])
    return expression


def unknown_name(
    field: str, wanted: str, *, family: LatentFamily, known: Sequence[str]
) -> InputError:
    """Say that a family has nothing of that name, which are near, and what it has."""
    by_key = {_key(name): name for name in known}
    # Comparing takes time; a name that a person mistyped is no longer than this.
    found = get_close_matches(_key(wanted), by_key, n=3) if len(wanted) <= 64 else []
    near = f" (near: {', '.join(by_key[key] for key in found)})" if found else ""
    return InputError(
        field, f'family "{family.name}" has no "{wanted}"{near}; it has {", ".join(known)}'
    )


def format_from(message: image_pb2.ImageFormat) -> PictureFormat:
    """Read how to code pictures.

    Raises:
        InputError: An unknown format or a quality out of range. Never right.
    """
    mime_type = message.mime_type or PNG
    if mime_type == GIF:
        raise InputError("format.mime_type", f'"{GIF}" is of animations; set animation too')
    if mime_type not in _FORMATS:
        raise InputError("format.mime_type", f'"{mime_type}" is none of {", ".join(_FORMATS)}')
    return PictureFormat(mime_type, _quality_from(message))


def animation_from(
    request: face_service_pb2.InterpolateRequest | face_service_pb2.EditRequest,
) -> AnimationFormat | None:
    """Read how to code a row of pictures as one; None: they are wanted one by one.

    Raises:
        InputError: A format that cannot be animated, or a time or quality out of range. Never
            right.
    """
    if not request.HasField("animation"):
        return None
    mime_type = request.format.mime_type or WEBP
    if mime_type not in _ANIMATED_FORMATS:
        known = ", ".join(_ANIMATED_FORMATS)
        raise InputError(
            "format.mime_type", f'"{mime_type}" cannot be animated; it must be one of {known}'
        )
    frame_ms = request.animation.frame_ms or _FRAME_MS
    if not _LEAST_FRAME_MS <= frame_ms <= _MOST_FRAME_MS:
        raise InputError(
            "animation.frame_ms",
            f"is {frame_ms}, must be {_LEAST_FRAME_MS} to {_MOST_FRAME_MS}",
        )
    quality = _quality_from(request.format)
    return AnimationFormat(mime_type, quality, frame_ms, request.animation.there_and_back)


def crop_from(message: image_pb2.Crop, family: Family) -> CropSquare:
    """Read which square of a picture to show the model.

    Raises:
        InputError: A fraction or side out of range. Never right.
        CapabilityError: The face is wanted, and the family does not say how it is framed.
    """
    match message.WhichOneof("square"):
        case "center_fraction":
            if not 0 < message.center_fraction <= 1:
                raise InputError(
                    "crop.center_fraction",
                    f"is {message.center_fraction}, must be above 0 and at most 1",
                )
            return CenterCrop(message.center_fraction)
        case "square_px":
            square = message.square_px
            if square.side_px < 1:
                raise InputError("crop.square_px.side_px", "is 0, must be at least 1")
            return PixelSquare(square.left_px, square.top_px, square.side_px)
        case "dataset":
            if not message.dataset:
                raise InputError("crop.dataset", "is false; leave it out or choose another square")
            return CenterCrop(family.crop_fraction)
        case "face":
            if not message.face:
                raise InputError("crop.face", "is false; leave it out or choose another square")
            if family.face_frame is None:
                raise CapabilityError(
                    f'family "{family.name}" does not say how its faces are framed',
                    "give crop.square_px, or export it again from a run whose faces are found",
                )
            return FaceCrop(*family.face_frame)
        case _:
            return CenterCrop()


def uploads_from(images: Sequence[image_pb2.Image], *, max_images: int) -> list[Upload]:
    """Read the pictures of a request's `images`.

    Raises:
        InputError: Too few or many, or one is described wrongly. Never right.
    """
    count_from(len(images), field="images", most=max_images)
    return [upload_from(image, f"images[{i}]") for i, image in enumerate(images)]


def upload_from(image: image_pb2.Image, field: str) -> Upload:
    """Read one picture, not decoded yet.

    Args:
        image: The message.
        field: Its field, for example `images[3]`.

    Raises:
        InputError: An unknown type, or raw pixels that contradict their shape. Never right.
    """
    if image.mime_type != RAW:
        # Any picture is recognised by its content; what is told of it does not matter.
        if image.mime_type and not image.mime_type.startswith("image/"):
            raise InputError(
                f"{field}.mime_type", f'"{image.mime_type}" is neither image/… nor {RAW}'
            )
        return Upload(image.data, f"{field}.data")
    shape = (image.height_px, image.width_px, image.channel_count)
    for name, size in zip(("height_px", "width_px"), shape[:2], strict=True):
        if size < 1:
            raise InputError(f"{field}.{name}", "is 0; raw pixels need their shape")
    if shape[2] not in (1, 3):
        raise InputError(f"{field}.channel_count", f"is {shape[2]}, must be 1 or 3")
    if len(image.data) != math.prod(shape):
        raise InputError(
            f"{field}.data",
            f"has {len(image.data)} bytes, {shape[0]} x {shape[1]} x {shape[2]} pixels "
            f"need {math.prod(shape)}",
        )
    return Upload(image.data, f"{field}.data", shape)


def latents_from(
    latents: Sequence[latent_pb2.Latent], family: LatentFamily, *, max_images: int
) -> NDArray[np.float32]:
    """Read the latents of a request's `latents`.

    Returns:
        (B, Z).

    Raises:
        InputError: Too few or many, or as `latent_from`. Never right.
    """
    count_from(len(latents), field="latents", most=max_images)
    rows = np.empty((len(latents), family.latent_size), np.float32)
    for index, latent in enumerate(latents):
        rows[index] = latent_from(latent, family, f"latents[{index}]")
    return rows


def latent_from(latent: latent_pb2.Latent, family: LatentFamily, field: str) -> NDArray[np.float32]:
    """Read one latent.

    Returns:
        (Z,).

    Raises:
        InputError: Of another family or version, or not finite. Never right.
        LatentSizeError: Too few or many values. Never right.
    """
    if latent.family != family.name:
        problem = f'is "{latent.family}", the latent must be of "{family.name}", addressed here'
        raise InputError(f"{field}.family", problem)
    if latent.version not in ("", family.version):
        problem = f'is "{latent.version}", version "{family.version}" is addressed'
        raise InputError(f"{field}.version", problem)
    size = len(latent.values)
    if size != family.latent_size:
        raise LatentSizeError(f"{field}.values", family.name, expected=family.latent_size, got=size)
    values = np.fromiter(latent.values, np.float32, size)
    if not np.isfinite(values).all():
        i = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"{field}.values[{i}]", f"is {values[i]}, must be finite")
    return values


def latent_messages(latents: NDArray[np.float32], family: LatentFamily) -> list[latent_pb2.Latent]:
    """Write latents (B, Z)."""
    return [
        latent_pb2.Latent(family=family.name, version=family.version, values=values)
        for values in latents.tolist()
    ]


def spherical_from(interpolation: face_service_pb2.Interpolation.ValueType) -> bool:
    """Read a path's form: the great circle unless the straight line is asked for.

    Raises:
        InputError: An unknown form. Never right.
    """
    if interpolation not in face_service_pb2.Interpolation.values():
        raise InputError("interpolation", f"{interpolation} is no form known here")
    return interpolation != face_service_pb2.INTERPOLATION_LINEAR


def shape_of(family: Family) -> tuple[int, int, int]:
    """Give the shape (H, W, C) of a family's pictures."""
    return family.height_px, family.width_px, family.channel_count


def image_messages(files: Sequence[bytes], family: Family, mime_type: str) -> list[image_pb2.Image]:
    """Write coded pictures of a family's size."""
    return [
        image_pb2.Image(
            data=file,
            mime_type=mime_type,
            height_px=family.height_px,
            width_px=family.width_px,
            channel_count=family.channel_count,
        )
        for file in files
    ]


def _quality_from(message: image_pb2.ImageFormat) -> int:
    quality = message.quality if message.HasField("quality") else 90
    if not 1 <= quality <= 100:
        raise InputError("format.quality", f"is {quality}, must be 1 to 100")
    return quality


def _temperature_from(message: _Drawing | face_service_pb2.DrawnFace, field: str) -> float:
    temperature = message.temperature if message.HasField("temperature") else 1.0
    if not 0 <= temperature <= _MOST_TEMPERATURE:
        raise InputError(field, f"is {temperature}, must be 0 to {_MOST_TEMPERATURE:g}")
    return temperature


def _prior_from(prior: str, family: LatentFamily, field: str) -> str:
    prior = prior or family.default_prior
    if prior not in family.priors:
        raise unknown_name(field, prior, family=family, known=[*family.priors])
    return prior


def _key(name: str) -> str:
    """Write a name as it is compared: case and separators do not matter."""
    return name.lower().replace("_", "-").replace(" ", "-")


def model_message(family: LatentFamily) -> model_service_pb2.Model:
    """Write what all families have in common."""
    return model_service_pb2.Model(
        family=family.name,
        version=family.version,
        kind=_KINDS.get(family.kind, model_service_pb2.MODEL_KIND_UNSPECIFIED),
        latent_size=family.latent_size,
        priors=family.priors,
        dataset=family.dataset,
        data_license=family.data_license,
        metrics=family.metrics,
        graphs=family.graphs,
    )


def picture_model_message(family: Family) -> model_service_pb2.Model:
    """Write a family of pictures."""
    message = model_message(family)
    message.height_px, message.width_px = family.height_px, family.width_px
    message.channel_count = family.channel_count
    if family.expressions is not None:
        message.expressions.extend(family.expressions.supported)
        message.experimental_expressions.extend(family.expressions.experimental)
    message.directions.extend(_direction_messages(family))
    return message


def _direction_messages(family: Family) -> list[model_service_pb2.Direction]:
    if family.directions is None:
        return []
    effects = family.directions.effects
    return [
        model_service_pb2.Direction(name=name, effect=effects.get(name))
        for name in family.directions.names
    ]

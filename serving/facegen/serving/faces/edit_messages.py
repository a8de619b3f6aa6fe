"""Between the messages of Edit and our own types; the request is checked here."""

import math
from collections.abc import Sequence

import numpy as np

from facegen.serving.errors import CapabilityError, InputError
from facegen.serving.faces.convert import (
    animation_from,
    count_from,
    crop_from,
    format_from,
    latent_messages,
    unknown_name,
)
from facegen.serving.faces.edit import EditedFace, EditOrder, EditView, Picture
from facegen.serving.faces.family import Family
from facegen.serving.faces.sources import Source, source_from
from facegen.serving.imaging import PictureFormat, Upload
from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2

__all__ = ["address_of", "edit_family", "edit_order_from", "face_message", "sources_from"]

_MOST_MOVES = 64
_MOST_STRENGTH = 20.0
_START, _END = -1.0, 1.0
_VIEWS: dict[int, EditView] = {
    pb.EDIT_VIEW_UNSPECIFIED: "photo",
    pb.EDIT_VIEW_PHOTO: "photo",
    pb.EDIT_VIEW_CROP: "crop",
    pb.EDIT_VIEW_DECODED: "decoded",
}


def address_of(request: pb.EditRequest) -> tuple[str, str, tuple[str, str]]:
    """Read the family and version of a request that may leave them to its first latent.

    Returns:
        The family and the version, either may be empty, and the fields that they were read from.
    """
    found = (
        (f"faces[{index}].latent", face.latent)
        for index, face in enumerate(request.faces)
        if face.WhichOneof("face") == "latent"
    )
    field, first = next(found, ("", None))
    name = request.family or (first.family if first else "")
    version = request.version or (first.version if first and first.family == name else "")
    fields = (
        "family" if request.family or not first else f"{field}.family",
        "version" if request.version or not first else f"{field}.version",
    )
    return name, version, fields


def edit_family(families: Sequence[Family], *, default: str) -> str:
    """Name the family of edits that name none.

    Args:
        families: Those served.
        default: The family of other requests that name none.

    Raises:
        CapabilityError: None of them has directions.
    """
    names = _with_directions(families)
    if not names:
        raise CapabilityError(
            "no family that is served here has directions", "serve one, for example celeba-vae"
        )
    return default if default in names else names[0]


def edit_order_from(
    request: pb.EditRequest,
    family: Family,
    families: Sequence[Family],
    *,
    max_images: int,
    max_bytes: int,
) -> EditOrder:
    """Read what a request wants of its faces.

    Args:
        request: The request.
        family: The one that it addresses.
        families: Those served, to name one that can.
        max_images: The most pictures.
        max_bytes: The most that they may have together.

    Raises:
        CapabilityError: The family has no directions. Right with another family.
        InputError: A move, the traversal, the view or the format is wrong. Never right.
    """
    if family.directions is None:
        names = ", ".join(_with_directions(families)) or "none is served here"
        raise CapabilityError(
            f'family "{family.name}" has no directions', f"address one that has: {names}"
        )
    if request.view not in _VIEWS:
        raise InputError("view", f"{request.view} is no view known here")
    traversed = request.HasField("traversal")
    if not request.moves and not traversed:
        raise InputError("moves", "are none; name a direction, or give a traversal")
    if len(request.moves) > _MOST_MOVES:
        raise InputError("moves", f"are {len(request.moves)}, at most {_MOST_MOVES} are done")
    animation = animation_from(request)
    if animation is not None and not traversed:
        raise InputError("animation", "is of one picture; give a traversal")
    count_from(len(request.faces), field="faces", most=max_images)
    picture_format = PictureFormat() if animation else format_from(request.format)
    moves = _moves_from(request, family)
    name, path = _path_from(request, family, max_images) if traversed else ("", ())
    return EditOrder(
        moves=moves,
        traversed=name,
        path=path,
        crop=crop_from(request.crop, family),
        view=_VIEWS[request.view],
        picture_format=picture_format,
        animation=animation,
        max_bytes=max_bytes,
    )


def sources_from(request: pb.EditRequest, family: Family) -> list[Source]:
    """Read the faces.

    Raises:
        InputError: One is missing or wrong, or has no photo to keep. Never right.
    """
    sources = []
    for index, face in enumerate(request.faces):
        source = source_from(face, family, f"faces[{index}]")
        if request.view in (pb.EDIT_VIEW_PHOTO, pb.EDIT_VIEW_CROP) and not isinstance(
            source, Upload
        ):
            raise InputError(
                f"faces[{index}]",
                f"is no picture, {pb.EditView.Name(request.view)} needs one; leave the view out, "
                "or ask for EDIT_VIEW_DECODED",
            )
        sources.append(source)
    return sources


def face_message(face: EditedFace, family: Family, *, animated: bool) -> pb.EditedFace:
    """Write what became of a face."""
    pictures = [_image_message(picture) for picture in face.pictures]
    (original,) = latent_messages(face.original[None], family)
    return pb.EditedFace(
        images=() if animated else pictures,
        latents=latent_messages(face.latents, family),
        animation=pictures[0] if animated else None,
        original=original,
    )


def _with_directions(families: Sequence[Family]) -> list[str]:
    return sorted({family.name for family in families if family.directions is not None})


def _moves_from(request: pb.EditRequest, family: Family) -> dict[str, float]:
    """Read how far to move along which directions."""
    moves: dict[str, float] = {}
    for index, move in enumerate(request.moves):
        name = _direction_from(move.direction, family, f"moves[{index}].direction")
        strength = move.strength if move.HasField("strength") else 1.0
        moves[name] = moves.get(name, 0.0) + _strength_from(strength, f"moves[{index}].strength")
    return moves


def _path_from(
    request: pb.EditRequest, family: Family, max_images: int
) -> tuple[str, tuple[float, ...]]:
    """Read the direction of a traversal, and its strengths."""
    traversal, face_count = request.traversal, len(request.faces)
    name = _direction_from(traversal.direction, family, "traversal.direction")
    count = count_from(traversal.count, field="traversal.count", least=2, most=max_images)
    if count * face_count > max_images:
        raise InputError(
            "traversal.count",
            f"is {count}, with {face_count} faces {count * face_count} pictures, above the limit "
            f"of {max_images} (--max-images)",
        )
    start = traversal.start if traversal.HasField("start") else _START
    end = traversal.end if traversal.HasField("end") else _END
    _strength_from(start, "traversal.start")
    _strength_from(end, "traversal.end")
    return name, tuple(np.linspace(start, end, count, dtype=np.float32).tolist())


def _direction_from(name: str, family: Family, field: str) -> str:
    assert family.directions is not None
    if not name:
        raise InputError(field, "is empty; name the direction")
    if name not in family.directions.names:
        raise unknown_name(field, name, family=family, known=family.directions.names)
    return name


def _strength_from(strength: float, field: str) -> float:
    if not (math.isfinite(strength) and abs(strength) <= _MOST_STRENGTH):
        raise InputError(
            field, f"is {strength:g}, must be -{_MOST_STRENGTH:g} to {_MOST_STRENGTH:g}"
        )
    return strength


def _image_message(picture: Picture) -> image_pb2.Image:
    height_px, width_px, channel_count = picture.shape
    return image_pb2.Image(
        data=picture.file,
        mime_type=picture.mime_type,
        height_px=height_px,
        width_px=width_px,
        channel_count=channel_count,
    )

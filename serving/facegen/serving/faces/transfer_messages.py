"""Between the messages of Transfer and our own types; the request is checked here."""

import math
from collections.abc import Iterable, Sequence

from facegen.serving.errors import CapabilityError, InputError
from facegen.serving.faces.convert import expression_from, format_from
from facegen.serving.faces.family import Family
from facegen.serving.faces.finding import MOST_FACES, AlignedFace
from facegen.serving.faces.transfer import Order, Target, Transferred, View
from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2

__all__ = ["detected_from", "max_faces_from", "order_from", "photo_message", "transfer_family"]

_MOST_TARGETS = 32
_MOST_STRENGTH = 1.5
_DEFAULT_FACES = 8
_VIEWS: dict[int, View] = {
    pb.TRANSFER_VIEW_UNSPECIFIED: "photo",
    pb.TRANSFER_VIEW_PHOTO: "photo",
    pb.TRANSFER_VIEW_CROP: "crop",
    pb.TRANSFER_VIEW_SHEET: "sheet",
}


def transfer_family(families: Sequence[Family], *, default: str) -> str:
    """Name the family of transfers that name none.

    Args:
        families: Those served.
        default: The family of other requests that name none.

    Raises:
        CapabilityError: None of them has expressions.
    """
    names = _with_expressions(families)
    if not names:
        raise CapabilityError(
            "no family that is served here has expressions",
            "serve one, for example fer-expressions",
        )
    return default if default in names else names[0]


def order_from(
    request: pb.TransferRequest, family: Family, families: Sequence[Family], *, max_bytes: int
) -> Order:
    """Read what a request wants of its photos.

    Args:
        request: The request.
        family: The one that it addresses.
        families: Those served, to name one that can.
        max_bytes: The most that the coded pictures may have together.

    Raises:
        CapabilityError: The family has no expressions. Right with another family.
        InputError: A target, the view or the format is wrong. Never right.
    """
    if family.expressions is None:
        names = ", ".join(_with_expressions(families)) or "none is served here"
        raise CapabilityError(
            f'family "{family.name}" has no expressions', f"address one that has: {names}"
        )
    if request.view not in _VIEWS:
        raise InputError("view", f"{request.view} is no view known here")
    if len(request.targets) > _MOST_TARGETS:
        raise InputError("targets", f"are {len(request.targets)}, at most {_MOST_TARGETS} are done")
    targets = tuple(
        _target_from(target, family, f"targets[{index}]")
        for index, target in enumerate(request.targets)
    )
    return Order(
        targets=targets or tuple(Target(name) for name in family.expressions.supported),
        view=_VIEWS[request.view],
        picture_format=format_from(request.format),
        max_bytes=max_bytes,
    )


def detected_from(finding: pb.FaceFinding.ValueType) -> bool:
    """Read whether a detector looks for the faces.

    Raises:
        InputError: An unknown way. Never right.
    """
    if finding not in pb.FaceFinding.values():
        raise InputError("finding", f"{finding} is no way known here")
    return finding != pb.FACE_FINDING_CROPPED


def max_faces_from(request: pb.TransferRequest) -> int:
    """Read the most faces of a photo.

    Raises:
        InputError: Out of range. Never right.
    """
    count = request.max_faces if request.HasField("max_faces") else _DEFAULT_FACES
    if not 1 <= count <= MOST_FACES:
        raise InputError("max_faces", f"is {count}, must be 1 to {MOST_FACES}")
    return count


def photo_message(
    pictures: Iterable[Transferred], faces: Iterable[AlignedFace], mime_type: str
) -> pb.TransferredPhoto:
    """Write what became of one photo."""
    return pb.TransferredPhoto(
        images=[_image_message(picture, mime_type) for picture in pictures],
        faces=[_face_message(face) for face in faces],
    )


def _with_expressions(families: Sequence[Family]) -> list[str]:
    return sorted({family.name for family in families if family.expressions is not None})


def _target_from(target: pb.ExpressionTarget, family: Family, field: str) -> Target:
    if not target.expression:
        raise InputError(f"{field}.expression", "is empty; name the expression")
    expression = expression_from(target.expression, family, field=f"{field}.expression")
    strength = target.strength if target.HasField("strength") else 1.0
    if not (math.isfinite(strength) and 0 <= strength <= _MOST_STRENGTH):
        raise InputError(f"{field}.strength", f"is {strength:g}, must be 0 to {_MOST_STRENGTH:g}")
    return Target(expression, strength)


def _image_message(picture: Transferred, mime_type: str) -> pb.TransferredImage:
    height_px, width_px, channel_count = picture.shape
    return pb.TransferredImage(
        expression=picture.target.expression if picture.target else "",
        strength=picture.target.strength if picture.target else 0.0,
        face_index=picture.face,
        image=image_pb2.Image(
            data=picture.file,
            mime_type=mime_type,
            height_px=height_px,
            width_px=width_px,
            channel_count=channel_count,
        ),
    )


def _face_message(face: AlignedFace) -> pb.FoundFace:
    return pb.FoundFace(
        left_px=face.box.left_px,
        top_px=face.box.top_px,
        right_px=face.box.right_px,
        bottom_px=face.box.bottom_px,
        points=[pb.Point(x_px=x, y_px=y) for x, y in face.points_px.tolist()],
        score=face.box.score,
    )

"""The latents of faces that a request gives as pictures, latents or draws from a prior."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from facegen.serving.call_context import CallContext
from facegen.serving.errors import InputError
from facegen.serving.faces.convert import drawn_from, latent_from, upload_from
from facegen.serving.faces.family import Family
from facegen.serving.faces.latent_family import LatentFamily
from facegen.serving.faces.latent_pipelines import Draw, LatentPipelines
from facegen.serving.faces.pipelines import Pipelines
from facegen.serving.imaging import Upload
from facegen.v1 import face_service_pb2 as pb

__all__ = ["Source", "joined_latents", "latents_of", "source_from", "uploads_of"]

AnyFamily = TypeVar("AnyFamily", bound=LatentFamily)
Source = Upload | NDArray[np.float32] | Draw
"""A picture not decoded yet, a latent (Z,), or one face of a seed."""


def source_from(message: pb.FaceSource | pb.Endpoint, family: Family, field: str) -> Source:
    """Read which face is meant.

    Args:
        message: The message.
        family: The family addressed.
        field: The message's field, for example `faces[3]`.

    Raises:
        InputError: None is given, or it is described wrongly. Never right.
        LatentSizeError: A latent has too few or many values. Never right.
    """
    match message.WhichOneof("face"):
        case "image":
            return upload_from(message.image, f"{field}.image")
        case "latent":
            return latent_from(message.latent, family, f"{field}.latent")
        case "drawn":
            return drawn_from(message.drawn, family, f"{field}.drawn")
        case _:
            raise InputError(field, "is missing; give an image, a latent or a face of a seed")


def uploads_of(sources: Sequence[Source]) -> list[Upload]:
    """Give the pictures among faces, in their order."""
    return [source for source in sources if isinstance(source, Upload)]


def latents_of(
    pipelines: Pipelines,
    family: Family,
    sources: Sequence[Source],
    views: NDArray[np.uint8] | None,
    *,
    context: CallContext,
) -> NDArray[np.float32]:
    """Find the latents of faces; pictures are encoded together, and draws of one prior drawn.

    Args:
        pipelines: Run the models.
        family: Whose latents.
        sources: At least one.
        views: What the model sees of the pictures among them, (P, H, W, C); None: there are none.
        context: Of the call.

    Returns:
        (B, Z), one for each face; of a picture the mean of its posterior.
    """
    encoded = None if views is None else pipelines.encode(family, views, context=context).mu
    return joined_latents(pipelines, family, sources, encoded, context=context)


def joined_latents(
    pipelines: LatentPipelines[AnyFamily],
    family: AnyFamily,
    sources: Sequence[object],
    encoded: NDArray[np.float32] | None,
    *,
    context: CallContext,
) -> NDArray[np.float32]:
    """Put the latents of faces together; draws of one prior are drawn together.

    Args:
        pipelines: Run the models.
        family: Whose latents.
        sources: Latents (Z,), draws of one face, and uploads, which are all else.
        encoded: The latents of the uploads among them, (P, Z); None: there are none.
        context: Of the call.

    Returns:
        (B, Z), one for each face.
    """
    latents = np.empty((len(sources), family.latent_size), np.float32)
    uploads: list[int] = []
    draws: dict[str, list[int]] = defaultdict(list)
    for row, source in enumerate(sources):
        if isinstance(source, Draw):
            draws[source.prior].append(row)
        elif isinstance(source, np.ndarray):
            latents[row] = source
        else:
            uploads.append(row)
    if encoded is not None:
        latents[uploads] = encoded
    for rows in draws.values():
        wanted = [source for source in (sources[row] for row in rows) if isinstance(source, Draw)]
        latents[rows] = pipelines.draw_latents(family, wanted, context=context)
    return latents

"""Families of pictures: the encoder, decoders, priors and directions that share a latent space."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facegen.serving.engine import ModelInfo
from facegen.serving.faces.directions import Directions, direction_names, directions_of
from facegen.serving.faces.expressions import ALIGNER_SIZE_PX, CELLS, Expressions, expressions_of
from facegen.serving.faces.grouping import group, models_by_role
from facegen.serving.faces.latent_family import (
    LatentFamily,
    RoleTensors,
    Tensor,
    check_tensors,
    find_family,
    latent_facts,
    only,
    prior_tensors,
)
from facegen.serving.faces.model_facts import (
    check_equal,
    crop_fraction_of,
    face_frame_of,
    image_size_of,
    latent_size_of,
    parameter,
)

__all__ = ["Family", "default_family", "find_family", "group_families"]

_EXPRESSION = "expression"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family(LatentFamily):
    """One version of a family of models of pictures.

    Attributes:
        height_px: Height of its pictures.
        width_px: Width of its pictures.
        channel_count: Channels of its pictures: 1 or 3.
        crop_fraction: Side of the central square of a data-set picture that the models see, as a
            fraction of the picture's shorter side; above 0, at most 1.
        expressions: How it gives faces other expressions; None for the other kinds.
        directions: The directions along which it moves faces; None if it has none.
        face_frame: Where a detector's box lies in a square that the models see: x and y of its
            middle and its side, in the square's sides; None if not told.
    """

    height_px: int
    width_px: int
    channel_count: int
    crop_fraction: float
    expressions: Expressions | None = None
    directions: Directions | None = None
    face_frame: tuple[float, float, float] | None = None

    @property
    def graphs(self) -> tuple[str, ...]:
        """The names of its models: encoder, decoders, aligner, priors, directions."""
        own = self.expressions
        middle = (self.decoder,) if own is None else (*own.decoders.values(), own.aligner)
        last = () if self.directions is None else (self.directions.model,)
        return (self.encoder, *middle, *self.priors.values(), *last)


def group_families(models: Sequence[ModelInfo], *, lenient: bool = False) -> tuple[Family, ...]:
    """Group models of pictures by `facegen.family` and version.

    Passed over is, with a warning, a version that lacks an encoder, a decoder, every prior, or a
    prior's or directions' model that an older version has: its models may be loading. A family of
    expressions also needs its aligner, and every decoder that an older version has.

    Args:
        models: What an engine lists.
        lenient: Whether a family whose models do not fit together is left out, with a warning,
            instead of an error.

    Returns:
        The complete families by name, versions rising.

    Raises:
        FamilyError: A parameter or tensor is missing or wrong, or two models contradict each other.
    """
    return group(models, _family, of_meshes=False, lenient=lenient)


def default_family(families: Sequence[Family]) -> str:
    """Name the family of requests that name none: the first VAE, made for drawing; else the first.

    Returns:
        Its name; empty if there is none.
    """
    names = sorted((family.kind != "vae", family.name) for family in families)
    return names[0][1] if names else ""


def _family(name: str, models: list[ModelInfo], older: set[str]) -> Family | None:
    """Gather a version, if it is complete; `older` are models that older ones have, added to."""
    wanted, kept = ["encoder", "decoder", "prior"], ["prior", "directions"]
    if models[0].parameters.get("facegen.kind") == _EXPRESSION:
        wanted, kept = [*wanted, "aligner"], [*kept, "decoder"]
    by_role = models_by_role(name, models, older, wanted=wanted, kept=kept)
    if by_role is None:
        return None
    for key in ("facegen.kind", "facegen.latent_size", "facegen.image_size"):
        check_equal(name, models, key)
    encoder = only(name, by_role["encoder"])
    expressions = None
    if parameter(name, encoder, "facegen.kind") == _EXPRESSION:
        aligner = only(name, by_role["aligner"])
        expressions = expressions_of(
            name, encoder=encoder, decoders=by_role["decoder"], aligner=aligner
        )
        first = expressions.decoders[expressions.default]
        decoder = next(model for model in by_role["decoder"] if model.name == first)
    else:
        decoder = only(name, by_role["decoder"])
    height_px, width_px, channel_count = image_size_of(name, decoder)
    movers = by_role.get("directions")
    directions = directions_of(name, only(name, movers)) if movers else None
    for model in models:
        check_tensors(name, model, _tensors(name, model))
    return Family(
        **latent_facts(name, encoder=encoder, decoder=decoder, priors=by_role["prior"]),
        height_px=height_px,
        width_px=width_px,
        channel_count=channel_count,
        crop_fraction=crop_fraction_of(name, decoder),
        expressions=expressions,
        directions=directions,
        face_frame=face_frame_of(name, decoder),
    )


def _tensors(family: str, model: ModelInfo) -> dict[str, RoleTensors]:
    """Say which inputs and outputs the models of a family have, by their roles."""
    latent: Tensor = ((latent_size_of(family, model),), np.float32)
    image: Tensor = (image_size_of(family, model), np.uint8)
    drawn: dict[str, Tensor] = {"image": image}
    tensors: dict[str, RoleTensors] = {
        "encoder": ({"image": image}, {"mu": latent}),
        "decoder": ({"latent": latent}, drawn),
        "prior": prior_tensors(latent),
    }
    if model.parameters["facegen.role"] == "directions":
        count = len(direction_names(family, model))
        strength: Tensor = ((count,), np.float32)
        tensors["directions"] = ({"latent": latent, "strength": strength}, {"edited": latent})
    if parameter(family, model, "facegen.kind") == _EXPRESSION:
        square: Tensor = ((ALIGNER_SIZE_PX, ALIGNER_SIZE_PX, 1), np.uint8)
        cells = next((t.shape[0] for t in model.outputs if t.name == "mask" and t.shape), CELLS)
        drawn["mask"] = ((cells, cells, 1), np.float32)
        drawn["flow"] = ((cells, cells, 2), np.float32)
        tensors["aligner"] = ({"image": square}, {"points": ((5, 2), np.float32)})
    return tensors

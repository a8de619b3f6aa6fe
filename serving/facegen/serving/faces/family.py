"""Families: the encoder, decoders, priors and directions that share a latent space."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from facegen.serving.engine import ModelInfo, TensorSpec
from facegen.serving.errors import FamilyError, ModelNotFoundError
from facegen.serving.faces.directions import Directions, direction_names, directions_of
from facegen.serving.faces.expressions import ALIGNER_SIZE_PX, CELLS, Expressions, expressions_of
from facegen.serving.faces.model_facts import (
    check_equal,
    crop_fraction_of,
    face_frame_of,
    image_size_of,
    latent_size_of,
    metrics_of,
    parameter,
)

__all__ = ["Family", "default_family", "find_family", "group_families"]

_LOGGER = logging.getLogger(__name__)

# Shape without the batch axis, and dtype.
_Tensor = tuple[tuple[int, ...], DTypeLike]
_EXPRESSION = "expression"


@dataclass(frozen=True, slots=True)
class Family:
    """One version of a family of models.

    Attributes:
        name: Its name, for example `celeba-vae`.
        version: Its version, that of all its models.
        kind: `autoencoder`, `vae` or `expression`.
        encoder: The name of its encoder's model.
        decoder: The name of its decoder's model; of several that of the default expression.
        priors: The names of its priors' models by the priors' names, the default first.
        latent_size: Coordinates of a latent.
        height_px: Height of its pictures.
        width_px: Width of its pictures.
        channel_count: Channels of its pictures: 1 or 3.
        crop_fraction: Side of the central square of a data-set picture that the models see, as a
            fraction of the picture's shorter side; above 0, at most 1.
        dataset: The data set it was trained on; empty if not told.
        data_license: The terms of that data; empty if not told.
        metrics: Measured qualities by name.
        protocol: How they were measured, one sentence.
        commit: The commit that trained it; empty if not told.
        batch_rows: The most rows of one execution of its decoder.
        expressions: How it gives faces other expressions; None for the other kinds.
        directions: The directions along which it moves faces; None if it has none.
        face_frame: Where a detector's box lies in a square that the models see: x and y of its
            middle and its side, in the square's sides; None if not told.
    """

    name: str
    version: str
    kind: str
    encoder: str
    decoder: str
    priors: Mapping[str, str]
    latent_size: int
    height_px: int
    width_px: int
    channel_count: int
    crop_fraction: float
    dataset: str
    data_license: str
    metrics: Mapping[str, float]
    protocol: str
    commit: str
    batch_rows: int
    expressions: Expressions | None = None
    directions: Directions | None = None
    face_frame: tuple[float, float, float] | None = None

    @property
    def default_prior(self) -> str:
        """The prior used where a request names none."""
        return next(iter(self.priors))

    @property
    def graphs(self) -> tuple[str, ...]:
        """The names of its models: encoder, decoders, aligner, priors, directions."""
        own = self.expressions
        middle = (self.decoder,) if own is None else (*own.decoders.values(), own.aligner)
        last = () if self.directions is None else (self.directions.model,)
        return (self.encoder, *middle, *self.priors.values(), *last)


def group_families(models: Sequence[ModelInfo], *, lenient: bool = False) -> tuple[Family, ...]:
    """Group models by `facegen.family` and version.

    Models without `facegen.family` belong to no family and are passed over. So is, with a warning,
    a version that lacks an encoder, a decoder, every prior, or a prior's or directions' model that
    an older version has: its models may be loading. A family of expressions also needs its aligner,
    and every decoder that an older version has.

    Args:
        models: What an engine lists.
        lenient: Whether a family whose models do not fit together is left out, with a warning,
            instead of an error.

    Returns:
        The complete families by name, versions rising.

    Raises:
        FamilyError: A parameter or tensor is missing or wrong, or two models contradict each other.
    """
    groups: dict[tuple[str, int], list[ModelInfo]] = defaultdict(list)
    for model in models:
        name = model.parameters.get("facegen.family", "")
        if name:
            groups[name, int(model.version)].append(model)
    families = []
    older: dict[str, set[str]] = defaultdict(set)
    for name, version in sorted(groups):
        try:
            families.append(_family(name, groups[name, version], older=older[name]))
        except FamilyError as error:
            if not lenient:
                raise
            _LOGGER.warning("family left out version=%s error=%s", version, error)
    return tuple(family for family in families if family is not None)


def default_family(families: Sequence[Family]) -> str:
    """Name the family of requests that name none: the first VAE, made for drawing; else the first.

    Returns:
        Its name; empty if there is none.
    """
    names = sorted((family.kind != "vae", family.name) for family in families)
    return names[0][1] if names else ""


def find_family(families: Sequence[Family], name: str, *, version: str = "") -> Family:
    """Find a family.

    Args:
        families: Where to look.
        name: Its name.
        version: Its version; empty means the newest.

    Raises:
        ModelNotFoundError: It is not there.
    """
    found = [family for family in families if family.name == name]
    if version:
        found = [family for family in found if family.version == version]
    if not found:
        available = [f"{family.name} {family.version}" for family in families]
        raise ModelNotFoundError(name, version, available=available)
    return max(found, key=lambda family: int(family.version))


def _family(name: str, models: list[ModelInfo], *, older: set[str]) -> Family | None:
    """Gather a version, if it is complete; `older` are models that older ones have, added to."""
    by_role: dict[str, list[ModelInfo]] = defaultdict(list)
    for model in models:
        by_role[parameter(name, model, "facegen.role")].append(model)
    if missing := _missing(models, by_role, older):
        _LOGGER.warning(
            "family incomplete family=%s version=%s missing=%s",
            name,
            models[0].version,
            ",".join(missing),
        )
        return None
    for key in ("facegen.kind", "facegen.latent_size", "facegen.image_size"):
        check_equal(name, models, key)
    encoder = _only(name, by_role["encoder"])
    kind = parameter(name, encoder, "facegen.kind")
    expressions = None
    if kind == _EXPRESSION:
        aligner = _only(name, by_role["aligner"])
        expressions = expressions_of(
            name, encoder=encoder, decoders=by_role["decoder"], aligner=aligner
        )
        first = expressions.decoders[expressions.default]
        decoder = next(model for model in by_role["decoder"] if model.name == first)
    else:
        decoder = _only(name, by_role["decoder"])
    height_px, width_px, channel_count = image_size_of(name, decoder)
    movers = by_role.get("directions")
    directions = directions_of(name, _only(name, movers)) if movers else None
    for model in models:
        _check_tensors(name, model)
    return Family(
        name=name,
        version=decoder.version,
        kind=kind,
        encoder=encoder.name,
        decoder=decoder.name,
        priors=_priors(name, by_role["prior"]),
        latent_size=latent_size_of(name, decoder),
        height_px=height_px,
        width_px=width_px,
        channel_count=channel_count,
        crop_fraction=crop_fraction_of(name, decoder),
        dataset=decoder.parameters.get("facegen.dataset", ""),
        data_license=decoder.parameters.get("facegen.data_license", ""),
        metrics=metrics_of(name, decoder),
        protocol=decoder.parameters.get("facegen.protocol", ""),
        commit=decoder.parameters.get("facegen.commit", ""),
        batch_rows=decoder.max_batch_size,
        expressions=expressions,
        directions=directions,
        face_frame=face_frame_of(name, decoder),
    )


def _missing(
    models: Sequence[ModelInfo], by_role: Mapping[str, list[ModelInfo]], older: set[str]
) -> list[str]:
    """Name the roles and models that a version lacks; its own are added to `older`."""
    wanted, kept = ["encoder", "decoder", "prior"], ["prior", "directions"]
    if models[0].parameters.get("facegen.kind") == _EXPRESSION:
        wanted, kept = [*wanted, "aligner"], [*kept, "decoder"]
    there = {model.name for role in kept for model in by_role.get(role, ())}
    missing = [role for role in wanted if role not in by_role]
    missing += sorted(older - there)
    older |= there
    return missing


def _only(family: str, models: list[ModelInfo]) -> ModelInfo:
    if len(models) > 1:
        names = ", ".join(model.name for model in models)
        role = models[0].parameters["facegen.role"]
        raise FamilyError(family, f'{names} all have the role "{role}"; one may')
    return models[0]


def _check_tensors(family: str, model: ModelInfo) -> None:
    """Check what the pipelines rely on."""
    role = model.parameters["facegen.role"]
    tensors = _tensors(family, model)
    if role not in tensors:
        return
    if model.max_batch_size < 1:
        raise FamilyError(family, f'"{model.name}" has max_batch_size 0, its rows cannot be joined')
    for wanted, there in zip(tensors[role], (model.inputs, model.outputs), strict=True):
        for name, (shape, dtype) in wanted.items():
            if not any(_fits(tensor, name, shape, dtype) for tensor in there):
                raise FamilyError(
                    family,
                    f'"{model.name}" has no tensor "{name}" of {np.dtype(dtype)} {list(shape)}',
                )


def _tensors(
    family: str, model: ModelInfo
) -> dict[str, tuple[dict[str, _Tensor], dict[str, _Tensor]]]:
    """Say which inputs and outputs the models of a family have, by their roles."""
    latent: _Tensor = ((latent_size_of(family, model),), np.float32)
    image: _Tensor = (image_size_of(family, model), np.uint8)
    noise: dict[str, _Tensor] = {"noise": latent, "uniform": ((1,), np.float32)}
    tensors: dict[str, tuple[dict[str, _Tensor], dict[str, _Tensor]]] = {
        "encoder": ({"image": image}, {"mu": latent}),
        "decoder": ({"latent": latent}, {"image": image}),
        "prior": (noise, {"latent": latent}),
    }
    if model.parameters["facegen.role"] == "directions":
        count = len(direction_names(family, model))
        strength: _Tensor = ((count,), np.float32)
        tensors["directions"] = ({"latent": latent, "strength": strength}, {"edited": latent})
    if parameter(family, model, "facegen.kind") == _EXPRESSION:
        square: _Tensor = ((ALIGNER_SIZE_PX, ALIGNER_SIZE_PX, 1), np.uint8)
        cells = next((t.shape[0] for t in model.outputs if t.name == "mask" and t.shape), CELLS)
        tensors["decoder"][1]["mask"] = ((cells, cells, 1), np.float32)
        tensors["decoder"][1]["flow"] = ((cells, cells, 2), np.float32)
        tensors["aligner"] = ({"image": square}, {"points": ((5, 2), np.float32)})
    return tensors


def _fits(tensor: TensorSpec, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> bool:
    """Tell whether a tensor is the one wanted; where its axis is -1, any length goes."""
    return (
        tensor.name == name
        and tensor.dtype == dtype
        and len(tensor.shape) == len(shape)
        and all(axis in (-1, size) for axis, size in zip(tensor.shape, shape, strict=True))
    )


def _priors(family: str, models: list[ModelInfo]) -> dict[str, str]:
    priors: dict[str, str] = {}
    defaults = []
    for model in sorted(models, key=lambda model: model.name):
        name = parameter(family, model, "facegen.prior")
        if name in priors:
            raise FamilyError(
                family, f'"{priors[name]}" and "{model.name}" are both prior "{name}"'
            )
        priors[name] = model.name
        if model.parameters.get("facegen.default_prior") == "true":
            defaults.append(name)
    if len(defaults) > 1 or (len(priors) > 1 and not defaults):
        said = " and ".join(defaults) or "none"
        raise FamilyError(
            family,
            f"of its priors {', '.join(priors)} one must have "
            f'"facegen.default_prior" true; {said} has',
        )
    default = defaults[0] if defaults else next(iter(priors))
    return {default: priors.pop(default), **priors}

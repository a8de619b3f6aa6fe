"""Families: the encoder, decoder and priors that share a latent space."""

import json
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from facegen.serving.engine import ModelInfo, TensorSpec
from facegen.serving.errors import FamilyError, ModelNotFoundError

__all__ = ["Family", "default_family", "find_family", "group_families"]

_LOGGER = logging.getLogger(__name__)

# Shape without the batch axis, and dtype.
_Tensor = tuple[tuple[int, ...], DTypeLike]


@dataclass(frozen=True, slots=True)
class Family:
    """One version of a family of models.

    Attributes:
        name: Its name, for example `celeba-vae`.
        version: Its version, that of all its models.
        kind: `autoencoder` or `vae`.
        encoder: The name of its encoder's model.
        decoder: The name of its decoder's model.
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

    @property
    def default_prior(self) -> str:
        """The prior used where a request names none."""
        return next(iter(self.priors))

    @property
    def graphs(self) -> tuple[str, ...]:
        """The names of its models in the repository: encoder, decoder, priors."""
        return (self.encoder, self.decoder, *self.priors.values())


def group_families(models: Sequence[ModelInfo], *, lenient: bool = False) -> tuple[Family, ...]:
    """Group models by `facegen.family` and version.

    Models without `facegen.family` belong to no family and are passed over. So is, with a warning,
    a version that lacks an encoder, a decoder, every prior, or a prior's model that an older
    version has: its models may be loading.

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
    priors: dict[str, set[str]] = defaultdict(set)
    for name, version in sorted(groups):
        try:
            families.append(_family(name, groups[name, version], priors=priors[name]))
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


def _family(name: str, models: list[ModelInfo], *, priors: set[str]) -> Family | None:
    """Gather a version, if it is complete; `priors` are the models of older ones, added to."""
    by_role: dict[str, list[ModelInfo]] = defaultdict(list)
    for model in models:
        by_role[_parameter(name, model, "facegen.role")].append(model)
    missing = [role for role in ("encoder", "decoder", "prior") if role not in by_role]
    there = {model.name for model in by_role["prior"]}
    missing += sorted(priors - there)
    priors |= there
    if missing:
        _LOGGER.warning(
            "family incomplete family=%s version=%s missing=%s",
            name,
            models[0].version,
            ",".join(missing),
        )
        return None
    encoder = _only(name, by_role["encoder"])
    decoder = _only(name, by_role["decoder"])
    for key in ("facegen.kind", "facegen.latent_size", "facegen.image_size"):
        _check_equal(name, models, key)
    height_px, width_px, channel_count = _image_size(name, decoder)
    for model in models:
        _check_tensors(name, model)
    return Family(
        name=name,
        version=decoder.version,
        kind=_parameter(name, decoder, "facegen.kind"),
        encoder=encoder.name,
        decoder=decoder.name,
        priors=_priors(name, by_role["prior"]),
        latent_size=_latent_size(name, decoder),
        height_px=height_px,
        width_px=width_px,
        channel_count=channel_count,
        crop_fraction=_crop_fraction(name, decoder),
        dataset=decoder.parameters.get("facegen.dataset", ""),
        data_license=decoder.parameters.get("facegen.data_license", ""),
        metrics=_metrics(name, decoder),
        protocol=decoder.parameters.get("facegen.protocol", ""),
        commit=decoder.parameters.get("facegen.commit", ""),
        batch_rows=decoder.max_batch_size,
    )


def _parameter(family: str, model: ModelInfo, key: str) -> str:
    value = model.parameters.get(key, "")
    if not value:
        raise FamilyError(family, f'model "{model.name}" has no parameter "{key}"')
    return value


def _only(family: str, models: list[ModelInfo]) -> ModelInfo:
    if len(models) > 1:
        names = ", ".join(model.name for model in models)
        role = models[0].parameters["facegen.role"]
        raise FamilyError(family, f'{names} all have the role "{role}"; one may')
    return models[0]


def _check_equal(family: str, models: list[ModelInfo], key: str) -> None:
    values = {model.name: _parameter(family, model, key) for model in models}
    if len(set(values.values())) > 1:
        said = ", ".join(f"{name} says {value}" for name, value in values.items())
        raise FamilyError(family, f'its models contradict each other in "{key}": {said}')


def _check_tensors(family: str, model: ModelInfo) -> None:
    """Check what the pipelines rely on."""
    latent = ((_latent_size(family, model),), np.float32)
    image = (_image_size(family, model), np.uint8)
    tensors: dict[str, tuple[dict[str, _Tensor], dict[str, _Tensor]]] = {
        "encoder": ({"image": image}, {"mu": latent}),
        "decoder": ({"latent": latent}, {"image": image}),
        "prior": ({"noise": latent, "uniform": ((1,), np.float32)}, {"latent": latent}),
    }
    if model.parameters["facegen.role"] not in tensors:
        return
    if model.max_batch_size < 1:
        raise FamilyError(family, f'"{model.name}" has max_batch_size 0, its rows cannot be joined')
    inputs, outputs = tensors[model.parameters["facegen.role"]]
    for wanted, there in ((inputs, model.inputs), (outputs, model.outputs)):
        for name, (shape, dtype) in wanted.items():
            if not any(_fits(tensor, name, shape, dtype) for tensor in there):
                raise FamilyError(
                    family,
                    f'"{model.name}" has no tensor "{name}" of {np.dtype(dtype)} {list(shape)}',
                )


def _fits(tensor: TensorSpec, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> bool:
    """Tell whether a tensor is the one wanted; where its axis is -1, any length goes."""
    return (
        tensor.name == name
        and tensor.dtype == dtype
        and len(tensor.shape) == len(shape)
        and all(axis in (-1, size) for axis, size in zip(tensor.shape, shape, strict=True))
    )


def _latent_size(family: str, model: ModelInfo) -> int:
    value = _parameter(family, model, "facegen.latent_size")
    if not (value.isascii() and value.isdecimal() and int(value) > 0):
        raise FamilyError(family, f'"facegen.latent_size" is "{value}", no positive number')
    return int(value)


def _image_size(family: str, model: ModelInfo) -> tuple[int, int, int]:
    value = _parameter(family, model, "facegen.image_size")
    parts = value.split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise FamilyError(family, f'"facegen.image_size" is "{value}", not like "64x64x3"')
    height_px, width_px, channel_count = (int(part) for part in parts)
    if not height_px or not width_px or channel_count not in (1, 3):
        raise FamilyError(family, f'"facegen.image_size" is "{value}": an empty or odd picture')
    return height_px, width_px, channel_count


def _crop_fraction(family: str, model: ModelInfo) -> float:
    value = model.parameters.get("facegen.crop", "1")
    try:
        fraction = float(value)
    except ValueError:
        fraction = math.nan
    if not 0 < fraction <= 1:
        raise FamilyError(family, f'"facegen.crop" is "{value}", no fraction above 0 and at most 1')
    return fraction


def _metrics(family: str, model: ModelInfo) -> dict[str, float]:
    value = model.parameters.get("facegen.metrics", "{}")
    try:
        metrics = json.loads(value)
        return {str(name): float(number) for name, number in metrics.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise FamilyError(
            family, f'"facegen.metrics" of "{model.name}" is no JSON object of numbers: {error}'
        ) from error


def _priors(family: str, models: list[ModelInfo]) -> dict[str, str]:
    priors: dict[str, str] = {}
    defaults = []
    for model in sorted(models, key=lambda model: model.name):
        name = _parameter(family, model, "facegen.prior")
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

"""What families have in common, of pictures or of meshes: models that share a latent space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from facegen.serving.engine import ModelInfo, TensorSpec
from facegen.serving.errors import FamilyError, ModelNotFoundError
from facegen.serving.faces.model_facts import latent_size_of, metrics_of, parameter

__all__ = [
    "LatentFacts",
    "LatentFamily",
    "RoleTensors",
    "Tensor",
    "check_tensors",
    "find_family",
    "latent_facts",
    "only",
    "prior_tensors",
]

# Shape without the batch axis, and dtype.
Tensor = tuple[tuple[int, ...], DTypeLike]
# Inputs and outputs by name.
RoleTensors = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFamily:
    """One version of a family of models that share a latent space.

    Attributes:
        name: Its name, for example `celeba-vae`.
        version: Its version, that of all its models.
        kind: `autoencoder`, `vae`, `expression` or `mesh`.
        encoder: The name of its encoder's model.
        decoder: The name of its decoder's model; of several that of the default expression.
        priors: The names of its priors' models by the priors' names, the default first.
        latent_size: Coordinates of a latent.
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
        """The names of its models."""
        return (self.encoder, self.decoder, *self.priors.values())


AnyFamily = TypeVar("AnyFamily", bound=LatentFamily)


class LatentFacts(TypedDict):
    """The attributes of `LatentFamily`."""

    name: str
    version: str
    kind: str
    encoder: str
    decoder: str
    priors: Mapping[str, str]
    latent_size: int
    dataset: str
    data_license: str
    metrics: Mapping[str, float]
    protocol: str
    commit: str
    batch_rows: int


def latent_facts(
    name: str, *, encoder: ModelInfo, decoder: ModelInfo, priors: Sequence[ModelInfo]
) -> LatentFacts:
    """Read what all families have from the parameters of their models.

    Args:
        name: The family's name.
        encoder: Its encoder.
        decoder: Its decoder, which says what was measured.
        priors: Its priors, at least one.

    Raises:
        FamilyError: A parameter is missing or wrong.
    """
    said = decoder.parameters
    return {
        "name": name,
        "version": decoder.version,
        "kind": parameter(name, decoder, "facegen.kind"),
        "encoder": encoder.name,
        "decoder": decoder.name,
        "priors": _priors(name, priors),
        "latent_size": latent_size_of(name, decoder),
        "dataset": said.get("facegen.dataset", ""),
        "data_license": said.get("facegen.data_license", ""),
        "metrics": metrics_of(name, decoder),
        "protocol": said.get("facegen.protocol", ""),
        "commit": said.get("facegen.commit", ""),
        "batch_rows": decoder.max_batch_size,
    }


def find_family(families: Sequence[AnyFamily], name: str, *, version: str = "") -> AnyFamily:
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


def only(family: str, models: Sequence[ModelInfo]) -> ModelInfo:
    """Give the one model that has a role.

    Raises:
        FamilyError: There are several.
    """
    if len(models) > 1:
        names = ", ".join(model.name for model in models)
        role = models[0].parameters["facegen.role"]
        raise FamilyError(family, f'{names} all have the role "{role}"; one may')
    return models[0]


def prior_tensors(latent: Tensor) -> RoleTensors:
    """Say which inputs and outputs a prior has."""
    return {"noise": latent, "uniform": ((1,), np.float32)}, {"latent": latent}


def check_tensors(family: str, model: ModelInfo, wanted: Mapping[str, RoleTensors]) -> None:
    """Check what the pipelines rely on.

    Args:
        family: The model's family.
        model: A model of it.
        wanted: The inputs and outputs of its models by role; models of other roles pass.

    Raises:
        FamilyError: It lacks one, or its rows cannot be joined.
    """
    tensors = wanted.get(model.parameters["facegen.role"])
    if tensors is None:
        return
    if model.max_batch_size < 1:
        raise FamilyError(family, f'"{model.name}" has max_batch_size 0, its rows cannot be joined')
    for some, there in zip(tensors, (model.inputs, model.outputs), strict=True):
        for name, (shape, dtype) in some.items():
            if not any(_fits(tensor, name, shape, dtype) for tensor in there):
                raise FamilyError(
                    family,
                    f'"{model.name}" has no tensor "{name}" of {np.dtype(dtype)} {list(shape)}',
                )


def _fits(tensor: TensorSpec, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> bool:
    """Tell whether a tensor is the one wanted; where its axis is -1, any length goes."""
    there: np.dtype[Any] = tensor.dtype
    return (
        tensor.name == name
        and there == dtype
        and len(tensor.shape) == len(shape)
        and all(axis in (-1, size) for axis, size in zip(tensor.shape, shape, strict=True))
    )


def _priors(family: str, models: Sequence[ModelInfo]) -> dict[str, str]:
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

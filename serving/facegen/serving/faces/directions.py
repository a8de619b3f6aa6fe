"""Directions of a latent space: each moves a face so that one property of it changes."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from facegen.serving.engine import ModelInfo
from facegen.serving.errors import FamilyError
from facegen.serving.faces.model_facts import parameter

__all__ = ["Directions", "direction_names", "directions_of"]


@dataclass(frozen=True, slots=True)
class Directions:
    """The directions of a family.

    Attributes:
        model: The name of the model that moves latents: edited = latent + strength @ directions.
        names: The directions' names, in the order of its strengths; at least one.
        effects: What a move along a direction was measured to change, by name; not of all.
    """

    model: str
    names: tuple[str, ...]
    effects: Mapping[str, float]


def directions_of(family: str, model: ModelInfo) -> Directions:
    """Read the directions that a model moves along.

    Raises:
        FamilyError: A parameter is missing or wrong.
    """
    names = direction_names(family, model)
    return Directions(model.name, names, _effects(family, model, names))


def direction_names(family: str, model: ModelInfo) -> tuple[str, ...]:
    """Read the names of a model's directions.

    Raises:
        FamilyError: There are none, one is empty, or two are the same.
    """
    value = parameter(family, model, "facegen.directions")
    names = tuple(name.strip() for name in value.split(","))
    if not all(names):
        raise FamilyError(family, f'"facegen.directions" of "{model.name}" has an empty name')
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FamilyError(
            family, f'"facegen.directions" of "{model.name}" names {", ".join(twice)} twice'
        )
    return names


def _effects(family: str, model: ModelInfo, names: tuple[str, ...]) -> dict[str, float]:
    value = model.parameters.get("facegen.direction_effects") or "{}"
    try:
        effects = {str(name): float(effect) for name, effect in json.loads(value).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise FamilyError(
            family,
            f'"facegen.direction_effects" of "{model.name}" is no JSON object of numbers: {error}',
        ) from error
    wrong = [n for n, effect in effects.items() if n not in names or not math.isfinite(effect)]
    if wrong:
        raise FamilyError(
            family,
            f'"facegen.direction_effects" of "{model.name}": {", ".join(wrong)} is no direction '
            "of its, or not finite",
        )
    return effects

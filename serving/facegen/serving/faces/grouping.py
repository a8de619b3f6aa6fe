"""Groups an engine's models into families: by their name and version, when they are complete."""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from facegen.serving.engine import ModelInfo
from facegen.serving.errors import FamilyError
from facegen.serving.faces.model_facts import parameter

__all__ = ["Gather", "group", "is_of_meshes", "models_by_role"]

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")
Gather = Callable[[str, list[ModelInfo], set[str]], T | None]
"""Makes a family of its name, the models of one version, and the names of models that older
versions have, to which it adds; None: the version is not complete."""


def group(
    models: Sequence[ModelInfo], gather: Gather[T], *, of_meshes: bool, lenient: bool
) -> tuple[T, ...]:
    """Group models by `facegen.family` and version.

    Models without `facegen.family` belong to no family and are passed over.

    Args:
        models: What an engine lists.
        gather: Makes a family of the models of one version.
        of_meshes: Whether families of meshes are wanted, or the others.
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
        if is_of_meshes(groups[name, version]) is not of_meshes:
            continue
        try:
            families.append(gather(name, groups[name, version], older[name]))
        except FamilyError as error:
            if not lenient:
                raise
            _LOGGER.warning("family left out version=%s error=%s", version, error)
    return tuple(family for family in families if family is not None)


def is_of_meshes(models: Sequence[ModelInfo]) -> bool:
    """Tell whether models of one family make meshes rather than pictures."""
    return any(model.parameters.get("facegen.kind") == "mesh" for model in models)


def models_by_role(
    family: str,
    models: Sequence[ModelInfo],
    older: set[str],
    *,
    wanted: Sequence[str],
    kept: Sequence[str],
) -> Mapping[str, list[ModelInfo]] | None:
    """Sort the models of a version by their roles; None, with a warning, if some are missing.

    Those may be loading: a new version is complete when it has what the older ones have.

    Args:
        family: The family's name.
        models: Those of one version.
        older: The models that older versions have; those of this one are added.
        wanted: The roles that must be there.
        kept: The roles of which a newer version must have every model of the older ones.

    Raises:
        FamilyError: A model says no role.
    """
    by_role: dict[str, list[ModelInfo]] = defaultdict(list)
    for model in models:
        by_role[parameter(family, model, "facegen.role")].append(model)
    there = {model.name for role in kept for model in by_role.get(role, ())}
    missing = [role for role in wanted if role not in by_role] + sorted(older - there)
    older |= there
    if not missing:
        return by_role
    _LOGGER.warning(
        "family incomplete family=%s version=%s missing=%s",
        family,
        models[0].version,
        ",".join(missing),
    )
    return None

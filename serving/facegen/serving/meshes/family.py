"""Families of meshes: the encoder, decoder, priors and topology that share a latent space."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facegen.serving.engine import ModelInfo
from facegen.serving.faces.grouping import group, models_by_role
from facegen.serving.faces.latent_family import (
    LatentFamily,
    RoleTensors,
    Tensor,
    check_tensors,
    latent_facts,
    only,
    prior_tensors,
)
from facegen.serving.faces.model_facts import check_equal, latent_size_of, mesh_size_of

__all__ = ["MeshFamily", "default_mesh_family", "group_mesh_families"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshFamily(LatentFamily):
    """One version of a family of models of meshes.

    Attributes:
        topology: The name of the model that gives its triangles and its template.
        vertex_count: Vertices of each of its meshes.
        face_count: Triangles of each of its meshes.
    """

    topology: str
    vertex_count: int
    face_count: int

    @property
    def graphs(self) -> tuple[str, ...]:
        """The names of its models: encoder, decoder, priors, topology."""
        return (self.encoder, self.decoder, *self.priors.values(), self.topology)


def group_mesh_families(
    models: Sequence[ModelInfo], *, lenient: bool = False
) -> tuple[MeshFamily, ...]:
    """Group models of meshes by `facegen.family` and version; see `grouping.group`.

    Passed over is, with a warning, a version that lacks an encoder, a decoder, its topology, every
    prior, or a prior that an older version has: its models may be loading.

    Raises:
        FamilyError: A parameter or tensor is missing or wrong, or two models contradict each other.
    """
    return group(models, _family, of_meshes=True, lenient=lenient)


def default_mesh_family(families: Sequence[MeshFamily]) -> str:
    """Name the family of requests that name none: the first by name; empty if there is none."""
    return min((family.name for family in families), default="")


def _family(name: str, models: list[ModelInfo], older: set[str]) -> MeshFamily | None:
    """Gather a version, if it is complete; `older` are models that older ones have, added to."""
    wanted = ("encoder", "decoder", "prior", "topology")
    by_role = models_by_role(name, models, older, wanted=wanted, kept=("prior",))
    if by_role is None:
        return None
    for key in ("facegen.kind", "facegen.latent_size", "facegen.mesh_size"):
        check_equal(name, models, key)
    decoder = only(name, by_role["decoder"])
    vertex_count, face_count = mesh_size_of(name, decoder)
    for model in models:
        check_tensors(name, model, _tensors(name, model))
    return MeshFamily(
        **latent_facts(
            name,
            encoder=only(name, by_role["encoder"]),
            decoder=decoder,
            priors=by_role["prior"],
        ),
        topology=only(name, by_role["topology"]).name,
        vertex_count=vertex_count,
        face_count=face_count,
    )


def _tensors(family: str, model: ModelInfo) -> dict[str, RoleTensors]:
    """Say which inputs and outputs the models of a family have, by their roles."""
    vertex_count, face_count = mesh_size_of(family, model)
    latent: Tensor = ((latent_size_of(family, model),), np.float32)
    vertices: Tensor = ((vertex_count, 3), np.float32)
    return {
        "encoder": ({"vertices": vertices}, {"mu": latent}),
        "decoder": ({"latent": latent}, {"vertices": vertices}),
        "prior": prior_tensors(latent),
        "topology": (
            {"row": ((1,), np.uint8)},
            {"faces": ((face_count, 3), np.int32), "template": vertices},
        ),
    }

"""What is exported for each graph of a family of meshes, and what PyTorch's answer is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import onnx
import onnxruntime
import torch

from facegen.export.checks import (
    VertexError,
    check_latents,
    check_vertices,
    compare_vertices,
)
from facegen.export.config import GraphRole
from facegen.export.errors import ValueParityError
from facegen.export.mesh_graphs import decoder_graph, encoder_graph, topology_graph
from facegen.export.mesh_writing import MeshLayouts
from facegen.export.plans import LATENT_LIMIT, GraphPlan
from facegen.export.runtime import Array, Rows, run_rows
from facegen.export.storage import Storage
from facegen.training.mesh.hierarchy import Hierarchy
from facegen.training.mesh.latents import decode_meshes
from facegen.training.mesh.model import MeshAutoencoder

__all__ = ["MeshReference", "plan_mesh_decoder", "plan_mesh_encoder", "plan_topology"]

_LIMIT_MM = 5e-4
"""How far encoder and decoder may each move a coordinate: both together 1e-3 mm."""

_PATCH_SIZES = (24, 12)
"""Vertices of a patch; the usual winner first."""


@dataclass(frozen=True, slots=True)
class MeshReference:
    """What PyTorch makes of real meshes.

    Attributes:
        model: In evaluation mode, on the CPU.
        vertices: (N, V, 3) float32 in millimetres.
        outputs: The encoder's outputs by name, (N, Z) float32 each.
        reconstructions: (N, V, 3) in millimetres, from the means.
        layouts: Where vertices may lie in the graphs, by the form's name.
    """

    model: MeshAutoencoder
    vertices: Array
    outputs: Rows
    reconstructions: Array
    layouts: Mapping[str, Callable[[], MeshLayouts]]

    @classmethod
    def of(cls, model: MeshAutoencoder, vertices: Array) -> "MeshReference":
        """Run a model on meshes (N, V, 3) in millimetres."""
        with torch.no_grad():
            posterior = model.encoder(torch.from_numpy(vertices))
        outputs = {
            name: value.numpy() for name, value in posterior._asdict().items() if value is not None
        }
        reconstructions = decode_meshes(model, outputs["mu"])
        return cls(model, vertices, outputs, reconstructions, _layouts(model.hierarchy))


def plan_mesh_encoder(reference: MeshReference, *, storage: Storage) -> GraphPlan:
    """Plan the graph from vertices to posteriors."""
    model, rows = reference.model, {"vertices": reference.vertices}

    def parity(name: str, session: onnxruntime.InferenceSession) -> VertexError:
        outputs = run_rows(session, rows)
        check_latents(name, outputs, reference.outputs, limit=LATENT_LIMIT["float32"])
        moved = decode_meshes(model, outputs["mu"])
        error = compare_vertices(moved, reference.reconstructions)
        return check_vertices(name, error, limit=_LIMIT_MM)

    def form(layouts: Callable[[], MeshLayouts]) -> Callable[[str], onnx.ModelProto]:
        return lambda name: encoder_graph(model.encoder, layouts(), name=name)

    forms = {name: form(layouts) for name, layouts in reference.layouts.items()}
    return GraphPlan(GraphRole("encoder"), forms, rows, parity, storage)


def plan_mesh_decoder(reference: MeshReference, *, storage: Storage) -> GraphPlan:
    """Plan the graph from latents to vertices."""
    model, rows = reference.model, {"latent": reference.outputs["mu"]}

    def parity(name: str, session: onnxruntime.InferenceSession) -> VertexError:
        error = compare_vertices(run_rows(session, rows)["vertices"], reference.reconstructions)
        return check_vertices(name, error, limit=_LIMIT_MM)

    def form(layouts: Callable[[], MeshLayouts]) -> Callable[[str], onnx.ModelProto]:
        return lambda name: decoder_graph(model.decoder, layouts(), name=name)

    forms = {name: form(layouts) for name, layouts in reference.layouts.items()}
    return GraphPlan(GraphRole("decoder"), forms, rows, parity, storage)


def plan_topology(model: MeshAutoencoder) -> GraphPlan:
    """Plan the graph that says triangles and the mean mesh."""
    faces, template = model.hierarchy.faces[0], model.template
    expected = {"faces": faces, "template": template}

    def parity(name: str, session: onnxruntime.InferenceSession) -> None:
        for output, rows_found in run_rows(session, rows).items():
            if not all(np.array_equal(row, expected[output]) for row in rows_found):
                largest = float(np.abs(rows_found - expected[output]).max())
                raise ValueParityError(name, output, difference=largest, limit=0.0)

    rows = {"row": np.zeros((2, 1), np.uint8)}
    return GraphPlan(
        GraphRole("topology"),
        {"plain": lambda name: topology_graph(template, faces, name=name)},
        rows,
        parity,
    )


def _layouts(hierarchy: Hierarchy) -> Mapping[str, Callable[[], MeshLayouts]]:
    """Layouts by name, each made when it is first asked for."""
    patches = {
        f"patches of {size}": cache(partial(MeshLayouts.in_patches, hierarchy, size))
        for size in _PATCH_SIZES
    }
    return {**patches, "plain": cache(partial(MeshLayouts.plain, hierarchy))}

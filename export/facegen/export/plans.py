"""What is exported for each graph of a family, and what PyTorch's answer to it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from facegen.export.checks import (
    LEVEL_LIMIT,
    LevelError,
    VertexError,
    check_latents,
    check_levels,
    compare_levels,
)
from facegen.export.config import GraphRole
from facegen.export.direction_graphs import product_graph, row_graph
from facegen.export.graphs import DecoderGraph, EncoderGraph
from facegen.export.onnx_export import to_onnx
from facegen.export.prior_graphs import mixture_graph, normal_graph
from facegen.export.rewrites import decoder_forms, encoder_forms
from facegen.export.runtime import Array, Rows, run_rows
from facegen.export.storage import Storage
from facegen.training import Autoencoder, MixturePrior
from facegen.training.directions import Directions

__all__ = [
    "LATENT_LIMIT",
    "GraphPlan",
    "Reference",
    "module_exporter",
    "plan_decoder",
    "plan_directions",
    "plan_encoder",
    "plan_priors",
]

Parity = Callable[[str, onnxruntime.InferenceSession], LevelError | VertexError | None]
"""Compares an open graph, given its name, with PyTorch: raises a GraphError beyond the limit."""

LATENT_LIMIT: Mapping[Storage, float] = {"float32": 1e-3, "float16": 3e-2, "int8": 0.1}
"""How far an encoder's outputs may be from PyTorch's, in their standard deviations."""

_RECONSTRUCTION_LIMIT: Mapping[Storage, int] = {
    "float32": LEVEL_LIMIT,
    "float16": LEVEL_LIMIT,
    "int8": 8,
}
"""How far that may move a pixel of the reconstruction, in 8-bit levels."""

_PRIOR_LIMIT: Mapping[Storage, float] = {"float32": 1e-4, "float16": 5e-3}
"""How far a prior's latents may be from what was fitted, in their standard deviations."""


@dataclass(frozen=True, slots=True)
class GraphPlan:
    """One graph to export.

    Attributes:
        role: What it does in its family.
        forms: Builders of graphs that compute the same, given the graph's name; the usual winner
            first, "plain" last.
        rows: Inputs made from real pictures or meshes.
        parity: Compares the open graph with PyTorch.
        storage: How the file keeps large weights.
    """

    role: GraphRole
    forms: Mapping[str, Callable[[str], onnx.ModelProto]]
    rows: Rows
    parity: Parity
    storage: Storage = "float32"


@dataclass(frozen=True, slots=True)
class Reference:
    """What PyTorch makes of real pictures.

    Attributes:
        images: (N, H, W, C) uint8.
        outputs: The encoder's outputs by name, (N, Z) float32 each.
        reconstructions: (N, H, W, C) uint8, from the means.
    """

    images: Array
    outputs: Rows
    reconstructions: Array

    @classmethod
    def of(cls, model: Autoencoder, images: Array) -> "Reference":
        """Run a model on pictures (N, H, W, C) uint8."""
        encode = EncoderGraph(model.encoder)
        with torch.no_grad():
            posterior = encode(torch.from_numpy(images))
            values = posterior if isinstance(posterior, tuple) else (posterior,)
        outputs = dict(zip(("mu", "logvar"), (value.numpy() for value in values), strict=False))
        return cls(images, outputs, _decode(model, outputs["mu"]))


def plan_encoder(model: Autoencoder, reference: Reference, *, storage: Storage) -> GraphPlan:
    """Plan the graph from pictures to posteriors."""

    def parity(name: str, session: onnxruntime.InferenceSession) -> LevelError:
        outputs = run_rows(session, {"image": reference.images})
        check_latents(name, outputs, reference.outputs, limit=LATENT_LIMIT[storage])
        pixels = _decode(model, outputs["mu"])
        error = compare_levels(pixels, reference.reconstructions)
        return check_levels(name, error, limit=_RECONSTRUCTION_LIMIT[storage])

    rows = {"image": reference.images}
    return GraphPlan(
        role=GraphRole("encoder"),
        forms={
            form: module_exporter(EncoderGraph, build, rows, outputs=tuple(reference.outputs))
            for form, build in encoder_forms(model.encoder).items()
        },
        rows=rows,
        parity=parity,
        storage=storage,
    )


def plan_decoder(model: Autoencoder, reference: Reference, *, storage: Storage) -> GraphPlan:
    """Plan the graph from latents to pictures."""
    latents = {"latent": reference.outputs["mu"]}

    def parity(name: str, session: onnxruntime.InferenceSession) -> LevelError:
        pixels = run_rows(session, latents)["image"]
        return check_levels(name, compare_levels(pixels, reference.reconstructions))

    return GraphPlan(
        role=GraphRole("decoder"),
        forms={
            form: module_exporter(DecoderGraph, build, latents, outputs=("image",))
            for form, build in decoder_forms(model.decoder).items()
        },
        rows=latents,
        parity=parity,
        storage=storage,
    )


def plan_priors(
    priors: Mapping[str, MixturePrior], *, count: int, storage: Storage
) -> tuple[GraphPlan, ...]:
    """Plan the mixtures, the first of them used by default, and N(0, I).

    Args:
        priors: By name, `mixture` first; the others are those of labels.
        count: Rows of noise to check each with.
        storage: How the files keep large tables.
    """
    latent_size = next(iter(priors.values())).means.shape[1]
    generator = np.random.Generator(np.random.Philox(key=[0, 0]))
    noise = generator.standard_normal((count, latent_size), dtype=np.float32)
    uniform = generator.random((count, 1), dtype=np.float32)
    rows = {"noise": noise, "uniform": uniform}

    def mixture(prior: MixturePrior) -> Callable[[str], onnx.ModelProto]:
        weights, means, trils = prior.weights, prior.means, prior.scale_trils
        return lambda name: mixture_graph(weights, means, scale_trils=trils, name=name)

    def normal(name: str) -> onnx.ModelProto:
        return normal_graph(latent_size, name=name)

    def parity(expected: Array) -> Parity:
        def compare(name: str, session: onnxruntime.InferenceSession) -> None:
            limit = _PRIOR_LIMIT[storage]
            check_latents(name, run_rows(session, rows), {"latent": expected}, limit=limit)

        return compare

    mixtures = [
        GraphPlan(
            GraphRole("prior", name, default=name == "mixture"),
            {"plain": mixture(prior)},
            rows,
            parity(prior.sample(noise, uniform)),
            storage,
        )
        for name, prior in priors.items()
    ]
    normals = GraphPlan(GraphRole("prior", "normal"), {"plain": normal}, rows, parity(noise))
    return (mixtures[0], normals, *mixtures[1:])


def plan_directions(
    directions: Directions, reference: Reference, *, effects: Mapping[str, float]
) -> GraphPlan:
    """Plan the graph that moves latents along directions.

    Args:
        directions: The moves.
        reference: Gives the latents to check with; strengths are drawn from N(0, 1).
        effects: What the moves were measured to change, by name.
    """
    latents = reference.outputs["mu"]
    generator = np.random.Generator(np.random.Philox(key=[0, 1]))
    shape = (len(latents), len(directions.names))
    strengths = generator.standard_normal(shape, dtype=np.float32)

    def parity(name: str, session: onnxruntime.InferenceSession) -> None:
        expected = {"edited": directions.edit(latents, strengths)}
        check_latents(name, run_rows(session, rows), expected, limit=1e-4)

    rows = {"latent": latents, "strength": strengths}
    return GraphPlan(
        role=GraphRole("directions", directions=directions.names, effects=effects),
        forms={
            "product": lambda name: product_graph(directions.vectors, name=name),
            "plain": lambda name: row_graph(directions.vectors, name=name),
        },
        rows=rows,
        parity=parity,
    )


def _decode(model: Autoencoder, latents: Array) -> Array:
    with torch.no_grad():
        pixels: Array = DecoderGraph(model.decoder)(torch.from_numpy(latents)).numpy()
    return pixels


def module_exporter(
    graph: Callable[[nn.Module], nn.Module],
    build: Callable[[], nn.Module],
    rows: Rows,
    *,
    outputs: tuple[str, ...],
) -> Callable[[str], onnx.ModelProto]:
    """Give the exporter of one form of a graph.

    Args:
        graph: Puts pre- and post-processing around the form's module.
        build: Makes that module.
        rows: Inputs by name, of which examples are taken.
        outputs: The names of the outputs.

    Returns:
        What makes the ONNX graph, given its name.
    """

    def export(name: str) -> onnx.ModelProto:
        examples = {
            key: torch.from_numpy(np.resize(array, (2, *array.shape[1:])))
            for key, array in rows.items()
        }
        return to_onnx(graph(build()), examples, outputs=outputs, name=name)

    return export

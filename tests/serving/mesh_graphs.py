"""Families of meshes written by hand: linear models, whose answers a test can tell beforehand."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from tests.serving.family_graphs import LATENT_SIZE, Graph, Port, write_model

MESH_FAMILY = "hand-mesh"

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]

_LATENT: Port = ("latent", TensorProto.FLOAT, [LATENT_SIZE])


@dataclass(frozen=True)
class LinearMeshes:
    """A linear model of meshes: vertices = template + latent @ basis, millimetres.

    Attributes:
        faces: (F, 3).
        template: (V, 3).
        basis: (Z, V * 3), rows orthogonal to each other, all of length 10.
    """

    faces: Indices
    template: Floats
    basis: Floats

    def encode(self, vertices: Floats) -> Floats:
        """The latents of meshes (B, V, 3): (B, Z)."""
        away = (vertices - self.template).reshape(len(vertices), -1)
        latents: Floats = (away @ self.basis.T / 100).astype(np.float32)
        return latents

    def decode(self, latents: Floats) -> Floats:
        """The meshes of latents (B, Z): (B, V, 3)."""
        return (latents @ self.basis).reshape(len(latents), -1, 3) + self.template

    def some(self, count: int, *, seed: int = 0) -> Floats:
        """Meshes with more in them than latents hold: (B, V, 3)."""
        random = np.random.default_rng(seed)
        vertices = self.decode(random.standard_normal((count, LATENT_SIZE), np.float32))
        noise: Floats = random.standard_normal(vertices.shape, np.float32)
        return vertices + noise


def linear_meshes(rows: int = 5, columns: int = 6, *, seed: int = 0) -> LinearMeshes:
    """A curved sheet of rows x columns vertices, 100 mm wide, its triangles seen from the front."""
    y, x = np.meshgrid(np.linspace(50, -50, rows), np.linspace(-50, 50, columns), indexing="ij")
    template = np.stack([x, y, 30 - (x**2 + y**2) / 100], axis=-1).reshape(-1, 3)
    corner = np.arange(rows * columns).reshape(rows, columns)[:-1, :-1].ravel()
    below, right, across = corner + columns, corner + 1, corner + columns + 1
    faces = np.concatenate(
        [np.stack([corner, below, across], 1), np.stack([corner, across, right], 1)]
    )
    random = np.random.default_rng(seed).standard_normal((template.size, LATENT_SIZE))
    basis = 10 * np.linalg.qr(random)[0].T
    return LinearMeshes(
        faces.astype(np.int32), template.astype(np.float32), basis.astype(np.float32)
    )


def write_mesh_family(
    repository: Path,
    meshes: LinearMeshes,
    *,
    family: str = MESH_FAMILY,
    batching: str = "",
    vae: bool = True,
) -> Path:
    """Write the family: an encoder, a decoder, a mixture and a normal as priors, the topology."""
    vertex_count, face_count = len(meshes.template), len(meshes.faces)
    vertices: Port = ("vertices", TensorProto.FLOAT, [vertex_count, 3])
    faces: Port = ("faces", TensorProto.INT32, [face_count, 3])
    mu: Port = ("mu", TensorProto.FLOAT, [LATENT_SIZE])
    row: Port = ("row", TensorProto.UINT8, [1])
    facts = {
        "family": family,
        "kind": "mesh",
        "mesh_size": f"{vertex_count}x{face_count}",
        "dataset": "hand",
    }
    posterior = [mu, ("logvar", *mu[1:])] if vae else [mu]
    noise: list[Port] = [("noise", *_LATENT[1:]), ("uniform", TensorProto.FLOAT, [1])]
    models: list[tuple[str, Graph, list[Port], list[Port], dict[str, str]]] = [
        ("encoder", _encoder(meshes, vae=vae), [vertices], posterior, {}),
        ("decoder", _decoder(meshes), [_LATENT], [vertices], {}),
        ("prior-normal", _prior(1.0), noise, [_LATENT], {"prior": "normal"}),
        ("prior-mixture", _prior(0.5), noise, [_LATENT],
         {"prior": "mixture", "default_prior": "true"}),
        ("topology", _topology(meshes), [row], [faces, ("template", *vertices[1:])], {}),
    ]  # fmt: skip
    for name, graph, inputs, outputs, own in models:
        said = {**facts, "role": name.partition("-")[0], **own}
        write_model(repository, f"{family}-{name}", graph, (inputs, outputs), said, batching)
    return repository


def _encoder(meshes: LinearMeshes, *, vae: bool) -> Graph:
    graph = Graph()
    flat = graph.node("Flatten", graph.node("Sub", "vertices", graph.constant(meshes.template)))
    graph.node("MatMul", flat, graph.constant(meshes.basis.T / 100), name="mu")
    if vae:
        graph.node("Mul", "mu", graph.constant(0), name="logvar")
    return graph


def _decoder(meshes: LinearMeshes) -> Graph:
    graph = Graph()
    flat = graph.node("MatMul", "latent", graph.constant(meshes.basis))
    shape = graph.constant([-1, len(meshes.template), 3], np.int64)
    away = graph.node("Reshape", flat, shape)
    graph.node("Add", away, graph.constant(meshes.template), name="vertices")
    return graph


def _prior(spread: float) -> Graph:
    """Noise times a spread; of a mixture its component, chosen by the uniform number, moves it."""
    graph = Graph()
    scaled = graph.node("Mul", "noise", graph.constant(spread))
    moved = graph.node("Mul", "uniform", graph.constant(0 if spread == 1 else 1))
    graph.node("Add", scaled, moved, name="latent")
    return graph


def _topology(meshes: LinearMeshes) -> Graph:
    """Constants, copied for every row."""
    graph = Graph()
    count = graph.node("Shape", "row", start=0, end=1)
    for name, values in (("faces", meshes.faces), ("template", meshes.template)):
        one: NDArray[Any] = values[None]
        shape = graph.node("Concat", count, graph.constant(values.shape, np.int64), axis=0)
        graph.node("Expand", graph.constant(one, values.dtype.type), shape, name=name)
    return graph

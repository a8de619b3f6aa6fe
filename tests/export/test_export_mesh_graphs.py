"""The graphs of mesh autoencoders compute what PyTorch does."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from facegen.export.checks import check_batch_independence, check_structure
from facegen.export.graph_writer import GraphWriter
from facegen.export.mesh_graphs import decoder_graph, encoder_graph, topology_graph
from facegen.export.mesh_writing import MeshLayouts
from facegen.export.runtime import open_session, run_rows
from facegen.training.mesh.hierarchy import build_hierarchy
from facegen.training.mesh.model import MeshAutoencoder, MeshConfig, VertexScale
from tests.export.conftest import Sheet

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "chebyshev": {"order": 6},
    "one term": {"order": 1},
    "high order": {"order": 12},
    "sage": {"convolution": "sage"},
    "variational": {"variational": True, "order": 3},
    "same biases": {"vertex_biases": False, "convolution": "sage"},
    "one level": {"filters": (5,), "factors": (2,), "order": 3},
    "three levels": {"filters": (3, 5, 4), "factors": (2, 3, 3), "convolution": "sage"},
}

FORMS = ("plain", "patches")


def build(sheet: Sheet, *, loose: int = 0, **changes: Any) -> MeshAutoencoder:
    """A model whose outputs move by millimetres; `loose` vertices have no neighbours."""
    torch.manual_seed(0)
    config = MeshConfig(**{"filters": (4, 6), "factors": (3, 4), "latent_size": 3, **changes})
    vertices = np.concatenate([sheet.vertices, 50 + np.ones((loose, 3), np.float32)])
    hierarchy = build_hierarchy(vertices, sheet.faces, config.factors)
    model = MeshAutoencoder(config, hierarchy, VertexScale(vertices, 3.0)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    torch.nn.init.normal_(model.decoder.expand.weight)
    return model.requires_grad_(requires_grad=False)


def layouts_of(model: MeshAutoencoder, form: str) -> MeshLayouts:
    hierarchy = model.hierarchy
    return MeshLayouts.plain(hierarchy) if form == "plain" else MeshLayouts.in_patches(hierarchy, 8)


def draw(model: MeshAutoencoder, count: int) -> tuple[Any, Any]:
    """Meshes (N, V, 3) around the template, and latents (N, Z)."""
    random = np.random.default_rng(1)
    meshes = model.template + 3 * random.standard_normal((count, *model.template.shape))
    latents = random.standard_normal((count, model.config.latent_size), np.float32)
    return meshes.astype(np.float32), latents


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=list(CONFIGURATIONS))
def test_encoder_computes_pytorchs_posterior(
    sheet: Sheet, form: str, changes: dict[str, Any]
) -> None:
    model = build(sheet, **changes)
    meshes, _ = draw(model, 5)

    graph = encoder_graph(model.encoder, layouts_of(model, form), name="encoder")
    check_structure(graph)
    outputs = run_rows(open_session(graph), {"vertices": meshes})

    expected = model.encoder(torch.from_numpy(meshes))
    np.testing.assert_allclose(outputs["mu"], expected.mu, atol=2e-5)
    assert ("logvar" in outputs) == model.config.variational
    if expected.logvar is not None:
        np.testing.assert_allclose(outputs["logvar"], expected.logvar, atol=2e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=list(CONFIGURATIONS))
def test_decoder_computes_pytorchs_vertices(
    sheet: Sheet, form: str, changes: dict[str, Any]
) -> None:
    model = build(sheet, **changes)
    _, latents = draw(model, 5)

    graph = decoder_graph(model.decoder, layouts_of(model, form), name="decoder")
    check_structure(graph)
    vertices = run_rows(open_session(graph), {"latent": latents})["vertices"]

    expected = model.decoder(torch.from_numpy(latents)).numpy()
    assert np.abs(expected - model.template).max() > 0.5
    assert np.abs(vertices - expected).max() < 1e-3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("convolution", ["chebyshev", "sage"])
def test_vertices_without_neighbours_are_decoded_too(
    sheet: Sheet, form: str, convolution: str
) -> None:
    model = build(sheet, loose=3, convolution=convolution)
    _, latents = draw(model, 2)

    graph = decoder_graph(model.decoder, layouts_of(model, form), name="decoder")
    vertices = run_rows(open_session(graph), {"latent": latents})["vertices"]

    expected = model.decoder(torch.from_numpy(latents)).numpy()
    assert np.abs(vertices - expected).max() < 1e-3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("convolution", ["chebyshev", "sage"])
def test_no_row_depends_on_the_batch(sheet: Sheet, form: str, convolution: str) -> None:
    model = build(sheet, variational=True, convolution=convolution)
    layouts = layouts_of(model, form)
    meshes, latents = draw(model, 40)
    sizes = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33)

    for graph, rows in (
        (encoder_graph(model.encoder, layouts, name="encoder"), {"vertices": meshes}),
        (decoder_graph(model.decoder, layouts, name="decoder"), {"latent": latents}),
    ):
        check_batch_independence(graph.graph.name, open_session(graph), rows, batch_sizes=sizes)


@pytest.mark.parametrize("form", FORMS)
def test_graphs_have_no_operator_of_their_own_and_none_that_is_sparse(
    sheet: Sheet, form: str
) -> None:
    model = build(sheet)
    layouts = layouts_of(model, form)

    for graph in (
        encoder_graph(model.encoder, layouts, name="encoder"),
        decoder_graph(model.decoder, layouts, name="decoder"),
    ):
        assert {(it.domain, it.version) for it in graph.opset_import} == {("", 20)}
        assert not graph.graph.sparse_initializer
        assert all(node.domain == "" for node in graph.graph.node)


@pytest.mark.parametrize("count", [5, 300])
def test_topology_is_given_once_for_every_row(sheet: Sheet, count: int) -> None:
    faces = sheet.faces % count

    graph = topology_graph(sheet.vertices, faces, name="topology")
    check_structure(graph)
    outputs = run_rows(open_session(graph), {"row": np.zeros((3, 1), np.uint8)})

    assert outputs["faces"].dtype == np.int32
    np.testing.assert_array_equal(outputs["faces"], np.stack([faces] * 3))
    np.testing.assert_array_equal(outputs["template"], np.stack([sheet.vertices] * 3))


def run_constant(writer: GraphWriter, value: str, shape: Sequence[int]) -> Any:
    """The value of a graph that reads nothing of its input."""
    rows = writer.add("Unsqueeze", value, writer.constant(np.array([0])), output="value")
    assert rows == "value"
    kind = onnx.TensorProto.FLOAT
    graph = writer.finish([("row", kind, (1,))], [("value", kind, tuple(shape))])
    return open_session(graph).run(["value"], {"row": np.zeros((1, 1), np.float32)})[0][0]


@pytest.mark.parametrize("different", [1, 3, 200_000])
def test_sparse_constants_are_restored_to_the_bit(different: int) -> None:
    random = np.random.default_rng(0)
    few = random.standard_normal(different, np.float32)
    values = np.where(
        random.random((7, 400)) < 0.1,
        few[random.integers(different, size=2800)].reshape(7, 400),
        np.float32(0),
    )
    writer = GraphWriter("constants")

    restored = run_constant(writer, writer.sparse(values), values.shape)

    assert restored.tobytes() == values.tobytes()


def test_sparse_constants_far_apart_are_restored() -> None:
    values = np.zeros((3, 70_000), np.float32)
    values[2, 69_999], values[0, 5] = 1.5, -2.0
    writer = GraphWriter("constants")

    restored = run_constant(writer, writer.sparse(values), values.shape)

    assert restored.tobytes() == values.tobytes()


def test_matrix_without_entries_is_restored() -> None:
    writer = GraphWriter("constants")

    restored = run_constant(writer, writer.sparse(np.zeros((4, 5), np.float32)), (4, 5))

    assert not restored.any()

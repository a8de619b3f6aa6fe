"""The repository that `mesh_repository` holds: what serving and Triton rely on."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from facegen.export.config import parse_config
from facegen.export.conversion import convert_repository
from facegen.export.runtime import run_rows
from facegen.training.mesh.files import read_mesh
from facegen.training.run import MeshRun, load_mesh_run
from tests.export.conftest import MESH_RUNS

ROLES = ("encoder", "decoder", "prior-mixture", "prior-normal", "topology")

VERTICES, FACES = 17 * 19, 2 * 16 * 18


def open_graph(repository: Path, name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = repository / name / "1" / "model.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def config_of(repository: Path, name: str) -> Any:
    return parse_config((repository / name / "config.pbtxt").read_text())


@pytest.fixture(scope="module", params=list(MESH_RUNS))
def run(request: pytest.FixtureRequest, mesh_runs: Mapping[str, Path]) -> MeshRun:
    return load_mesh_run(mesh_runs[request.param])


@pytest.fixture(scope="module")
def family(run: MeshRun) -> str:
    return run.paths.folder.name


def test_reconstruction_through_both_graphs_is_pytorchs(
    run: MeshRun, family: str, mesh_repository: Path
) -> None:
    vertices = run.meshes().vertices["validation"]

    latents = run_rows(open_graph(mesh_repository, f"{family}-encoder"), {"vertices": vertices})
    found = run_rows(open_graph(mesh_repository, f"{family}-decoder"), {"latent": latents["mu"]})

    with torch.no_grad():
        expected = run.model(torch.from_numpy(vertices)).reconstruction.numpy()
    assert np.abs(expected - run.model.template).max() > 0.1
    assert np.abs(found["vertices"] - expected).max() < 1e-3


def test_config_describes_the_graph(run: MeshRun, family: str, mesh_repository: Path) -> None:
    vertices, latent = ("TYPE_FP32", [VERTICES, 3]), ("TYPE_FP32", [3])
    posterior = {"mu": latent, **({"logvar": latent} if run.model.config.variational else {})}
    prior = ({"noise": latent, "uniform": ("TYPE_FP32", [1])}, {"latent": latent})
    shapes: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "encoder": ({"vertices": vertices}, posterior),
        "decoder": ({"latent": latent}, {"vertices": vertices}),
        "prior-mixture": prior,
        "prior-normal": prior,
        "topology": (
            {"row": ("TYPE_UINT8", [1])},
            {"faces": ("TYPE_INT32", [FACES, 3]), "template": vertices},
        ),
    }

    for role in ROLES:
        config = config_of(mesh_repository, f"{family}-{role}")
        names = config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number
        said = [
            {tensor.name: (names[tensor.data_type].name, list(tensor.dims)) for tensor in tensors}
            for tensors in (config.input, config.output)
        ]
        largest = 1 if role == "topology" else 64
        assert tuple(said) == shapes[role]
        assert config.max_batch_size == largest
        assert [warmup.batch_size for warmup in config.model_warmup] == sorted({1, largest})


@pytest.mark.parametrize("role", ROLES)
def test_parameters_describe_the_family(family: str, mesh_repository: Path, role: str) -> None:
    config = config_of(mesh_repository, f"{family}-{role}")
    said = {key: value.string_value for key, value in config.parameters.items()}
    kind, _, prior = role.partition("-")

    assert said["facegen.family"] == family
    assert said["facegen.kind"] == "mesh"
    assert said["facegen.role"] == kind
    assert said.get("facegen.prior", "") == prior
    assert said.get("facegen.default_prior", "") == ("true" if prior == "mixture" else "")
    assert said["facegen.latent_size"] == "3"
    assert said["facegen.mesh_size"] == f"{VERTICES}x{FACES}"
    assert said["facegen.dataset"] == "meshes"
    assert said["facegen.data_license"]
    assert not {"facegen.image_size", "facegen.crop", "facegen.face_frame"} & said.keys()
    graph = mesh_repository / f"{family}-{role}" / "1" / "model.onnx"
    assert said["facegen.sha256.1"] == hashlib.sha256(graph.read_bytes()).hexdigest()


def test_topology_is_the_runs(run: MeshRun, family: str, mesh_repository: Path) -> None:
    session = open_graph(mesh_repository, f"{family}-topology")

    said = run_rows(session, {"row": np.zeros((1, 1), np.uint8)})

    np.testing.assert_array_equal(said["faces"][0], run.meshes().faces)
    np.testing.assert_array_equal(said["template"][0], run.model.template)


def test_template_lies_beside_the_models(run: MeshRun, family: str, mesh_repository: Path) -> None:
    mesh = read_mesh(mesh_repository / f"{family}.ply")

    np.testing.assert_array_equal(mesh.vertices, run.model.template)
    np.testing.assert_array_equal(mesh.faces, run.model.hierarchy.faces[0])


def test_card_and_picture_stand_beside_the_models(
    run: MeshRun, family: str, mesh_repository: Path
) -> None:
    card = (mesh_repository / f"{family}.md").read_text()

    with Image.open(mesh_repository / f"{family}.png") as picture:
        assert np.unique(np.asarray(picture)).size > 10
    assert card.startswith(f"# {family}\n")
    assert f"({family}.png)" in card
    assert f"facegen mesh generate --family {family}" in card
    assert ("A variational mesh autoencoder" in card) == run.model.config.variational
    assert "323 vertices and 576 triangles" in card
    assert f"Not evaluated. Measure the run with `facegen evaluate mesh {family}`" in card
    assert "synthesised" not in card  # it is not of ICT-FaceKit
    assert all(f"| {family}-{role} |" in card for role in ROLES)
    assert str(run.paths.folder.parent) not in card
    for section in ("Data", "Training", "Quality", "Graphs", "Limits"):
        assert f"\n## {section}\n" in card


def test_nothing_else_lies_beside_the_models(mesh_repository: Path) -> None:
    names = {path.name for path in mesh_repository.iterdir()}

    assert names == {
        *(f"{family}-{role}" for family in MESH_RUNS for role in ROLES),
        *(f"{family}{end}" for family in MESH_RUNS for end in (".md", ".png", ".ply")),
    }


def test_python_backend_gets_every_graph(
    family: str, mesh_repository: Path, tmp_path: Path
) -> None:
    convert_repository(mesh_repository, tmp_path, backend="python")

    for role in ROLES:
        config = config_of(tmp_path, f"{family}-{role}")
        assert config.backend == "python"
        assert (tmp_path / f"{family}-{role}" / "1" / "model.py").is_file()


@pytest.mark.parametrize("role", ROLES)
def test_graph_tells_nothing_of_the_machine(family: str, mesh_repository: Path, role: str) -> None:
    content = (mesh_repository / f"{family}-{role}" / "1" / "model.onnx").read_bytes()

    assert b"site-packages" not in content
    assert b".py" not in content


def test_metrics_are_none_before_an_evaluation(family: str, mesh_repository: Path) -> None:
    said = config_of(mesh_repository, f"{family}-decoder").parameters

    assert json.loads(said["facegen.metrics"].string_value) == {}

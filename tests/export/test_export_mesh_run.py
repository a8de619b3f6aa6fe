"""Exports of mesh runs that differ from the small repository's, and those refused."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from facegen.errors import FacegenError
from facegen.export import ExportOptions, Measurement, export_run
from facegen.export.checks import VertexError, check_vertices, compare_vertices
from facegen.export.cli import export
from facegen.export.config import parse_config
from facegen.export.contents import family_facts, repeated
from facegen.export.errors import OptionError, RunError, ValueParityError
from facegen.export.mesh_card import mesh_card
from facegen.training import load_recipe
from facegen.training.mesh.files import read_mesh, write_mesh
from facegen.training.recipes import MeshRecipe
from facegen.training.run import load_mesh_run

QUICK = ExportOptions(picture_count=2, measurement=Measurement(repetitions=0))

METRICS = {
    "vertex_error_mm_validation": 1.25,
    "vertex_error_mm_test": 1.5,
    "pca_vertex_error_mm_test": 2.0,
    "vertex_error_to_pca_test": 0.75,
    "parameters": 12_345,
    "epoch_seconds": 3.5,
}


def test_measured_numbers_are_in_the_card_and_in_every_graph(
    mesh_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(mesh_runs["sage"], tmp_path / "run")
    (run / "metrics.json").write_text(json.dumps({**METRICS, "protocol": "Eight meshes."}))
    (run / "evaluation-public.html").write_text("<html>")
    (run / "pictures" / "traversals.gif").write_bytes(b"GIF89a")
    arguments = [str(run), "--to", str(tmp_path / "models"), "--family", "bent", "--json"]
    arguments += ["--repetitions", "0", "--pictures", "2"]
    app = typer.Typer()
    app.command()(export)

    result = CliRunner().invoke(app, arguments, catch_exceptions=False)

    graphs = json.loads(result.stdout)["graphs"]
    card = (tmp_path / "models/bent.md").read_text()
    assert len(graphs) == 5
    assert "| unseen meshes | 1.5 | – | – | 2 | 0.75 | – |" in card
    assert "| parameters | 12,345 | Numbers that training changes |" in card
    assert "Eight meshes." in card
    assert "[bent.html](bent.html)" in card
    assert (tmp_path / "models/bent.html").read_text() == "<html>"
    assert "](bent-traversals.gif)" in card
    assert (tmp_path / "models/bent-traversals.gif").read_bytes() == b"GIF89a"
    assert "comparison" not in card
    assert not (tmp_path / "models/bent-comparison.png").exists()
    for graph in graphs:
        config = parse_config((tmp_path / "models" / graph["name"] / "config.pbtxt").read_text())
        assert json.loads(config.parameters["facegen.metrics"].string_value) == METRICS


def test_errors_are_reported_in_millimetres(mesh_runs: Mapping[str, Path], tmp_path: Path) -> None:
    report = export_run(mesh_runs["chebyshev"], tmp_path / "models", options=QUICK)

    errors = {graph.name: graph.largest_error for graph in report.graphs}
    assert report.of_meshes
    for role in ("encoder", "decoder"):
        found = errors[f"chebyshev-{role}"]
        assert found is not None
        assert found <= 5e-4
    assert errors["chebyshev-topology"] is None


def test_timed_export_takes_the_fastest_form(mesh_runs: Mapping[str, Path], tmp_path: Path) -> None:
    options = replace(QUICK, measurement=Measurement(repetitions=2, batch_sizes=(1, 4)))

    report = export_run(mesh_runs["sage"], tmp_path / "models", options=options)

    for graph in report.graphs[:2]:
        assert {"plain", "plain, float32"} < graph.forms_ms.keys()
        assert len(graph.forms_ms) >= 3
        assert set(graph.times_ms) == {1, 4}


def test_weights_that_are_no_numbers_write_nothing(
    mesh_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(mesh_runs["sage"], tmp_path / "run")
    weights = load_file(run / "model.safetensors")
    weights["decoder.last.weight"][:] = float("nan")
    save_file(weights, run / "model.safetensors")

    with pytest.raises(FacegenError, match="in vertices by nan"):
        export_run(run, tmp_path / "models", options=QUICK)

    assert not (tmp_path / "models").exists()


def test_aligner_for_a_mesh_autoencoder_is_refused(
    mesh_runs: Mapping[str, Path], tiny_aligner_run: Path, tmp_path: Path
) -> None:
    options = replace(QUICK, aligner=tiny_aligner_run)

    with pytest.raises(OptionError, match=r"--aligner is .*only families of expressions"):
        export_run(mesh_runs["sage"], tmp_path / "models", options=options)


def test_data_of_another_topology_is_refused(
    mesh_runs: Mapping[str, Path], mesh_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in mesh_folder.glob("*.ply"):
        mesh = read_mesh(path)
        write_mesh(other / path.name, mesh.vertices, mesh.faces[:-1])

    with pytest.raises(FacegenError, match="another topology"):
        export_run(mesh_runs["sage"], tmp_path / "models", data=other, options=QUICK)


def test_vertices_beyond_the_limit_or_no_numbers_are_refused() -> None:
    expected = np.zeros((2, 5, 3), np.float32)

    assert check_vertices("tested", VertexError(1e-4, 1e-5), limit=5e-4).largest == 1e-4
    for wrong in (0.02, float("nan")):
        found = expected.copy()
        found[1, 2, 0] = wrong
        with pytest.raises(ValueParityError, match=r"in vertices by .*, allowed 0\.0005"):
            check_vertices("tested", compare_vertices(found, expected), limit=5e-4)


def test_card_says_that_combinations_are_synthesised_and_names_the_licence(
    mesh_runs: Mapping[str, Path],
) -> None:
    run = load_mesh_run(mesh_runs["sage"])
    recipe = load_recipe("ict-mesh-sage", [])
    assert isinstance(recipe, MeshRecipe)
    run = replace(run, config=recipe)

    card = mesh_card(run, family_facts(run, "ict-mesh"), version=1, graphs=[])

    assert "trained on synthesised combinations, not on captured faces" in card
    assert "No mesh is the scan of a person" in " ".join(card.split())
    assert "Li et al. 2020" in card
    assert "MIT licence" in card
    assert "facegen train ict-mesh-sage" in card


def test_run_without_validation_meshes_is_refused(mesh_runs: Mapping[str, Path]) -> None:
    run = load_mesh_run(mesh_runs["sage"])

    with pytest.raises(RunError, match="has no validation meshes to check with"):
        repeated(run, np.zeros((0, 323, 3), np.float32), count=2, what="meshes")

"""A family with priors of labels and with directions, from the run folder to the repository."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from facegen.export import ExportOptions, ExportReport, Measurement, export_run
from facegen.export.config import parse_config
from facegen.export.runtime import run_rows
from facegen.training import MixturePrior, load_run
from facegen.training.directions import Directions

QUICK = ExportOptions(storage="float32", measurement=Measurement(repetitions=0))
EFFECTS = {
    "protocol": "Four drawn faces.",
    "directions": {
        "Smiling": {
            "balanced_accuracy": 0.84,
            "before": 0.2,
            "added": 0.41,
            "error": 0.02,
            "removed": -0.3,
            "others": 0.05,
            "moved": {"High_Cheekbones": 0.3},
            "kept": True,
        },
        "Blurry": {"balanced_accuracy": 0.64, "kept": False},
    },
}


@pytest.fixture(scope="module")
def run_folder(tiny_runs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two priors of labels and measured directions."""
    folder = tmp_path_factory.mktemp("runs") / "labelled"
    shutil.copytree(tiny_runs["vae"], folder)
    random = np.random.default_rng(0)
    prior = load_run(folder).prior
    (folder / "priors").mkdir()
    for name in ("smiling", "not-male"):
        means = prior.means + random.standard_normal(prior.means.shape).astype(np.float32)
        dataclasses.replace(prior, means=means).save(folder / "priors" / f"{name}.npz")
    vectors = random.standard_normal((4, 8)).astype(np.float32)
    names = ("Smiling", "Blurry", "component-1", "component-2")
    Directions(names, vectors).save(folder / "directions.npz")
    (folder / "directions.json").write_text(json.dumps(EFFECTS))
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def report(run_folder: Path, repository: Path) -> ExportReport:
    return export_run(run_folder, repository, family="faces", options=QUICK)


def open_graph(repository: Path, name: str) -> onnxruntime.InferenceSession:
    path = repository / name / "1" / "model.onnx"
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def parameters(repository: Path, name: str) -> dict[str, str]:
    config = parse_config((repository / name / "config.pbtxt").read_text())
    return {key: value.string_value for key, value in config.parameters.items()}


def test_family_has_a_graph_for_each_prior_and_one_of_directions(
    report: ExportReport, repository: Path
) -> None:
    assert [graph.name for graph in report.graphs] == [
        "faces-encoder",
        "faces-decoder",
        "faces-prior-mixture",
        "faces-prior-normal",
        "faces-prior-not-male",
        "faces-prior-smiling",
        "faces-directions",
    ]
    assert all((repository / graph.name / "1/model.onnx").is_file() for graph in report.graphs)


def test_label_prior_is_that_of_the_run(
    report: ExportReport, run_folder: Path, repository: Path
) -> None:
    random = np.random.default_rng(1)
    noise = random.standard_normal((9, 8), dtype=np.float32)
    uniform = random.random((9, 1), dtype=np.float32)

    graph = open_graph(repository, "faces-prior-smiling")
    latents = run_rows(graph, {"noise": noise, "uniform": uniform})["latent"]

    expected = MixturePrior.load(run_folder / "priors/smiling.npz").sample(noise, uniform)
    np.testing.assert_allclose(latents, expected, atol=1e-4)
    said = parameters(repository, "faces-prior-smiling")
    assert said["facegen.prior"] == "smiling"
    assert "facegen.default_prior" not in said
    assert parameters(repository, "faces-prior-mixture")["facegen.default_prior"] == "true"


def test_directions_graph_keeps_the_contract(
    report: ExportReport, run_folder: Path, repository: Path
) -> None:
    said = parameters(repository, "faces-directions")
    session = open_graph(repository, "faces-directions")
    content = (repository / "faces-directions/1/model.onnx").read_bytes()

    assert said["facegen.role"] == "directions"
    assert said["facegen.directions"] == "Smiling,component-1,component-2"
    assert json.loads(said["facegen.direction_effects"]) == {"Smiling": 0.41}
    assert said["facegen.sha256.1"] == hashlib.sha256(content).hexdigest()
    assert "facegen.directions" not in parameters(repository, "faces-decoder")
    assert {it.name: it.shape[1:] for it in session.get_inputs()} == {
        "latent": [8],
        "strength": [3],
    }
    assert [(it.name, it.shape[1:]) for it in session.get_outputs()] == [("edited", [8])]
    latent = np.zeros((1, 8), np.float32)
    edited = run_rows(session, {"latent": latent, "strength": np.array([[0, 2, 0]], np.float32)})
    wanted = 2 * Directions.load(run_folder / "directions.npz").vector("component-1")
    np.testing.assert_allclose(edited["edited"][0], wanted, rtol=1e-6)


def test_card_lists_priors_and_measured_effects(report: ExportReport, repository: Path) -> None:
    card = (repository / "faces.md").read_text()

    assert "\n## Priors\n" in card
    assert "| smiling | 3 |" in card
    assert "--prior not-male" in card
    assert "| Smiling | 0.84 | 0.20 | +0.41 ± 0.02 | -0.30 | 0.05 | High_Cheekbones +0.30 |" in card
    assert "Measured and left out: Blurry." in card
    assert "Four drawn faces." in card
    assert "`component-1` to `component-2`" in card
    assert "facegen edit photo.jpg --family faces --more Smiling" in card


def test_unmeasured_directions_are_all_exported_and_said_to_be_unmeasured(
    run_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / "directions.json").unlink()

    export_run(folder, tmp_path / "models", family="faces", options=QUICK)

    said = parameters(tmp_path / "models", "faces-directions")
    assert said["facegen.directions"] == "Smiling,Blurry,component-1,component-2"
    assert json.loads(said["facegen.direction_effects"]) == {}
    assert "not measured: `facegen fit` does" in (tmp_path / "models/faces.md").read_text()


def test_run_of_before_there_were_directions_still_exports(
    run_folder: Path, tmp_path: Path
) -> None:
    folder, models = tmp_path / "run", tmp_path / "models"
    shutil.copytree(run_folder, folder)
    export_run(folder, models, family="faces", options=QUICK)
    shutil.rmtree(folder / "priors")
    (folder / "directions.npz").unlink()
    (folder / "directions.json").unlink()

    report = export_run(folder, models, family="faces", options=QUICK)

    graphs = ["encoder", "decoder", "prior-mixture", "prior-normal"]
    assert [graph.name for graph in report.graphs] == [f"faces-{name}" for name in graphs]
    # Those of the export before are gone with what they were fitted to.
    assert {path.name for path in models.iterdir() if path.is_dir()} == {
        f"faces-{name}" for name in graphs
    }
    assert "## Directions" not in (models / "faces.md").read_text()

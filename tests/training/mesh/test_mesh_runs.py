"""Runs of meshes as `facegen train` leaves them."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facegen.training import RunError, load_mesh_run, load_recipe, load_run, train_run
from facegen.training.errors import ConfigurationError
from facegen.training.mesh.latents import decode_meshes, encode_meshes
from tests.training.mesh.conftest import SMALL


@pytest.mark.parametrize("kind", ["chebyshev", "sage", "vae"])
def test_a_run_has_all_it_needs_and_reads_back(mesh_runs: Mapping[str, Path], kind: str) -> None:
    run = load_mesh_run(mesh_runs[kind])

    assert run.facts["finished"]
    assert run.facts["train_meshes"] == 48
    assert run.config.model.variational == (kind == "vae")
    assert run.prior.means.shape == (2, 3)
    meshes = run.meshes()
    latents = encode_meshes(run.model, meshes.vertices["identity"])
    assert np.isfinite(decode_meshes(run.model, latents)).all()
    sheet = Image.open(run.paths.pictures / "reconstructions-002.png")
    assert np.asarray(sheet).std() > 5


def test_it_learns(mesh_runs: Mapping[str, Path], mesh_data: Path, tmp_path: Path) -> None:
    settings = [*SMALL, "epochs=40", f"data.root='{mesh_data}'", "model.convolution=sage"]
    train_run(load_recipe("ict-mesh", settings), tmp_path / "run", device="cpu", threads=1)

    errors = []
    for it in (load_mesh_run(mesh_runs["sage"]), load_mesh_run(tmp_path / "run")):
        meshes = it.meshes().vertices["validation"]
        decoded = decode_meshes(it.model, encode_meshes(it.model, meshes))
        errors.append(np.linalg.norm(decoded - meshes, axis=2).mean())
    mean_face = np.linalg.norm(meshes - it.model.template, axis=2).mean()
    assert errors[1] < 0.7 * errors[0]
    assert errors[1] < 0.7 * mean_face
    noise = np.random.default_rng(0).standard_normal(meshes.shape, dtype=np.float32)
    decoded = decode_meshes(it.model, encode_meshes(it.model, meshes + noise))
    assert np.linalg.norm(decoded - meshes, axis=2).mean() < 1.3 * errors[1]


def test_a_resumed_run_ends_as_if_it_had_not_stopped(
    mesh_runs: Mapping[str, Path], mesh_data: Path, tmp_path: Path
) -> None:
    changes = [*SMALL, "model.order=3", f"data.root='{mesh_data}'"]
    folder = tmp_path / "run"
    shutil.copytree(mesh_runs["chebyshev"], folder)
    whole = load_mesh_run(folder).model.state_dict()
    checkpoint = folder / "checkpoints" / "last.ckpt"
    shutil.rmtree(folder)

    class StoppedError(Exception):
        pass

    def stop(*_: object) -> None:
        raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "facegen.training.callbacks.MeshSheets.on_validation_epoch_end", _second(stop)
        )
        with pytest.raises(StoppedError):
            train_run(load_recipe("ict-mesh", changes), folder, device="cpu", threads=1)
    assert checkpoint.is_file()
    resumed = train_run(
        load_recipe("ict-mesh", changes), folder, resume=True, device="cpu", threads=1
    )

    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, whole[name]), name


def _second(then: object) -> object:
    calls = []

    def called(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            then(*arguments)  # type: ignore[operator]  # a function

    return called


def test_a_machine_that_cannot_draw_meshes_trains_them(
    mesh_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "embreex.mesh_construction", None)
    changes = [*SMALL, "model.convolution=sage", f"data.root='{mesh_data}'"]

    run = train_run(load_recipe("ict-mesh", changes), tmp_path / "run", device="cpu", threads=1)

    assert run.facts["finished"]
    assert caplog.text.count("pictures of meshes need embreex") == 1


def test_indices_survive_the_moving_average(mesh_runs: Mapping[str, Path]) -> None:
    hierarchy = load_mesh_run(mesh_runs["sage"]).model.hierarchy

    for level, kept in enumerate(hierarchy.kept):
        assert (np.diff(kept) > 0).all()
        assert hierarchy.faces[level + 1].max() < len(kept)
        assert hierarchy.corners[level].max() < len(kept)


def test_data_of_another_topology_is_refused(
    mesh_runs: Mapping[str, Path], mesh_data: Path, tmp_path: Path
) -> None:
    with np.load(mesh_data / "ict_facekit.npz") as file:
        arrays = dict(file)
    arrays["faces"] = arrays["faces"][::-1]
    np.savez(tmp_path / "ict_facekit.npz", **arrays)

    with pytest.raises(RunError, match="another topology"):
        load_mesh_run(mesh_runs["sage"]).meshes(tmp_path)


def test_a_run_of_meshes_is_not_one_of_pictures(mesh_runs: Mapping[str, Path]) -> None:
    with pytest.raises(RunError, match='a run of kind "mesh"; give one of an autoencoder'):
        load_run(mesh_runs["sage"])


def test_priors_of_labels_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="unknown key"):
        load_recipe("ict-mesh", ['prior.labels=["Smiling"]'])


def test_the_curves_name_the_error_in_millimetres(mesh_runs: Mapping[str, Path]) -> None:
    run = load_mesh_run(mesh_runs["vae"])
    rows = (run.paths.table).read_text("utf-8").splitlines()

    assert "validation/vertex_error" in rows[0]
    assert "train/kl" in rows[0]
    assert json.loads(run.paths.facts.read_text("utf-8"))["vertices"] == 162

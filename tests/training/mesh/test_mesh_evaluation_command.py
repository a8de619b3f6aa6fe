"""`facegen evaluate mesh` on finished runs, and what it leaves."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import trimesh
from PIL import Image
from typer.testing import CliRunner, Result

from facegen.client.cli import app
from facegen.training import RunError, load_mesh_run, load_recipe, train_run
from facegen.training.mesh.protocol import SYNTHESISED
from facegen.training.run import RunPaths
from tests.training.mesh.conftest import SMALL

SPLITS = ("validation", "identity", "expression", "both")


def facegen(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="facegen")


@pytest.fixture(scope="module")
def evaluated(
    mesh_runs: Mapping[str, Path], mesh_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunPaths, dict[str, Any]]:
    """A run that the command has measured, and what it printed."""
    folder = tmp_path_factory.mktemp("evaluated") / "balls"
    shutil.copytree(mesh_runs["sage"], folder)
    done = facegen("evaluate", "mesh", folder, "--data", mesh_data, "--json")
    assert done.exit_code == 0, done.output
    return RunPaths(folder), json.loads(done.stdout)


class OwnMeshes(NamedTuple):
    paths: RunPaths
    page: Path
    printed: str


@pytest.fixture(scope="module")
def own_meshes(tmp_path_factory: pytest.TempPathFactory) -> OwnMeshes:
    """A run trained on a folder of meshes, and measured."""
    folder = tmp_path_factory.mktemp("own-meshes")
    random = np.random.default_rng(0)
    for index in range(30):
        ball = trimesh.creation.icosphere(subdivisions=2, radius=90.0)
        ball.vertices *= random.uniform(0.8, 1.2, 3) * (0.6, 1, 0.8)
        path = folder / "data" / f"person{index // 3:02d}" / f"{index:02d}.ply"
        path.parent.mkdir(parents=True, exist_ok=True)
        ball.export(path)
    reader = ["data.reader=meshes", f"data.root='{folder / 'data'}'", "model.convolution=sage"]
    settings = [it for it in SMALL if "combinations" not in it]
    train_run(
        load_recipe("ict-mesh", [*settings, *reader]), folder / "run", device="cpu", threads=1
    )
    page = folder / "new" / "page.html"
    places = ("--data", folder / "data", "--report", page)
    done = facegen("evaluate", "mesh", folder / "run", *places)
    assert done.exit_code == 0, done.output
    return OwnMeshes(RunPaths(folder / "run"), page, done.stdout)


def test_command_prints_and_leaves_the_same_numbers(
    evaluated: tuple[RunPaths, dict[str, Any]],
) -> None:
    paths, printed = evaluated

    assert json.loads(paths.metrics.read_text("utf-8")) == printed
    run = load_mesh_run(paths.folder)
    assert run.metrics == printed
    assert printed["parameters"] == run.model.parameter_count
    assert printed["epoch_seconds"] == run.facts["epoch_seconds"]
    assert set(printed["left_out"]) == {"kl_nats", "active_units"}
    for name in SPLITS:
        assert printed[f"vertex_error_mm_{name}"] > 0
    for what in ("encode", "decode"):
        for size in (1, 16):
            assert printed[f"{what}_ms_batch_{size}"] > 0


def test_protocol_tells_meshes_counts_and_that_they_are_synthesised(
    evaluated: tuple[RunPaths, dict[str, Any]],
) -> None:
    _, printed = evaluated
    fields, sentence = printed["protocol_fields"], printed["protocol"]

    assert SYNTHESISED in sentence
    assert "12 validation, 12 identity, 12 expression, 12 both" in sentence
    assert "all 48 training meshes, 3 components" in sentence
    assert list(fields["data"]["splits"]) == list(SPLITS)
    hashes = {it["sha256"] for it in fields["data"]["splits"].values()}
    assert len(hashes) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", it) for it in hashes)
    assert "root" not in fields["data"]
    assert fields["samples"]["count"] == 12


def test_curves_and_ranks_stand_in_their_own_file(
    evaluated: tuple[RunPaths, dict[str, Any]],
) -> None:
    paths, printed = evaluated
    details = json.loads(paths.evaluation.read_text("utf-8"))

    curves = details["cumulative_error"]
    assert curves["thresholds_mm"] == pytest.approx(np.arange(101) / 10)
    for name in SPLITS:
        for shares in curves["shares"][name].values():
            assert len(shares) == 101
            assert (np.diff(shares) >= 0).all()
            assert 0 <= shares[0] < shares[-1] <= 1
        # Half of the vertices lie within the median.
        median = printed[f"vertex_error_median_mm_{name}"]
        place = int(np.searchsorted(curves["thresholds_mm"], median))
        shares = curves["shares"][name]["model"]
        assert shares[place - 1] <= 0.5 <= shares[place]
        ranked = details["ranked"][name]
        order = [ranked[it]["vertex_error_mm"] for it in ("best", "median", "worst")]
        assert order == sorted(order)
    assert re.match(
        r"test-identity\d+/test-expression\d+/", details["ranked"]["both"]["best"]["name"]
    )


def test_run_folder_has_the_pictures_of_a_card(
    evaluated: tuple[RunPaths, dict[str, Any]],
) -> None:
    paths, _ = evaluated

    assert paths.comparison.stat().st_size < 200_000
    with Image.open(paths.comparison) as comparison:
        assert comparison.width > 600
        assert np.asarray(comparison.convert("RGB"))[0, 0].tolist() == [255, 255, 255]
    assert paths.traversals.stat().st_size < 500_000
    with Image.open(paths.traversals) as moving:
        assert getattr(moving, "n_frames", 1) == 20
        first = np.asarray(moving.convert("RGB"), int)
        moving.seek(10)
        assert np.abs(np.asarray(moving.convert("RGB"), int) - first).max() > 50


def test_page_needs_nothing_but_itself_and_says_what_its_meshes_are(
    evaluated: tuple[RunPaths, dict[str, Any]],
) -> None:
    paths, printed = evaluated
    html = paths.page.read_text("utf-8")

    sources = re.findall(r'(?:src|href)="([^"]{0,30})', html)
    # A sheet for each of three splits, ranks, errors, three kinds of samples, axes twice, walks.
    assert len(sources) == 3 + 1 + 1 + 3 + 2 + 1
    assert sum(it.startswith("data:image/gif;base64,") for it in sources) == 1
    assert all(it.startswith("data:image/") for it in sources)
    assert "url(" not in html
    assert "None was captured." in html
    assert f"{printed['vertex_error_mm_both']:.2f} mm" in html
    assert f"{printed['pca_vertex_error_mm_both']:.2f} mm" in html
    assert "Distance of vertices, mm" in html  # the training's curves
    assert "an autoencoder has no posterior" in html


def test_public_page_of_synthesised_meshes_is_the_same_but_lighter(
    evaluated: tuple[RunPaths, dict[str, Any]],
) -> None:
    paths, _ = evaluated
    whole, public = (it.read_text("utf-8") for it in (paths.page, paths.public_page))

    pictures = r"data:image/(?:png|webp);base64,[A-Za-z0-9+/=]+"
    assert re.sub(pictures, "", whole) == re.sub(pictures, "", public)
    assert len(public) < len(whole)


def test_public_page_of_own_meshes_shows_none_of_them(own_meshes: OwnMeshes) -> None:
    pages = own_meshes.page, own_meshes.page.with_name("page-public.html")
    whole, public = (it.read_text("utf-8") for it in pages)

    assert "What comes back" in whole
    assert "do not publish it" in whole
    assert "synthesised" not in whole
    assert "What comes back" not in public
    assert "From best to worst" not in public
    assert "samples of the mixture; between them" in public
    assert "nobody of the data set is shown" in public


def test_no_card_shows_own_meshes(own_meshes: OwnMeshes) -> None:
    assert own_meshes.paths.traversals.is_file()
    assert not own_meshes.paths.comparison.exists()


def test_own_meshes_are_measured_on_their_test_split(own_meshes: OwnMeshes) -> None:
    numbers = json.loads(own_meshes.paths.metrics.read_text("utf-8"))

    assert numbers["vertex_error_mm_test"] > 0
    assert "vertex_error_mm_both" not in numbers
    assert numbers["protocol_fields"]["samples"]["unseen"] == "test"


def test_report_goes_where_it_is_asked_for(own_meshes: OwnMeshes) -> None:
    assert own_meshes.page.is_file()
    assert not own_meshes.paths.page.exists()
    assert "vertex_error_to_pca_test" in own_meshes.printed


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    done = facegen("evaluate", "mesh", tmp_path)

    assert isinstance(done.exception, RunError)
    assert "give a folder that `facegen train` has written" in str(done.exception)

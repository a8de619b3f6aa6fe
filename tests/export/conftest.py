"""A small mesh for tests of export, runs trained on bent copies of it, and their repository."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

MESH_RUNS: Mapping[str, tuple[str, ...]] = {
    "chebyshev": ("model.variational=true", "model.order=4"),
    "sage": ("model.convolution=sage",),
}
"""The runs of `mesh_runs` by name, and what each changes: a VAE and an AE."""

_SETTINGS = (
    "data.reader=meshes",
    "epochs=2",
    "batch_size=4",
    "picture_count=1",
    "model.filters=[4, 6]",
    "model.factors=[3, 4]",
    "model.latent_size=3",
    "optimizer.warmup_steps=2",
    "prior.components=2",
)


class Sheet(NamedTuple):
    """An open mesh of 17 x 19 vertices, in millimetres.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3).
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]


@pytest.fixture(scope="session")
def sheet() -> Sheet:
    """A bent sheet with a boundary."""
    rows, columns = 17, 19
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    z = 4 * np.sin(x / 4) * np.cos(y / 5)
    first = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    corners = [first, first + 1, first + columns + 1, first + columns]
    faces = np.concatenate([np.stack([corners[i] for i in it], 1) for it in ((0, 1, 2), (0, 2, 3))])
    vertices = np.stack([10 * x, 10 * y, z], axis=2).reshape(-1, 3)
    return Sheet(vertices, faces.astype(np.int32))


@pytest.fixture(scope="session")
def mesh_folder(sheet: Sheet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of the sheet, bent in 60 ways."""
    from facegen.training.mesh.files import write_mesh

    folder = tmp_path_factory.mktemp("sheets")
    random = np.random.default_rng(0)
    for number in range(60):
        waves = np.sin(sheet.vertices @ random.normal(0, 0.02, (3, 3)) + random.random(3))
        moved = sheet.vertices + 5 * waves
        write_mesh(folder / f"{number:02}.ply", moved.astype(np.float32), sheet.faces)
    return folder


@pytest.fixture(scope="session")
def mesh_runs(mesh_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The run folders of `MESH_RUNS`, trained for a moment."""
    from facegen.training import load_recipe, train_run

    folder = tmp_path_factory.mktemp("mesh-runs")
    for name, own in MESH_RUNS.items():
        recipe = load_recipe("ict-mesh", [*_SETTINGS, *own, f'data.root="{mesh_folder}"'])
        train_run(recipe, folder / name, device="cpu", threads=1, progress=False)
    return {name: folder / name for name in MESH_RUNS}


@pytest.fixture(scope="session")
def mesh_repository(
    mesh_runs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model repository with a family of each run, named after it: read it, do not change it."""
    from facegen.export import ExportOptions, Measurement, export_run

    repository = tmp_path_factory.mktemp("mesh-repository")
    options = ExportOptions(picture_count=40, measurement=Measurement(repetitions=0))
    for name, run in mesh_runs.items():
        export_run(run, repository, family=name, options=options)
    return repository

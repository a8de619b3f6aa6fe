"""A small face model in ICT-FaceKit's layout, and runs trained on its combinations."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

SMALL = (
    "data.vertex_count=0",
    "data.combinations.mesh_count=48",
    "data.combinations.test_mesh_count=12",
    "data.combinations.identity_count=12",
    "data.combinations.expression_count=10",
    "data.combinations.identity_modes=2",
    "model.filters=[4, 8]",
    "model.factors=[4, 4]",
    "model.latent_size=3",
    "epochs=2",
    "picture_count=1",
    "prior.components=2",
    "optimizer.warmup_steps=2",
)
"""Changes of a mesh recipe that make it quick."""


@pytest.fixture(scope="session")
def mesh_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with an ict_facekit.npz of a ball of 162 vertices, in centimetres."""
    ball = trimesh.creation.icosphere(subdivisions=2, radius=9.0)
    random = np.random.default_rng(0)
    vertices = ball.vertices.astype(np.float32)

    def waves(count: int, size: float) -> NDArray[np.float16]:
        directions = random.standard_normal((count, 3))
        heights = np.sin(vertices @ directions.T / 4 + random.random(count))  # (V, N)
        moves: NDArray[np.float16] = (size * heights.T[:, :, None] * vertices / 9).astype(
            np.float16
        )
        return moves

    folder = tmp_path_factory.mktemp("mesh-data")
    np.savez(
        folder / "ict_facekit.npz",
        neutral=vertices,
        faces=ball.faces.astype(np.int32),
        identity_deltas=waves(4, 0.5),
        identity_names=np.array([f"identity{i:03d}" for i in range(4)]),
        expression_deltas=waves(5, 0.8),
        expression_names=np.array(["PupilDilate_L", "jawOpen", "smile_L", "smile_R", "frown"]),
    )
    return folder


@pytest.fixture(scope="session")
def mesh_runs(mesh_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Finished run folders: `chebyshev` and `sage` autoencoders, and `vae`, a Chebyshev VAE."""
    from facegen.training import load_recipe, train_run

    folder = tmp_path_factory.mktemp("mesh-runs")
    changes = {
        "chebyshev": ["model.order=3"],
        "sage": ["model.convolution=sage"],
        "vae": ["model.order=3", "model.variational=true"],
    }
    for name, own in changes.items():
        recipe = load_recipe("ict-mesh", [*SMALL, *own, f"data.root='{mesh_data}'"])
        train_run(recipe, folder / name, device="cpu", threads=1)
    return {name: folder / name for name in changes}

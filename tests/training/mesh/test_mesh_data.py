"""Meshes of a recipe, from files."""

import logging
from pathlib import Path

import numpy as np
import pytest
import trimesh

from facegen.training.mesh.data import load_meshes
from facegen.training.mesh.files import write_mesh
from facegen.training.mesh.recipe import MeshDataConfig

_BALL = trimesh.creation.icosphere(subdivisions=2)


@pytest.fixture
def metres(tmp_path: Path) -> Path:
    """A folder of balls about 0.2 across, as if in metres."""
    for index in range(30):
        vertices = ((0.1 + 0.001 * index) * _BALL.vertices).astype(np.float32)
        write_mesh(tmp_path / f"{index:02d}.ply", vertices, _BALL.faces.astype(np.int32))
    return tmp_path


def test_meshes_in_an_unlikely_unit_are_said_to_be(
    metres: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load_meshes(MeshDataConfig(reader="meshes", unit_mm=1000), metres, seed=0)
        assert "data.unit_mm" not in caplog.text
        load_meshes(MeshDataConfig(reader="meshes"), metres, seed=0)

    assert "mm across: is data.unit_mm=1 right?" in caplog.text


def test_larger_meshes_are_simplified_to_the_same_vertices(metres: Path) -> None:
    config = MeshDataConfig(reader="meshes", unit_mm=1000, vertex_count=60)

    whole = load_meshes(config.model_copy(update={"vertex_count": 0}), metres, seed=0)
    small = load_meshes(config, metres, seed=0)

    assert small.faces.max() == 59
    for split, vertices in small.vertices.items():
        assert vertices.shape[1:] == (60, 3)
        for mesh, full in zip(vertices, whole.vertices[split], strict=True):
            assert {tuple(v) for v in mesh} <= {tuple(v) for v in full}

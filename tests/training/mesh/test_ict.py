from pathlib import Path

import numpy as np
import pytest

from facegen.training.errors import DatasetError
from facegen.training.mesh.arrays import MeshArrays
from facegen.training.mesh.ict import FaceModel, combine, load_face_model, simplified
from facegen.training.mesh.recipe import CombinationConfig

_CONFIG = CombinationConfig(
    mesh_count=60, test_mesh_count=20, identity_count=10, expression_count=8, identity_modes=2
)


@pytest.fixture(scope="module")
def model(mesh_data: Path) -> FaceModel:
    return load_face_model(mesh_data)


@pytest.fixture(scope="module")
def meshes(model: FaceModel) -> MeshArrays:
    return combine(model, _CONFIG, seed=0)


def test_it_is_read_in_millimetres_with_sides_that_move_together(model: FaceModel) -> None:
    assert np.linalg.norm(model.neutral, axis=1) == pytest.approx(90.0, rel=1e-4)
    assert model.unit_names == ("jawOpen", "smile", "frown")
    assert len(model.units) == 3


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"looked for ict_facekit.npz or generic_neutral"):
        load_face_model(tmp_path)


def test_the_same_seed_draws_the_same_meshes(model: FaceModel, meshes: MeshArrays) -> None:
    again, other = combine(model, _CONFIG, seed=0), combine(model, _CONFIG, seed=1)

    for split, vertices in meshes.vertices.items():
        np.testing.assert_array_equal(vertices, again.vertices[split])
        assert np.abs(vertices - other.vertices[split]).max() > 0.1
    assert meshes.names == again.names


def test_a_split_does_not_depend_on_which_others_are_drawn(
    model: FaceModel, meshes: MeshArrays
) -> None:
    alone = combine(model, _CONFIG, seed=0, splits=["expression"])

    np.testing.assert_array_equal(alone.vertices["expression"], meshes.vertices["expression"])


def test_splits_are_apart_in_identity_and_in_expression(meshes: MeshArrays) -> None:
    who = {s: {n.split("/")[0] for n in names} for s, names in meshes.names.items()}
    what = {s: {n.split("/")[1] for n in names} for s, names in meshes.names.items()}

    assert {len(v) for v in meshes.vertices.values()} == {60, 20}
    for split in ("validation", "both"):
        assert not who[split] & who["train"]
        assert not what[split] & what["train"]
    assert not who["identity"] & who["train"]
    assert what["identity"] <= what["train"] | {n for n in what["identity"] if "train" in n}
    assert not what["expression"] & what["train"]
    assert not who["both"] & who["validation"]


def test_without_strength_a_mesh_is_its_identity(model: FaceModel) -> None:
    config = _CONFIG.model_copy(update={"unit_threshold": 0.99})  # no unit ever moves
    meshes = combine(model, config, seed=0, splits=["train"])

    moved = (meshes.vertices["train"] - model.neutral).reshape(60, -1)

    basis = np.linalg.svd(model.identities[:2].reshape(2, -1), full_matrices=False)[2]
    np.testing.assert_allclose(moved @ basis.T @ basis, moved, atol=1e-3)


def test_units_only_push_and_never_more_than_whole(model: FaceModel, meshes: MeshArrays) -> None:
    modes = np.concatenate([model.identities[:2], model.units]).reshape(5, -1).astype(np.float64)
    moved = (meshes.vertices["train"] - model.neutral).reshape(60, -1)

    weights = np.linalg.lstsq(modes.T, moved.T, rcond=None)[0].T

    units = weights[:, 2:]
    assert units.min() > -1e-3
    assert units.max() < 1 + 1e-3
    assert (np.abs(units) < 1e-3).mean() > 0.3  # few at a time
    assert units.max() > 0.2


def test_simplified_models_keep_their_moves(model: FaceModel) -> None:
    small = simplified(model, 60)

    assert small.neutral.shape == (60, 3)
    assert small.units.shape == (3, 60, 3)
    assert small.faces.max() == 59
    assert {tuple(v) for v in small.neutral} <= {tuple(v) for v in model.neutral}
    assert simplified(model, 0) is model

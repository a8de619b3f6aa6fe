"""What an evaluation of meshes is made of."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from facegen.training import load_mesh_run
from facegen.training.mesh.explanations import explain
from facegen.training.mesh.gallery import principal_axes
from facegen.training.mesh.generation import nearest_mm
from facegen.training.mesh.latents import decode_meshes, encode_meshes
from facegen.training.mesh.measuring import (
    THRESHOLDS_MM,
    MeasuredMeshes,
    MeshEvaluationOptions,
    cumulative_error,
    measure_meshes,
)
from facegen.training.mesh.principal import PrincipalComponents
from facegen.training.prior import MixturePrior

QUICK = MeshEvaluationOptions(timing_seconds=0.0)


def draw_meshes(count: int, *, rank: int, seed: int = 0) -> NDArray[np.float32]:
    """Meshes of 20 vertices far from 0 that differ in so many directions, and a little in all."""
    random = np.random.default_rng(seed)
    directions = (
        np.random.default_rng(9).standard_normal((rank, 60))
        * 2.0 ** np.arange(rank, 0, -1)[:, None]
    )
    flat = 100 + random.standard_normal((count, rank)) @ directions
    flat += 0.01 * random.standard_normal((count, 60))
    return flat.reshape(count, 20, 3).astype(np.float32)


def plain_pca(
    train: NDArray[np.float32], meshes: NDArray[np.float32], count: int
) -> NDArray[np.float64]:
    """What PCA keeps of meshes, by the singular value decomposition of all in 64 bits."""
    flat = train.reshape(len(train), -1).astype(np.float64)
    axes = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2][:count]
    moved = meshes.reshape(len(meshes), -1) - flat.mean(axis=0)
    kept: NDArray[np.float64] = (moved @ axes.T @ axes + flat.mean(axis=0)).reshape(meshes.shape)
    return kept


@pytest.fixture(scope="module")
def measured(mesh_runs: Mapping[str, Path]) -> MeasuredMeshes:
    run = load_mesh_run(mesh_runs["sage"])
    return measure_meshes(run, run.meshes(), QUICK)


def test_principal_components_are_those_of_a_decomposition_of_all() -> None:
    train, unseen = draw_meshes(600, rank=6), draw_meshes(40, rank=6, seed=1)

    pca = PrincipalComponents.fit(train, 4)

    np.testing.assert_allclose(pca.reconstruct(unseen), plain_pca(train, unseen, 4), atol=2e-3)
    flat = train.reshape(600, -1).astype(np.float64)
    values = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(pca.deviations, values[:4] / np.sqrt(599), rtol=1e-4)


def test_principal_components_draw_what_they_were_fitted_to() -> None:
    pca = PrincipalComponents.fit(draw_meshes(600, rank=3), 3)
    noise = np.random.default_rng(2).standard_normal((4000, 3)).astype(np.float32)

    drawn = pca.sample(noise)

    np.testing.assert_allclose(drawn.mean(axis=0), pca.mean, atol=1.0)
    spread = np.sqrt(np.square(drawn - pca.mean).sum(axis=(1, 2)).mean())
    assert spread == pytest.approx(np.sqrt(np.square(pca.deviations).sum()), rel=0.05)


def test_few_meshes_give_few_components() -> None:
    meshes = draw_meshes(3, rank=6)

    pca = PrincipalComponents.fit(meshes, 8)

    assert len(pca.directions) == 2
    np.testing.assert_allclose(pca.reconstruct(meshes), meshes, atol=1e-2)


def test_nearest_mesh_is_found_in_any_block() -> None:
    meshes, queries = draw_meshes(600, rank=6), draw_meshes(30, rank=6, seed=1)
    queries[0] = meshes[555]

    found = nearest_mm(queries, meshes, centre=meshes.mean(axis=0))

    distances = cdist(queries.reshape(30, -1), meshes.reshape(600, -1)).min(axis=1)
    np.testing.assert_allclose(found, distances / np.sqrt(20), rtol=1e-5)
    assert found[0] == 0


def test_cumulative_error_counts_vertices_up_to_each_tenth_of_a_millimetre() -> None:
    errors = np.array([[0.0, 0.05], [1.0, 25.0]], np.float32)

    shares = cumulative_error(errors)

    at = dict(zip(THRESHOLDS_MM, shares, strict=True))
    assert (THRESHOLDS_MM[0], THRESHOLDS_MM[-1], len(shares)) == (0.0, 10.0, 101)
    assert [at[0.0], at[0.1], at[0.9], at[1.0], at[10.0]] == [0.25, 0.5, 0.5, 0.75, 0.75]


def test_axes_of_a_mixture_are_those_of_its_samples() -> None:
    random = np.random.default_rng(0)
    trils = np.tril(random.standard_normal((3, 4, 4))).astype(np.float32)
    weights = np.array([0.2, 0.3, 0.5], np.float32)
    means = 3 * random.standard_normal((3, 4)).astype(np.float32)
    prior = MixturePrior(weights, means, trils)
    noise = random.standard_normal((200_000, 4), dtype=np.float32)

    centre, axes, shares = principal_axes(prior)

    drawn = prior.sample(noise, random.random(200_000, dtype=np.float32))
    np.testing.assert_allclose(centre, drawn.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(axes.T @ axes, np.cov(drawn, rowvar=False), atol=0.2)
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(np.linalg.norm(axes, axis=1)) <= 0).all()


def test_errors_are_those_of_the_model_and_of_pca_on_every_split(
    mesh_runs: Mapping[str, Path], measured: MeasuredMeshes
) -> None:
    run = load_mesh_run(mesh_runs["sage"])
    meshes = run.meshes().vertices

    assert list(measured.splits) == ["validation", "identity", "expression", "both"]
    assert measured.main == "both"
    for name in measured.splits:
        decoded = decode_meshes(run.model, encode_meshes(run.model, meshes[name]))
        errors = np.linalg.norm(decoded.astype(np.float64) - meshes[name], axis=2)
        rivals = np.linalg.norm(plain_pca(meshes["train"], meshes[name], 3) - meshes[name], axis=2)
        wanted = {
            f"vertex_error_mm_{name}": errors.mean(),
            f"vertex_error_std_mm_{name}": errors.std(),
            f"vertex_error_median_mm_{name}": np.median(errors),
            f"pca_vertex_error_mm_{name}": rivals.mean(),
            f"pca_vertex_error_std_mm_{name}": rivals.std(),
            f"pca_vertex_error_median_mm_{name}": np.median(rivals),
            f"vertex_error_to_pca_{name}": errors.mean() / rivals.mean(),
        }
        found = {key: measured.numbers[key] for key in wanted}
        assert found == pytest.approx(wanted, rel=1e-3)


def test_unseen_meshes_stand_beside_samples_as_floor(
    mesh_runs: Mapping[str, Path], measured: MeasuredMeshes
) -> None:
    meshes = load_mesh_run(mesh_runs["sage"]).meshes().vertices
    train, unseen = (meshes[it].reshape(len(meshes[it]), -1) for it in ("train", "both"))

    distances = cdist(unseen, train) / np.sqrt(162)

    rows = measured.draws.rows[:12]
    numbers = measured.numbers
    assert measured.sample_count == 12
    assert numbers["specificity_mm_floor"] == pytest.approx(distances.min(axis=1).mean(), rel=1e-4)
    floor = distances[:, rows].min(axis=1).mean()
    assert numbers["variety_mm_floor"] == pytest.approx(floor, rel=1e-4)
    # A sample is as far from the mixture's centre as the latents are; of N(0, I) it need not be.
    for kind in ("specificity", "variety"):
        assert numbers[f"{kind}_mm_mixture"] != numbers[f"{kind}_mm_normal"]


def test_many_meshes_are_taken_all_over_a_split(mesh_runs: Mapping[str, Path]) -> None:
    run = load_mesh_run(mesh_runs["sage"])
    meshes = run.meshes()

    found = measure_meshes(run, meshes, MeshEvaluationOptions(count=3, timing_seconds=0.0))

    names = meshes.names["both"]
    assert found.splits["both"].names == (names[0], names[6], names[11])
    np.testing.assert_array_equal(
        found.splits["both"].vertices, meshes.vertices["both"][[0, 6, 11]]
    )


def test_only_a_vae_has_a_divergence(
    mesh_runs: Mapping[str, Path], measured: MeasuredMeshes
) -> None:
    run = load_mesh_run(mesh_runs["vae"])

    of_vae = measure_meshes(run, run.meshes(), QUICK)

    assert of_vae.numbers["kl_nats"] > 0
    assert 0 <= of_vae.numbers["active_units"] <= 3
    assert not of_vae.left_out
    assert set(measured.left_out) == {"kl_nats", "active_units"}
    assert "kl_nats" not in measured.numbers


def test_every_number_is_explained(mesh_runs: Mapping[str, Path], measured: MeasuredMeshes) -> None:
    run = load_mesh_run(mesh_runs["vae"])
    names = {*measured.numbers, *measure_meshes(run, run.meshes(), QUICK).numbers}

    explained = {name: explain(name) for name in names}

    assert {name for name, (_, words) in explained.items() if not words} == set()
    groups = {group for group, _ in explained.values()}
    assert {"Samples", "Latents", "Size and time", "Reconstruction: new people"} <= groups


def test_ranks_are_the_least_middle_and_largest_error(measured: MeasuredMeshes) -> None:
    split = measured.splits["both"]

    errors = [split.errors[row].mean() for row in split.ranked.values()]

    assert list(split.ranked) == ["best", "median", "worst"]
    ordered = np.sort(split.errors.mean(axis=1))
    np.testing.assert_array_equal(errors, ordered[[0, 5, -1]])

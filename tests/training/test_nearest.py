from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from facegen.training import MixturePrior, Run, load_run
from facegen.training.evaluation.networks import Judge
from facegen.training.features import FeatureNetwork
from facegen.training.nearest import (
    NearestPictures,
    draw_latents,
    find_nearest,
    nearest_neighbours,
    nearest_sheet,
)


def test_nearest_points_are_those_of_the_whole_table() -> None:
    random = np.random.default_rng(0)
    queries = random.random((7, 12)).astype(np.float32)
    points = random.integers(0, 256, (2500, 12), dtype=np.uint8)  # more than two blocks

    found = nearest_neighbours(queries, points, 3, scale=1 / 255)

    distances = np.linalg.norm(queries[:, None] - points / 255.0, axis=2)
    np.testing.assert_array_equal(found.rows, np.argsort(distances, axis=1)[:, :3])
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :3], rtol=1e-5)


def test_a_point_itself_is_nearest_at_no_distance() -> None:
    points = np.random.default_rng(1).random((40, 500)).astype(np.float32) + 100

    found = nearest_neighbours(points[[30, 2]], points, 9)

    assert found.rows[:, 0].tolist() == [30, 2]
    assert found.distances[:, 0].tolist() == [0, 0]


def test_more_neighbours_than_points_are_all_points() -> None:
    points = np.eye(3, dtype=np.float32)

    assert nearest_neighbours(points[:1], points, 10).rows.shape == (1, 3)


def test_samples_are_those_that_the_seed_and_index_give() -> None:
    prior = MixturePrior(
        np.array([0.5, 0.5], np.float32),
        np.array([[0, 0], [9, 9]], np.float32),
        np.stack([np.eye(2, dtype=np.float32)] * 2),
    )

    latents = draw_latents(prior, seed=3, count=5)

    generator = np.random.Generator(np.random.Philox(key=[3, 4]))
    noise = generator.standard_normal(2, dtype=np.float32)
    mean = 9 * (generator.random(dtype=np.float32) >= 0.5)
    np.testing.assert_allclose(latents[4], noise + mean, rtol=1e-6)


@pytest.fixture(scope="module")
def run(tiny_runs: Mapping[str, Path]) -> Run:
    return load_run(tiny_runs["vae"])


@pytest.fixture(scope="module")
def found(run: Run) -> NearestPictures:
    faces = run.faces()
    judge = Judge(FeatureNetwork(), faces.dataset, limit=len(faces.dataset.pictures))
    return find_nearest(run, faces, judge=judge, seed=0, count=5)


def test_statistics_compare_samples_with_new_faces(run: Run, found: NearestPictures) -> None:
    statistics = found.statistics

    assert (statistics["samples"], statistics["seed"]) == (5, 0)
    assert statistics["training_pictures"] == len(run.faces().pixels["train"])
    assert statistics["validation_pictures"] == len(run.validation_images(5))
    for space in ("features", "pixels"):
        them = statistics[space]
        assert them["ratio"] == pytest.approx(them["sample"] / them["validation"])
        assert them["sample"] > 0
    assert found.by_features.rows.shape == found.by_pixels.rows.shape == (5, 4)


def test_sheet_shows_samples_left_and_their_neighbours_right(
    run: Run, found: NearestPictures
) -> None:
    train = np.asarray(run.faces().pixels["train"])

    sheet = np.asarray(nearest_sheet(found, train, row_count=2))

    side, gap, caption = 64, 4, 16
    top = caption + side + gap  # of the second row
    np.testing.assert_array_equal(sheet[top : top + side, gap : gap + side], found.samples[1])
    left = gap + side + 2 * gap
    np.testing.assert_array_equal(
        sheet[top : top + side, left : left + side], train[found.by_features.rows[1, 0]]
    )
    left += 4 * side + 2 * gap
    np.testing.assert_array_equal(
        sheet[top : top + side, left : left + side], train[found.by_pixels.rows[1, 0]]
    )
    assert sheet.shape[0] == caption + 2 * (side + gap)

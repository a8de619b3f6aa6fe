import numpy as np
import pytest

from facegen.training.evaluation.neighbours import density_coverage, precision_recall


def cloud(count: int, *, center: float = 0.0, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return center + scale * np.random.default_rng(seed).standard_normal((count, 6))


def test_identical_sets_have_full_precision_recall_and_coverage() -> None:
    points = cloud(100)

    assert precision_recall(points, points) == (1.0, 1.0)
    assert density_coverage(points, points)[1] == 1.0


def test_disjoint_sets_have_none() -> None:
    real, fake = cloud(100), cloud(100, center=50.0, seed=1)

    assert precision_recall(real, fake) == (0.0, 0.0)
    assert density_coverage(real, fake) == (0.0, 0.0)


def test_samples_of_one_mode_are_precise_and_recall_half() -> None:
    real = np.concatenate([cloud(100), cloud(100, center=50.0, seed=1)])
    fake = cloud(200, seed=2)

    precision, recall = precision_recall(real, fake)

    assert precision > 0.8
    assert recall == pytest.approx(0.5, abs=0.1)
    assert density_coverage(real, fake)[1] == pytest.approx(0.5, abs=0.05)


def test_balls_reach_to_the_third_neighbour_by_hand() -> None:
    real = np.array([[0.0], [1.0], [2.0], [3.0]])  # radii 3, 2, 2, 3
    fake = np.array([[-3.0], [6.1], [5.9], [-3.1]])  # within 3 of 0, of none, within 3 of 3, none

    precision, _ = precision_recall(real, fake)

    assert precision == 0.5


def test_density_counts_the_balls_around_a_sample_by_hand() -> None:
    real = np.array([[0.0], [1.0], [10.0]])  # radii of the nearest: 1, 1, 9
    fake = np.array([[0.5], [30.0]])

    density, coverage = density_coverage(real, fake, neighbours=1)

    assert density == pytest.approx(2 / (1 * 2))  # 0.5 lies in the balls of 0 and 1
    assert coverage == pytest.approx(2 / 3)


def test_density_is_about_one_for_one_distribution_and_more_for_its_core() -> None:
    real, fake = cloud(800), cloud(800, seed=1)

    assert density_coverage(real, fake)[0] == pytest.approx(1.0, abs=0.1)
    assert density_coverage(real, 0.5 * fake)[0] > 1.3


def test_fewer_points_than_neighbours_are_measured_all_the_same() -> None:
    assert precision_recall(cloud(2), cloud(2)) == (1.0, 1.0)

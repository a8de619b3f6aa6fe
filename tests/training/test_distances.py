import numpy as np
import pytest

from facegen.training.distances import frechet_distance, kernel_distance


def gaussian(count: int, *, mean: float = 0.0, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return mean + scale * np.random.default_rng(seed).standard_normal((count, 4))


def test_frechet_distance_of_a_set_to_itself_is_zero() -> None:
    features = gaussian(500)

    assert frechet_distance(features, features) == pytest.approx(0.0, abs=1e-6)


def test_frechet_distance_of_shifted_and_scaled_gaussians_is_the_closed_form() -> None:
    real = gaussian(200)
    fake = 3.0 + 2.0 * real

    distance = frechet_distance(real, fake)

    gap = real.mean(0) - fake.mean(0)
    expected = gap @ gap + np.trace(np.cov(real, rowvar=False)) * (1 + 4 - 2 * 2)
    assert distance == pytest.approx(expected)


def test_frechet_distance_is_symmetric_when_features_are_correlated() -> None:
    mixing = np.random.default_rng(1).standard_normal((4, 4))
    real, fake = gaussian(300) @ mixing, gaussian(300, seed=2)

    assert frechet_distance(real, fake) == pytest.approx(frechet_distance(fake, real))


def test_frechet_distance_of_fewer_pictures_than_features_is_that_of_their_covariances() -> None:
    mixing = np.random.default_rng(1).standard_normal((40, 40))
    real = np.random.default_rng(2).standard_normal((30, 40)) @ mixing
    fake = np.random.default_rng(3).standard_normal((25, 40)) + 0.5

    distance = frechet_distance(real, fake)

    covariances = [np.cov(x, rowvar=False) for x in (real, fake)]
    root = np.sqrt(np.clip(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0, None)).sum()
    gap = real.mean(0) - fake.mean(0)
    assert distance == pytest.approx(gap @ gap + sum(map(np.trace, covariances)) - 2 * root)


def test_kernel_distance_is_about_zero_only_for_one_distribution() -> None:
    same = kernel_distance(gaussian(400), gaussian(400, seed=1))
    shifted = kernel_distance(gaussian(400), gaussian(400, mean=1.0, seed=1))

    assert abs(same) < 100
    assert shifted > 1_000

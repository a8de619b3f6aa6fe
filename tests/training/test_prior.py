from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facegen.training.prior import MixturePrior, fit_mixture


def two_clouds(count: int) -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    first = random.multivariate_normal([5, 0], [[1.0, 0.8], [0.8, 1.0]], count)
    second = random.multivariate_normal([-5, 30], [[0.1, 0.0], [0.0, 9.0]], 3 * count)
    return np.concatenate([first, second]).astype(np.float32)


def sample(prior: MixturePrior, count: int) -> NDArray[np.float32]:
    random = np.random.default_rng(1)
    noise = random.standard_normal((count, prior.means.shape[1]), dtype=np.float32)
    return prior.sample(noise, random.random((count, 1), dtype=np.float32))


def test_fitted_mixture_finds_weights_means_and_covariances() -> None:
    prior = fit_mixture(two_clouds(2000), 2)
    first, second = np.argsort(-prior.means[:, 0])

    np.testing.assert_allclose(prior.weights[[first, second]], [0.25, 0.75], atol=0.01)
    np.testing.assert_allclose(prior.means[first], [5, 0], atol=0.1)
    covariance = prior.scale_trils @ prior.scale_trils.swapaxes(1, 2)
    np.testing.assert_allclose(covariance[first], [[1.0, 0.8], [0.8, 1.0]], atol=0.1)
    np.testing.assert_allclose(covariance[second], [[0.1, 0.0], [0.0, 9.0]], atol=0.4)


def test_samples_have_the_moments_of_what_was_fitted() -> None:
    latents = two_clouds(2000)

    samples = sample(fit_mixture(latents, 2), 20_000)

    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples.mean(0), latents.mean(0), atol=0.3)
    np.testing.assert_allclose(np.cov(samples.T), np.cov(latents.T), rtol=0.05, atol=0.5)


def test_candidates_are_chosen_by_the_information_criterion() -> None:
    prior = fit_mixture(two_clouds(300), 1, candidates=(1, 2, 6))

    assert len(prior.weights) == 2


def test_uniform_zero_and_almost_one_choose_the_ends() -> None:
    prior = fit_mixture(two_clouds(300), 2)
    uniform = np.array([0, np.nextafter(np.float32(1), np.float32(0))], np.float32)

    latents = prior.sample(np.zeros((2, 2), np.float32), uniform)

    np.testing.assert_allclose(latents, prior.means, rtol=1e-6)


def test_saved_mixture_reads_back_equal(tmp_path: Path) -> None:
    prior = fit_mixture(two_clouds(100), 3)

    prior.save(tmp_path / "prior.npz")
    again = MixturePrior.load(tmp_path / "prior.npz")

    np.testing.assert_array_equal(sample(prior, 50), sample(again, 50))


def test_fewer_latents_than_components_still_fit() -> None:
    assert len(fit_mixture(two_clouds(1), 10).weights) <= 4

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facegen.training.prior import MixturePrior, fit_mixture, shrinkage


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
    # Shrinking adds a thousandth of the whole's variance, 176 along the second axis.
    np.testing.assert_allclose(covariance[first], [[1.0, 0.8], [0.8, 1.0]], atol=0.2)
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


def correlated(count: int, *, seed: int, size: int = 20) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    root = np.random.default_rng(7).standard_normal((size, size)) + 3 * np.eye(size)
    return (random.standard_normal((count, size)) @ root).astype(np.float32)


def log_likelihood(prior: MixturePrior, latents: NDArray[np.float32]) -> float:
    """The mean of a mixture of one component, without its constant."""
    root = prior.scale_trils[0].astype(np.float64)
    white = np.linalg.solve(root, (latents - prior.means[0]).T)
    return float(-np.square(white).sum(0).mean() / 2 - np.log(np.diag(root)).sum())


def test_few_latents_of_a_part_borrow_the_covariance_of_the_whole() -> None:
    whole, part, unseen = correlated(5000, seed=1), correlated(15, seed=2), correlated(500, seed=3)

    alone = fit_mixture(part, 1)
    borrowed = fit_mixture(part, 1, reference=whole)

    true = fit_mixture(correlated(20_000, seed=4), 1)
    assert log_likelihood(borrowed, unseen) > log_likelihood(alone, unseen) + 2
    assert log_likelihood(borrowed, unseen) > log_likelihood(true, unseen) - 4


def test_part_keeps_the_mean_and_with_many_latents_the_covariance_of_its_own() -> None:
    part = correlated(20_000, seed=5) * np.float32(0.5) + np.float32(3)

    prior = fit_mixture(part, 1, reference=correlated(5000, seed=6))

    covariance = prior.scale_trils[0] @ prior.scale_trils[0].T
    np.testing.assert_allclose(prior.means[0], part.mean(0), atol=1e-3)
    np.testing.assert_allclose(covariance, np.cov(part.T), atol=0.05)


def test_shrinkage_falls_with_the_number_of_samples_and_is_all_for_none_to_speak_of() -> None:
    covariance = np.diag([4.0, 1.0, 1.0, 0.1])

    shares = [shrinkage(covariance, count) for count in (1, 10, 100, 10_000)]

    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 1e-3
    assert shrinkage(np.eye(4), 50) == 1  # it is the target already


def test_two_mirrored_latents_do_not_pass_for_a_covariance() -> None:
    whole = correlated(1000, seed=8)
    pair = np.stack([whole[0], -whole[0]])

    prior = fit_mixture(pair, 1, reference=whole)

    narrowest = [
        np.linalg.svd(fitted.scale_trils[0], compute_uv=False)[-1]
        for fitted in (prior, fit_mixture(whole, 1))
    ]
    assert narrowest[0] > 0.2 * narrowest[1]


def test_latents_all_alike_still_fit() -> None:
    prior = fit_mixture(np.ones((30, 3), np.float32), 1)

    np.testing.assert_allclose(sample(prior, 20), 1, atol=1e-3)


def test_saving_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    fit_mixture(two_clouds(20), 1).save(tmp_path / "prior.npz")

    assert [path.name for path in tmp_path.iterdir()] == ["prior.npz"]

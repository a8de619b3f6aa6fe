import math

import numpy as np
import pytest

from facegen.training.evaluation.likelihood import (
    active_units,
    aggregate_kl,
    best_sigma,
    bits_per_dimension,
    kl_nats,
    posterior_sample,
    squared_error,
)
from facegen.training.evaluation.subject import Encoded

RANDOM = np.random.default_rng


def encoded(count: int, size: int, *, mean: float = 0.0, logvar: float = 0.0) -> Encoded:
    shape = (count, size)
    return Encoded(np.full(shape, mean, np.float32), np.full(shape, logvar, np.float32))


def test_bits_of_a_perfect_reconstruction_are_those_of_the_dequantisation_noise() -> None:
    sigma = best_sigma(np.zeros(3), 12)

    bits = bits_per_dimension(np.zeros(3), np.zeros(3), sigma=sigma, value_count=12)

    # The differential entropy of a Gaussian with the variance of uniform noise, by hand.
    assert sigma == pytest.approx(math.sqrt(1 / 12))
    assert bits == pytest.approx(0.5 * math.log2(2 * math.pi * math.e / 12))


def test_bits_are_those_of_a_calculation_by_hand() -> None:
    # Two values, squared error 8 in all, sigma 2, KL 3 nats.
    bits = bits_per_dimension(np.array([8.0]), np.array([3.0]), sigma=2.0, value_count=2)

    density = 2 * (math.log(2) + 0.5 * math.log(2 * math.pi)) + (8 + 2 / 12) / (2 * 4)
    assert bits == pytest.approx((density + 3) / (2 * math.log(2)))


def test_bits_in_levels_are_those_in_unit_intensities_and_eight() -> None:
    errors, kl, sigma, count = np.array([500.0, 900.0]), np.array([5.0, 7.0]), 6.0, 48

    bits = bits_per_dimension(errors, kl, sigma=sigma, value_count=count)

    # Pictures divided by 256: the density over [0, 1) and the explicit constant log2 256.
    unit_sigma, unit_errors = sigma / 256, (errors + count / 12) / 256**2
    constant = count * (math.log(unit_sigma) + 0.5 * math.log(2 * math.pi))
    nats = constant + unit_errors / (2 * unit_sigma**2) + kl
    assert bits == pytest.approx((nats / (count * math.log(2))).mean() + 8)


def test_bits_of_noise_by_simulation_agree_with_the_exact_integral() -> None:
    random = RANDOM(0)
    levels, rebuilt = random.integers(0, 256, 20_000), random.integers(0, 256, 20_000)
    noisy = levels + random.random(20_000)
    sigma = 90.0

    density = np.log(sigma) + 0.5 * np.log(2 * np.pi)
    simulated = density + np.square(noisy - (rebuilt + 0.5)) / (2 * sigma**2)
    exact = bits_per_dimension(
        np.array([np.square(levels - rebuilt).sum()], np.float64),
        np.zeros(1),
        sigma=sigma,
        value_count=20_000,
    )

    assert exact == pytest.approx(simulated.mean() / math.log(2), rel=1e-4)


def test_best_sigma_has_the_fewest_bits() -> None:
    errors, count = np.array([300.0, 500.0]), 16
    best = best_sigma(errors, count)

    def bits(sigma: float) -> float:
        return bits_per_dimension(errors, np.zeros(2), sigma=sigma, value_count=count)

    assert bits(best) < min(bits(1.02 * best), bits(0.98 * best))


def test_squared_error_does_not_wrap_around() -> None:
    black, white = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)

    assert squared_error(black, white).tolist() == [12 * 255.0**2]


def test_kl_of_the_prior_itself_is_zero_and_of_a_shift_half_its_square() -> None:
    assert kl_nats(encoded(2, 5)) == pytest.approx([0.0, 0.0])
    assert kl_nats(encoded(1, 4, mean=3.0)) == pytest.approx([4 * 4.5])


def test_collapsed_encoder_has_no_active_units() -> None:
    assert active_units(encoded(50, 8, mean=0.3).mean) == 0


def test_active_units_are_those_whose_mean_varies_by_more_than_a_hundredth() -> None:
    means = RANDOM(0).standard_normal((4_000, 3)) * np.sqrt([1.0, 0.02, 0.005])

    assert active_units(means.astype(np.float32)) == 2


def test_latents_that_fill_the_prior_have_no_aggregate_divergence() -> None:
    random = RANDOM(0)
    means = np.sqrt(0.75) * random.standard_normal((200_000, 2))
    whole = Encoded(means.astype(np.float32), np.full(means.shape, np.log(0.25), np.float32))

    assert aggregate_kl(whole) == pytest.approx(0.0, abs=1e-3)


def test_aggregate_divergence_of_a_shifted_wide_gaussian_is_the_closed_form() -> None:
    means = 2.0 + 3.0 * RANDOM(1).standard_normal((400_000, 1))

    found = aggregate_kl(Encoded(means.astype(np.float32), None))

    assert found == pytest.approx(0.5 * (9 + 4 - 1 - math.log(9)), rel=0.01)


def test_latents_that_leave_a_direction_empty_diverge_without_end() -> None:
    flat = np.zeros((10, 2), np.float32)
    flat[:, 0] = np.arange(10)

    assert aggregate_kl(Encoded(flat, None)) == math.inf


def test_posterior_sample_moves_by_deviations_and_leaves_an_autoencoder() -> None:
    noise = np.ones((2, 3), np.float32)

    drawn = posterior_sample(encoded(2, 3, mean=1.0, logvar=math.log(4)), noise)

    assert drawn == pytest.approx(np.full((2, 3), 3.0))
    means = np.zeros((2, 3), np.float32)
    assert posterior_sample(Encoded(means, None), noise) is means

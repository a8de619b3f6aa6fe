import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from skimage.metrics import structural_similarity
from torch.distributions import Normal
from torch.distributions import kl_divergence as exact_kl
from torch.nn import functional

from facegen.training.losses import (
    feature_distance,
    free_bits_kl,
    gaussian_nll,
    kl_divergence,
    maximum_mean_discrepancy,
    optimal_log_sigma,
    spectral_distance,
    squared_error,
    structural_dissimilarity,
)


def test_kl_divergence_is_the_distributions_summed_over_latents() -> None:
    mu, logvar = torch.randn(5, 7), torch.randn(5, 7)
    exact = exact_kl(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(1)

    torch.testing.assert_close(kl_divergence(mu, logvar), exact)


def test_likelihood_is_the_distributions_summed_over_values() -> None:
    x, reconstruction = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    density = Normal(reconstruction, 0.3)
    exact = -density.log_prob(x).flatten(1).sum(1)  # type: ignore[no-untyped-call]  # torch's

    found = gaussian_nll(reconstruction, x, torch.tensor(math.log(0.3)))

    torch.testing.assert_close(found, exact)


def test_optimal_sigma_makes_the_batch_most_likely() -> None:
    x, reconstruction = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    best = optimal_log_sigma(reconstruction, x)
    least = gaussian_nll(reconstruction, x, best).mean()

    for step in (-0.1, 0.1):
        assert gaussian_nll(reconstruction, x, best + step).mean() > least
    count = x[0].numel()
    mean_squared_error = (x - reconstruction).square().mean()
    constant = count / 2 * (1 + math.log(2 * math.pi))
    torch.testing.assert_close(least, count / 2 * mean_squared_error.log() + constant)


def test_perfect_reconstruction_has_a_finite_likelihood_and_gradient() -> None:
    x = torch.rand(1, 1, 4, 4)
    reconstruction = x.clone().requires_grad_()

    loss = gaussian_nll(reconstruction, x, optimal_log_sigma(reconstruction, x)).sum()
    (gradient,) = torch.autograd.grad(loss, reconstruction)

    assert torch.isfinite(gradient).all()


def test_squared_error_is_summed_over_an_image() -> None:
    found = squared_error(torch.zeros(2, 3, 2, 2), torch.full((2, 3, 2, 2), 0.5))

    assert found.tolist() == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize("shape", [(3, 3, 64, 64), (2, 1, 48, 32)])
def test_structural_dissimilarity_is_one_minus_the_reference_similarity(
    shape: tuple[int, ...],
) -> None:
    x = torch.rand(shape)
    reconstruction = 0.7 * x + 0.3 * torch.rand(shape)
    similar = [
        structural_similarity(  # type: ignore[no-untyped-call]  # skimage has no types
            a.numpy(), b.numpy(), win_size=7, data_range=1.0, channel_axis=0,
            gaussian_weights=False, use_sample_covariance=False,
        )
        for a, b in zip(x, reconstruction, strict=True)
    ]  # fmt: skip

    found = structural_dissimilarity(reconstruction, x)

    torch.testing.assert_close(found, 1 - torch.tensor(similar), atol=1e-4, rtol=0)


def test_structural_dissimilarity_of_equal_pictures_is_zero() -> None:
    x = torch.rand(2, 3, 16, 16)

    torch.testing.assert_close(structural_dissimilarity(x, x), torch.zeros(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("loss", [structural_dissimilarity, spectral_distance])
def test_losses_of_small_differences_keep_32_bits_under_autocast(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> None:
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    blurred = functional.avg_pool2d(x, 5, stride=1, padding=2)
    exact = loss(blurred, x)

    with torch.autocast("cpu", torch.bfloat16):
        found = loss(blurred, x)

    torch.testing.assert_close(found, exact)


def test_spectral_distance_is_that_of_the_cosine_transforms_powers() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.rand(5, 3, 16, 12, generator=random)
    decoded = torch.rand(7, 3, 16, 12, generator=random)

    made, real = (
        np.square(dctn(pictures.double().numpy(), axes=(1, 2, 3), norm="ortho")).mean(0)
        + 1 / (12 * 255**2)
        for pictures in (decoded, x)
    )
    expected = np.square(np.log(made / real)).mean()

    assert float(spectral_distance(decoded, x)) == pytest.approx(expected, rel=1e-4)
    assert float(spectral_distance(x, x)) == 0


def test_spectral_distance_sees_beads_where_others_see_texture() -> None:
    x = 0.1 * torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0)) + 0.5
    again = 0.1 * torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(1)) + 0.5
    wave = torch.cos(torch.arange(32) * math.pi / 2)  # a period of four pixels
    beads = 0.5 + 0.2 * wave * wave[:, None]

    torch.testing.assert_close(beads.std(), x.std(), atol=0.02, rtol=0)
    assert spectral_distance(again, x) < 0.1
    assert spectral_distance(beads.expand_as(x), x) > 10


def test_free_bits_count_what_goes_beyond_them() -> None:
    mu = torch.tensor([[2.0, 0.1], [-2.0, 0.1]])
    logvar = torch.zeros(2, 2)

    paid = free_bits_kl(mu, logvar, 0.5)

    torch.testing.assert_close(paid, torch.tensor(2.0 + 0.5))  # ½ · 2², and ½ · 0.1² raised to ½
    torch.testing.assert_close(free_bits_kl(mu, logvar, 0.0), kl_divergence(mu, logvar).mean())


def test_a_silent_latent_value_has_no_gradient_under_free_bits() -> None:
    mu = torch.tensor([[2.0, 0.1], [-2.0, 0.1]], requires_grad=True)

    torch.autograd.backward(free_bits_kl(mu, torch.zeros(2, 2), 0.5))

    assert mu.grad is not None
    assert mu.grad[:, 0].abs().min() > 0
    assert mu.grad[:, 1].eq(0).all()


def test_discrepancy_is_about_zero_for_the_prior_and_large_for_others() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(400, 8, generator=random) for _ in range(2))

    assert maximum_mean_discrepancy(a, b).abs() < 0.02
    assert maximum_mean_discrepancy(3 * a, b) > 0.5
    assert maximum_mean_discrepancy(a + 1, b) > 0.5


def test_discrepancy_is_the_kernels_of_two_points_by_hand() -> None:
    z, draws = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [1.0]])
    scales = [2 * s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)]

    def k(squared: float) -> float:
        return sum(c / (c + squared) for c in scales)

    expected = k(4) + k(1) - 2 * (k(0) + k(1) + k(4) + k(1)) / 4

    torch.testing.assert_close(maximum_mean_discrepancy(z, draws), torch.tensor(expected))


def test_feature_distance_is_the_mean_over_maps_of_each_maps_mean() -> None:
    x = [torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 2, 2)]
    y = [torch.full((2, 3, 4, 4), -1.0), torch.full((2, 5, 2, 2), 3.0)]

    torch.testing.assert_close(feature_distance(y, x), torch.tensor([2.0, 2.0]))

import math

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as exact_kl

from facegen.training.losses import (
    gaussian_nll,
    kl_divergence,
    optimal_log_sigma,
    squared_error,
)


def test_kl_divergence_is_the_distributions_summed_over_latents() -> None:
    mu, logvar = torch.randn(5, 7), torch.randn(5, 7)
    exact = exact_kl(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(1)

    torch.testing.assert_close(kl_divergence(mu, logvar), exact)


def test_likelihood_is_the_distributions_summed_over_values() -> None:
    x, reconstruction = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    exact = -Normal(reconstruction, 0.3).log_prob(x).flatten(1).sum(1)

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

    gaussian_nll(reconstruction, x, optimal_log_sigma(reconstruction, x)).sum().backward()

    assert reconstruction.grad is not None
    assert torch.isfinite(reconstruction.grad).all()


def test_squared_error_is_summed_over_an_image() -> None:
    found = squared_error(torch.zeros(2, 3, 2, 2), torch.full((2, 3, 2, 2), 0.5))

    assert found.tolist() == pytest.approx([3.0, 3.0])

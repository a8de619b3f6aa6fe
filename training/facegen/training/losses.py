"""Losses as plain functions, one formula each: sums over an image's values, never averaged over them."""

import math

import torch
from torch import Tensor

__all__ = ["gaussian_nll", "kl_divergence", "optimal_log_sigma", "squared_error"]

_MINIMUM_LOG_SIGMA = -6.0
"""About a quarter of an 8-bit level: a perfect reconstruction must not make the likelihood infinite."""


def squared_error(reconstruction: Tensor, x: Tensor) -> Tensor:
    """Squared distance of reconstructions from pictures, ‖x − d(z)‖².

    Args:
        reconstruction: (B, C, H, W), not clamped.
        x: (B, C, H, W) in [0, 1].

    Returns:
        (B,): summed over an image's values.
    """
    return (reconstruction - x).square().flatten(1).sum(1)


def optimal_log_sigma(reconstruction: Tensor, x: Tensor) -> Tensor:
    """Logarithm of the output deviation that makes a batch most likely, ½ log MSE.

    Rybkin et al. (2021), Simple and Effective VAE Training with Calibrated Decoders,
    https://arxiv.org/abs/2006.13202, equation 6: one sigma shared by all values, found analytically.

    Args:
        reconstruction: (B, C, H, W), not clamped.
        x: (B, C, H, W) in [0, 1].

    Returns:
        (): in units of [0, 1] intensities.
    """
    mean_squared_error = (reconstruction - x).square().mean()
    return 0.5 * torch.log(mean_squared_error.clamp_min(math.exp(2 * _MINIMUM_LOG_SIGMA)))


def gaussian_nll(reconstruction: Tensor, x: Tensor, log_sigma: Tensor) -> Tensor:
    """Negative log-likelihood of pictures under N(reconstruction, sigma²), in nats.

    With `log_sigma` from `optimal_log_sigma` its batch mean is D/2 · log MSE and a constant.

    Args:
        reconstruction: (B, C, H, W), not clamped.
        x: (B, C, H, W) in [0, 1].
        log_sigma: () or (B,).

    Returns:
        (B,): summed over an image's D values.
    """
    count = x[0].numel()
    constant = log_sigma + 0.5 * math.log(2 * math.pi)
    return count * constant + 0.5 * squared_error(reconstruction, x) * torch.exp(-2 * log_sigma)


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mu, exp(logvar)) from N(0, I), in nats.

    Kingma & Welling (2014), https://arxiv.org/abs/1312.6114, appendix B.

    Args:
        mu: Posterior means, (B, Z).
        logvar: Logarithms of the posterior variances, (B, Z).

    Returns:
        (B,): summed over the latent axis, not averaged, so that `beta` keeps the paper's meaning.
    """
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1)

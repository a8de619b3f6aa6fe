"""The objective of autoencoders: the terms of a recipe, weighed and added."""

from typing import NamedTuple

import torch
from torch import Tensor

from facegen.training.autoencoder import AutoencoderOutput, Posterior
from facegen.training.losses import (
    free_bits_kl,
    gaussian_nll,
    kl_divergence,
    maximum_mean_discrepancy,
    optimal_log_sigma,
    squared_error,
    structural_dissimilarity,
)
from facegen.training.processes import mean_over_processes, process_count
from facegen.training.recipes import LossConfig

__all__ = ["LossTerms", "objective"]


class LossTerms(NamedTuple):
    """The objective and its parts, means over a batch of sums over an image."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor
    sigma: Tensor


def objective(
    outputs: AutoencoderOutput,
    x: Tensor,
    config: LossConfig,
    *,
    noise: Tensor | None = None,
    step: int | None = None,
) -> LossTerms:
    """The loss of a batch.

    Args:
        outputs: What the model made of the batch.
        x: The batch, (B, C, H, W) in [0, 1].
        config: The terms and their weights.
        noise: Draws from N(0, I), (B, Z); a discrepancy from the prior needs them.
        step: Of the training, for what is warmed up; None weighs it in full.

    Returns:
        Scalars: nats where the variance is learned, squared intensities plus beta · nats otherwise.
        `sigma` is the output deviation, root of the mean squared error; `kl` is without free bits.
    """
    log_sigma = _of_whole_batch(optimal_log_sigma(outputs.reconstruction, x), len(x))
    if config.reconstruction == "sigma":
        reconstruction = gaussian_nll(outputs.reconstruction, x, log_sigma).mean()
    else:
        reconstruction = squared_error(outputs.reconstruction, x).mean()
    kl, paid = _kl(outputs.posterior, config)
    total = reconstruction
    if config.reconstruction != "mse":
        total = total + config.beta * _warmth(config, step) * paid
    if config.ssim_weight:
        dissimilarity = structural_dissimilarity(outputs.reconstruction, x).mean()
        total = total + config.ssim_weight * x[0].numel() * dissimilarity
    if config.mmd_weight:
        assert noise is not None, "the module draws it"
        total = total + config.mmd_weight * maximum_mean_discrepancy(outputs.latent.float(), noise)
    return LossTerms(total, reconstruction, kl, log_sigma.exp())


def _of_whole_batch(log_sigma: Tensor, rows: int) -> Tensor:
    """The deviation that suits all processes' rows best, from what suits this one's.

    Without gradients: at the optimum the likelihood's derivative by sigma is nothing.
    """
    if process_count() == 1:
        return log_sigma
    variance = torch.exp(2 * log_sigma.detach())
    return 0.5 * torch.log(mean_over_processes(variance, rows=rows))


def _kl(posterior: Posterior, config: LossConfig) -> tuple[Tensor, Tensor]:
    """The KL divergence, and what of it is paid for; nothing without variances."""
    mu, logvar = posterior
    if logvar is None:
        nothing = mu.new_zeros(())
        return nothing, nothing
    kl = kl_divergence(mu.float(), logvar.float()).mean()
    if not config.free_nats:
        return kl, kl
    return kl, free_bits_kl(mu.float(), logvar.float(), config.free_nats)


def _warmth(config: LossConfig, step: int | None) -> float:
    if step is None or not config.beta_warmup_steps:
        return 1.0
    return min(1.0, (step + 1) / config.beta_warmup_steps)

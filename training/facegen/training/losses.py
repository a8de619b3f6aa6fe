"""Losses as plain functions, one formula each: sums over an image's values, never averages."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "feature_distance",
    "free_bits_kl",
    "gaussian_nll",
    "kl_divergence",
    "maximum_mean_discrepancy",
    "optimal_log_sigma",
    "spectral_distance",
    "squared_error",
    "structural_dissimilarity",
]

_SSIM_WINDOW_PX = 7
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2
"""The paper's constants for pictures in [0, 1]."""

_MMD_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

_LEVEL_VARIANCE = 1 / (12 * 255**2)
"""Of what rounding to 8 bits adds to a value: weaker waves do not count."""

_MINIMUM_LOG_SIGMA = -6.0
"""Half an 8-bit level: a perfect reconstruction must not make the likelihood infinite."""


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
    https://arxiv.org/abs/2006.13202, equation 6: one sigma for all values, found analytically.

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

    With the optimal sigma a batch's mean is D/2 · log MSE and a constant.

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


def free_bits_kl(mu: Tensor, logvar: Tensor, free_nats: float) -> Tensor:
    """KL divergence of a batch of which the first nats of every latent value are free.

    Kingma et al. (2016), https://arxiv.org/abs/1606.04934, equation 15, each value a group: no
    value gains by falling silent.

    Args:
        mu: Posterior means, (B, Z).
        logvar: Logarithms of the posterior variances, (B, Z).
        free_nats: What each value may tell, as a mean over the batch, in nats.

    Returns:
        (): summed over the latent axis, at least Z · free_nats.
    """
    each = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).mean(0)  # (Z)
    return each.clamp_min(free_nats).sum()


def maximum_mean_discrepancy(z: Tensor, draws: Tensor) -> Tensor:
    """Unbiased squared discrepancy of latents from draws of N(0, I), as in Wasserstein AEs.

    Tolstikhin et al. (2018), https://arxiv.org/abs/1711.01558, section 4 and its code: inverse
    multiquadratics, C / (C + ‖a − b‖²), of scales C = 2 Z s for s from 0.1 to 10.

    Args:
        z: Latents, (B, Z), at least 2.
        draws: From N(0, I), (B, Z).

    Returns:
        (): about 0, and at times below, for equal distributions; at most 14.
    """
    count, size = z.shape
    scales = 2 * size * z.new_tensor(_MMD_SCALES)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        distances = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
        return (scales / (scales + distances[..., None])).sum(-1)  # (B, B)

    def off_diagonal(a: Tensor) -> Tensor:
        return (kernel(a, a).sum() - count * len(_MMD_SCALES)) / (count * (count - 1))

    return off_diagonal(z) + off_diagonal(draws) - 2 * kernel(z, draws).mean()


def structural_dissimilarity(reconstruction: Tensor, x: Tensor) -> Tensor:
    """One minus the structural similarity of pictures, which sees the contrast that was lost.

    Wang et al. (2004), Image Quality Assessment: From Error Visibility to Structural Similarity,
    equation 13, over uniform windows: five box filters cost a fraction of Gaussian ones.

    Args:
        reconstruction: (B, C, H, W), not clamped.
        x: (B, C, H, W) in [0, 1].

    Returns:
        (B,): mean over windows and channels, 0 where equal, at most 2.
    """
    x = x.float().contiguous()
    reconstruction = reconstruction.float().contiguous()
    rows, columns = (_box_filter(size, like=x) for size in x.shape[-2:])

    def local_mean(values: Tensor) -> Tensor:
        return rows @ values @ columns.T

    with _full_precision(x):  # variances are small differences
        mean_y, mean_x = local_mean(reconstruction), local_mean(x)
        product, squares = mean_y * mean_x, mean_y.square() + mean_x.square()
        covariance = local_mean(reconstruction * x) - product
        variances = local_mean(reconstruction.square() + x.square()) - squares
    similarity = (2 * product + _SSIM_C1) * (2 * covariance + _SSIM_C2)
    similarity = similarity / ((squares + _SSIM_C1) * (variances + _SSIM_C2))
    return 1 - similarity.flatten(1).mean(1)


def feature_distance(reconstruction: Sequence[Tensor], x: Sequence[Tensor]) -> Tensor:
    """Mean absolute distance of pictures in the maps of a frozen network, a perceptual loss.

    Johnson et al. (2016), https://arxiv.org/abs/1603.08155, section 3.2; the mean over maps.

    Args:
        reconstruction: Maps of reconstructions, (B, C, H, W) each, standardised.
        x: Maps of the pictures, likewise.

    Returns:
        (B,): 0 where equal, about 1 for pictures that share nothing.
    """
    gaps = [(r - p).abs().flatten(1).mean(1) for r, p in zip(reconstruction, x, strict=True)]
    return torch.stack(gaps).mean(0)


def spectral_distance(decoded: Tensor, x: Tensor) -> Tensor:
    """How far the spectrum of decoded pictures is from that of real ones, in square nats.

    Durall et al. (2020), Watch your Up-Convolution, https://arxiv.org/abs/2003.01826:
    up-convolutions draw texture in narrow peaks, and nothing between them. Here the spectrum is
    that of all axes, where the peaks are seen, and of means over pictures, so that no picture is
    asked for the texture of another.

    Args:
        decoded: Decoded faces, (N, C, H, W), clamped: nothing may stand where nobody sees it.
        x: Real pictures, (B, C, H, W) in [0, 1].

    Returns:
        (): mean over the cosines of all axes of the squared logarithm of the ratio of powers.
    """
    return torch.log(_mean_power(decoded) / _mean_power(x)).square().mean()


def _mean_power(x: Tensor) -> Tensor:
    """Mean over pictures of the power of cosines, (C, H, W): no edge leaks into them.

    Along the channels too, so that a spot of light is not taken for one of colour.
    """
    x = x.float()
    colours, rows, columns = (_cosines(size, like=x) for size in x.shape[1:])
    with _full_precision(x):
        waves = torch.einsum("dc,bchw->bdhw", colours, rows @ x @ columns.T)
    return waves.square().mean(0) + _LEVEL_VARIANCE


def _full_precision(x: Tensor) -> torch.autocast:
    """A context whose products are not rounded to bfloat16, whatever the training's precision."""
    return torch.autocast(x.device.type, enabled=False)


def _cosines(size: int, *, like: Tensor) -> Tensor:
    """The orthonormal discrete cosine transform of type II as a matrix, (size, size)."""
    n = torch.arange(size, device=like.device)
    waves = torch.cos(math.pi / size * (n + 0.5) * n[:, None])
    waves[0] *= math.sqrt(0.5)
    return waves * math.sqrt(2 / size)


def _box_filter(size: int, *, like: Tensor) -> Tensor:
    """The means of windows along an axis as a matrix: on a CPU six times as fast as pooling.

    Args:
        size: The axis's length.
        like: Gives device and dtype.

    Returns:
        (size - window + 1, size).
    """
    ones = torch.ones(size - _SSIM_WINDOW_PX + 1, size, device=like.device, dtype=like.dtype)
    return ones.triu().tril(_SSIM_WINDOW_PX - 1) / _SSIM_WINDOW_PX

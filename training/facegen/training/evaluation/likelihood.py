"""What a model's latents carry, and how many bits they leave for the picture."""

import math

import numpy as np
from numpy.typing import NDArray

from facegen.training.evaluation.subject import Encoded, Latents, Pixels

__all__ = [
    "ACTIVE_THRESHOLD",
    "active_units",
    "aggregate_kl",
    "best_sigma",
    "bits_per_dimension",
    "kl_nats",
    "posterior_sample",
    "squared_error",
]

ACTIVE_THRESHOLD = 0.01

_DEQUANTISATION_VARIANCE = 1 / 12
"""Of the uniform noise on [0, 1) that makes densities of 8-bit levels: Theis et al. (2016)."""

Values = NDArray[np.float64]


def squared_error(real: Pixels, rebuilt: Pixels) -> Values:
    """Squared distance of each picture from its reconstruction, (N,) in squared levels of 255."""
    gap = real.astype(np.float64) - rebuilt
    return np.asarray(np.square(gap).reshape(len(gap), -1).sum(axis=1))


def best_sigma(errors: Values, value_count: int) -> float:
    """The output deviation that makes pictures most likely, in levels of 255.

    Rybkin et al. (2021), https://arxiv.org/abs/2006.13202, equation 6, for dequantised pictures.

    Args:
        errors: Squared distances of pictures from their reconstructions, (N,).
        value_count: Values of a picture, H · W · C.
    """
    return math.sqrt(float(errors.mean()) / value_count + _DEQUANTISATION_VARIANCE)


def bits_per_dimension(errors: Values, kl: Values, *, sigma: float, value_count: int) -> float:
    """An upper bound of the bits that a value of an 8-bit picture costs, by the evidence bound.

    The decoder's density is N(reconstruction + ½, sigma²) of levels with uniform noise on [0, 1)
    added to them, as Theis et al. (2016), https://arxiv.org/abs/1511.01844, section 3.1, have it.
    The noise is integrated exactly: it adds 1/12 to each squared error. Densities are those of
    levels, so no constant is left to add; of pictures in [0, 1) they would be 256 times as high,
    and log2 256 = 8 bits would have to be added.

    Args:
        errors: Squared distances of pictures from reconstructions out of posterior samples, (N,).
        kl: Divergences of the posteriors from N(0, I), (N,) in nats.
        sigma: The output deviation in levels, chosen on other pictures.
        value_count: Values of a picture, H · W · C.

    Returns:
        Mean bits a value. A uniform guess costs 8.
    """
    noisy = errors + value_count * _DEQUANTISATION_VARIANCE
    nll = value_count * (math.log(sigma) + 0.5 * math.log(2 * math.pi)) + noisy / (2 * sigma**2)
    return float((nll + kl).mean() / (value_count * math.log(2)))


def kl_nats(encoded: Encoded) -> Values:
    """Divergence of each posterior from N(0, I), (N,) in nats: Kingma & Welling (2014), B."""
    assert encoded.logvar is not None
    mean, logvar = encoded.mean.astype(np.float64), encoded.logvar.astype(np.float64)
    return np.asarray(0.5 * (np.square(mean) + np.exp(logvar) - 1 - logvar).sum(axis=1))


def posterior_sample(encoded: Encoded, noise: Latents) -> Latents:
    """One latent of each posterior, (N, Z); the mean where there are no variances."""
    if encoded.logvar is None:
        return encoded.mean
    return np.asarray(encoded.mean + np.exp(0.5 * encoded.logvar) * noise, np.float32)


def active_units(means: Latents, *, threshold: float = ACTIVE_THRESHOLD) -> int:
    """Latent dimensions whose mean depends on the picture.

    Burda et al. (2016), https://arxiv.org/abs/1509.00519, section 5: the variance over pictures of
    the posterior's mean is above 0.01.

    Args:
        means: (N, Z), in units of N(0, I).
        threshold: The least variance.
    """
    return int((means.astype(np.float64).var(axis=0) > threshold).sum())


def aggregate_kl(encoded: Encoded) -> float:
    """Divergence from N(0, I) of the Gaussian with the moments of all posteriors, in nats.

    What N(0, I) misses as a prior: Hoffman & Johnson (2016), ELBO surgery, call the exact quantity
    the marginal KL.

    Args:
        encoded: More pictures than latent dimensions.

    Returns:
        0 where latents fill N(0, I); infinite where they leave a direction empty.
    """
    means = encoded.mean.astype(np.float64)
    covariance = np.cov(means, rowvar=False).reshape(means.shape[1], means.shape[1])
    if encoded.logvar is not None:
        covariance += np.diag(np.exp(encoded.logvar.astype(np.float64)).mean(axis=0))
    center = means.mean(axis=0)
    sign, logdet = np.linalg.slogdet(covariance)
    if sign <= 0:
        return math.inf
    return float(0.5 * (np.trace(covariance) + center @ center - len(center) - logdet))

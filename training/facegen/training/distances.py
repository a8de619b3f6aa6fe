"""Distances between two sets of feature vectors."""

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

__all__ = ["frechet_distance", "kernel_distance"]

Features = NDArray[np.float64]


def frechet_distance(real: Features, fake: Features) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features.

    Dowson & Landau (1982); for pictures Heusel et al. (2017), https://arxiv.org/abs/1706.08500.
    It is called FID only where Inception gives the features, so not here.

    Args:
        real: (N, F).
        fake: (M, F). The distance is biased upwards for few pictures: compare equal N and M only.

    Returns:
        The distance, at least 0 up to rounding.
    """
    mean_gap = real.mean(axis=0) - fake.mean(axis=0)
    a = (real - real.mean(axis=0)) / np.sqrt(len(real) - 1)
    b = (fake - fake.mean(axis=0)) / np.sqrt(len(fake) - 1)
    if len(a) * len(b) < a.shape[1] ** 2:
        # The covariances aᵀa and bᵀb have low rank, and their product's eigenvalues are the squares
        # of the singular values of abᵀ.
        trace_root = linalg.svdvals(a @ b.T).sum()
    else:
        # The trace of the square root of a product is the sum of the roots of its eigenvalues.
        eigenvalues = linalg.eigvals((a.T @ a) @ (b.T @ b))
        trace_root = np.sqrt(np.clip(eigenvalues.real, 0.0, None)).sum()
    traces = np.square(a).sum() + np.square(b).sum()
    return float(mean_gap @ mean_gap + traces - 2.0 * trace_root)


def kernel_distance(real: Features, fake: Features) -> float:
    """Unbiased squared maximum mean discrepancy under the cubic polynomial kernel, times 1,000.

    Bińkowski et al. (2018), https://arxiv.org/abs/1801.01401, eq. 4 and 5.

    Args:
        real: (N, F).
        fake: (M, F).

    Returns:
        The distance × 1,000; about 0, and at times below, for sets of one distribution.
    """

    def kernel(a: Features, b: Features) -> Features:
        return np.asarray((a @ b.T / a.shape[1] + 1.0) ** 3, dtype=np.float64)

    def mean_off_diagonal(matrix: Features) -> float:
        count = len(matrix)
        return float((matrix.sum() - np.trace(matrix)) / (count * (count - 1)))

    within = mean_off_diagonal(kernel(real, real)) + mean_off_diagonal(kernel(fake, fake))
    return 1_000.0 * (within - 2.0 * float(kernel(real, fake).mean()))

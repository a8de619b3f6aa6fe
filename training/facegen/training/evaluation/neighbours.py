"""Whether samples lie among real pictures, and real pictures among samples."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

__all__ = ["DENSITY_NEIGHBOURS", "PRECISION_NEIGHBOURS", "density_coverage", "precision_recall"]

Features = NDArray[np.float64]

PRECISION_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5


def precision_recall(
    real: Features, fake: Features, *, neighbours: int = PRECISION_NEIGHBOURS
) -> tuple[float, float]:
    """The share of samples among real pictures, and of real pictures among samples.

    Kynkäänniemi et al. (2019), https://arxiv.org/abs/1904.06991, equations 1 to 3: a set covers the
    balls around its members that reach to their k-th nearest neighbours.

    Args:
        real: (N, F).
        fake: (M, F). Both depend on the counts: compare equal N and M only.
        neighbours: k.

    Returns:
        Precision (realism) and recall (variety), 0 to 1.
    """
    distances = cdist(real, fake)
    precision = (distances <= _radii(real, neighbours)[:, None]).any(axis=0).mean()
    recall = (distances <= _radii(fake, neighbours)[None, :]).any(axis=1).mean()
    return float(precision), float(recall)


def density_coverage(
    real: Features, fake: Features, *, neighbours: int = DENSITY_NEIGHBOURS
) -> tuple[float, float]:
    """How many real balls a sample lies in, and the share of real balls with a sample in them.

    Naeem et al. (2020), https://arxiv.org/abs/2002.09797, equations 7 and 8: one odd real picture
    with a huge ball does not lift them as it lifts precision and recall.

    Args:
        real: (N, F).
        fake: (M, F).
        neighbours: k.

    Returns:
        Density, about 1 for one distribution and above it for samples in dense places alone, and
        coverage, 0 to 1.
    """
    inside = cdist(real, fake) <= _radii(real, neighbours)[:, None]
    k = min(neighbours, max(len(real) - 1, 1))
    return float(inside.sum() / (k * inside.shape[1])), float(inside.any(axis=1).mean())


def _radii(points: Features, neighbours: int) -> Features:
    """Distance of each point to its k-th nearest other, (N,); 0 for a lone point."""
    k = min(neighbours, len(points) - 1)  # a point is its own nearest
    return np.asarray(np.partition(cdist(points, points), k, axis=1)[:, k])

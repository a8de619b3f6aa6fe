"""Principal components of meshes: the linear model that a network has to beat."""

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["PrincipalComponents", "blocks"]

_BLOCK = 256
"""Meshes that are centred at a time: 15 MB of 5,000 vertices."""

_OVERSAMPLING = 12
_PASSES = 8
_SEED = 0

Reals = NDArray[np.float32]


class PrincipalComponents(NamedTuple):
    """A Gaussian around the mean mesh, in few directions.

    Attributes:
        mean: The mean mesh, (V, 3) in millimetres.
        directions: Of length 1, the widest first, (K, 3 V).
        deviations: Along them, in millimetres of all coordinates together, (K,).
    """

    mean: Reals
    directions: Reals
    deviations: Reals

    @classmethod
    def fit(cls, vertices: Reals, count: int) -> Self:
        """Find the directions without a copy of the meshes and without their covariance.

        Halko et al. (2011), Finding structure with randomness, https://arxiv.org/abs/0909.4061,
        algorithm 4.4: subspace iteration, of which each pass reads the meshes once.

        Args:
            vertices: (N, V, 3) in millimetres; may be mapped from disk.
            count: K; fewer where there are too few meshes.
        """
        rows, size = len(vertices), vertices[0].size
        kept = max(1, min(count, rows - 1, size))
        mean = vertices.mean(axis=0, dtype=np.float64).astype(np.float32)
        random = np.random.default_rng(_SEED)
        shape = (size, min(kept + _OVERSAMPLING, size))
        basis = random.standard_normal(shape, dtype=np.float32)
        for _ in range(_PASSES):
            basis = np.linalg.qr(_scattered(vertices, mean, basis))[0]
        small = basis.T.astype(np.float64) @ _scattered(vertices, mean, basis)
        values, vectors = np.linalg.eigh((small + small.T) / 2)
        order = np.argsort(-values)[:kept]
        variances = np.maximum(values[order], 0) / max(rows - 1, 1)
        return cls(
            mean,
            np.ascontiguousarray((basis @ vectors[:, order]).T, np.float32),
            np.sqrt(variances).astype(np.float32),
        )

    def reconstruct(self, vertices: Reals) -> Reals:
        """What the directions keep of meshes (N, V, 3)."""
        flat = (vertices - self.mean).reshape(len(vertices), -1)
        return self._meshes((flat @ self.directions.T) @ self.directions)

    def sample(self, noise: Reals) -> Reals:
        """Meshes (N, V, 3) of the Gaussian, from standard normal numbers (N, K)."""
        return self._meshes((noise * self.deviations) @ self.directions)

    def _meshes(self, moved: NDArray[np.floating]) -> Reals:
        return np.asarray(moved.reshape(len(moved), -1, 3) + self.mean, np.float32)


def blocks(vertices: Reals, *, size: int = _BLOCK) -> Iterator[Reals]:
    """Meshes (N, V, 3), some at a time."""
    for start in range(0, len(vertices), size):
        yield vertices[start : start + size]


def _scattered(vertices: Reals, mean: Reals, basis: Reals) -> Reals:
    """The scatter matrix of meshes times a basis (3 V, B)."""
    found = np.zeros_like(basis)
    for block in blocks(vertices):
        centred = (block - mean).reshape(len(block), -1)
        found += centred.T @ (centred @ basis)
    return found

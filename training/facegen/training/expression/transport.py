"""The least change that turns what is seen of one expression into what is seen of another."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["GaussianTransport"]


class GaussianTransport(nn.Module):
    """Optimal transport between Gaussians, in the space of the principal components of all groups.

    Peyré & Cuturi (2019), https://arxiv.org/abs/1803.00567, remark 2.31. What identity and pose
    contribute is alike in all groups and hardly moves; what lies beyond the components stays.

    Args:
        origins: A group (N, D) for each expression: faces that have it.
        goals: The same of what such faces are to become: perhaps the clearest of them.
        components: How many to keep, cut to D.
    """

    axes: Tensor
    centre: Tensor
    origin_means: Tensor
    goal_means: Tensor
    maps: Tensor

    def __init__(
        self,
        origins: Sequence[NDArray[np.floating]],
        goals: Sequence[NDArray[np.floating]],
        *,
        components: int,
    ) -> None:
        super().__init__()
        means = np.stack([group.mean(0, dtype=np.float64) for group in origins])
        centre = means.mean(0)
        within = _covariance(np.concatenate([g - m for g, m in zip(origins, means, strict=True)]))
        between = (means - centre).T @ (means - centre) / len(means)
        axes = np.linalg.eigh(within + between)[1][:, -components:]  # (D, C)
        pooled = axes.T @ within @ axes
        spreads = [[_spread(group @ axes, pooled) for group in some] for some in (origins, goals)]
        self._keep("axes", axes)
        self._keep("centre", centre)
        self._keep("origin_means", means)
        self._keep("goal_means", [group.mean(0, dtype=np.float64) for group in goals])
        self._keep("maps", [[_monge(a, b) for b in spreads[1]] for a in spreads[0]])

    def forward(self, values: Tensor, origins: Tensor, goals: Tensor) -> Tensor:
        """Move values (B, D) from expressions (B,) to others (B,)."""
        start = self.origin_means[origins]
        along = (values - start) @ self.axes  # (B, C)
        moved = torch.einsum("bij,bj->bi", self.maps[origins, goals], along)
        return values + self.goal_means[goals] - start + (moved - along) @ self.axes.T

    def beyond(self, values: Tensor) -> Tensor:
        """What of values (B, D) the components do not hold."""
        away = values - self.centre
        return away - away @ self.axes @ self.axes.T

    def _keep(self, name: str, values: object) -> None:
        # Found again from the data; no part of checkpoints.
        tensor = torch.from_numpy(np.array(values, dtype=np.float32))
        self.register_buffer(name, tensor, persistent=False)


def _covariance(centred: NDArray[np.floating]) -> NDArray[np.float64]:
    product: NDArray[np.float64] = (centred.T @ centred / len(centred)).astype(np.float64)
    return product


def _spread(group: NDArray[np.float64], pooled: NDArray[np.float64]) -> NDArray[np.float64]:
    # A fifth or more of what all have in common, for groups of few faces.
    own = _covariance(group - group.mean(0))
    shared = max(0.2, len(pooled) / (len(pooled) + len(group)))
    floor = 1e-6 * np.trace(pooled) / len(pooled) * np.eye(len(pooled))
    spread: NDArray[np.float64] = (1 - shared) * own + shared * pooled + floor
    return spread


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.maximum(values, 1e-12))) @ vectors.T
    return root


def _monge(origin: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
    root = _root(origin)
    inverse = np.linalg.inv(root)
    monge: NDArray[np.float64] = inverse @ _root(root @ goal @ root) @ inverse
    return monge

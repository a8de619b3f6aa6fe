"""Shapes of faces, 68 points each, and how they change from one expression to another."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = [
    "FEATURES",
    "LIPS",
    "MIRRORED",
    "SHAPE_POINTS",
    "ShapeTransport",
    "mirror_shapes",
    "shape_in_square",
]

SHAPE_POINTS = 68
"""The annotation of 300-W: jaw, brows, nose, eyes, outer and inner lips."""

LIPS = tuple(range(48, 68))

FEATURES = (*range(17, 27), *range(36, 48), *LIPS)
"""Brows, eyes and lips: where expressions live."""

MIRRORED = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65),
)
"""Which point of a face each point of its mirror image was."""

_COMPONENTS = 24
"""Principal components that expressions may change; what lies beyond stays as it is."""


def shape_in_square(
    points: NDArray[np.floating], matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Move points of a picture into its face's square.

    Args:
        points: (P, 2) in pixels.
        matrix: From `square_to_picture`.

    Returns:
        (P, 2) in the square's sides.
    """
    inverse = np.linalg.inv(matrix[:, :2])
    moved: NDArray[np.float64] = (points - matrix[:, 2]) @ inverse.T
    return moved


def mirror_shapes(shapes: Tensor) -> Tensor:
    """Shapes (B, 68, 2) of the mirrored pictures."""
    mirrored = shapes[:, MIRRORED]
    return torch.stack([1 - mirrored[..., 0], mirrored[..., 1]], -1)


class ShapeTransport(nn.Module):
    """The least change of shapes that turns those of one expression into those of another.

    Optimal transport between Gaussians, in the space of the principal components of all shapes:
    Peyré & Cuturi (2019), https://arxiv.org/abs/1803.00567, remark 2.31. What identity and pose
    contribute to shapes is alike in all expressions and hardly moves.

    Args:
        shapes: (N, 68, 2) in the square's sides, as many as there are labelled faces.
        labels: (N,): index of each one's expression.
        count: Of expressions; each needs shapes.
    """

    means: Tensor
    maps: Tensor

    def __init__(
        self, shapes: NDArray[np.floating], labels: NDArray[np.integer], count: int
    ) -> None:
        super().__init__()
        mirrored = shapes[:, MIRRORED] * (-1, 1) + (1, 0)
        flat = np.concatenate([shapes, mirrored]).reshape(2 * len(shapes), -1).astype(np.float64)
        labels = np.tile(labels, 2)
        groups = [flat[labels == k] for k in range(count)]
        within = np.concatenate([group - group.mean(0) for group in groups])
        between = np.stack([group.mean(0) - flat.mean(0) for group in groups])
        spread = within.T @ within / len(within) + between.T @ between / count
        axes = np.linalg.eigh(spread)[1][:, -_COMPONENTS:]  # (136, C)
        covariances = [_covariance(group @ axes, within @ axes) for group in groups]
        maps = [[axes @ (_monge(a, b) @ axes.T) for b in covariances] for a in covariances]
        rest = np.eye(len(axes)) - axes @ axes.T
        self._keep("means", [group.mean(0) for group in groups])
        self._keep("maps", [[rest + one for one in row] for row in maps])

    def forward(self, shapes: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
        """Move shapes (B, 68, 2) from expressions (B,) to others (B,)."""
        offsets = shapes.flatten(1) - self.means[sources]
        moved = torch.einsum("bij,bj->bi", self.maps[sources, targets], offsets)
        return (self.means[targets] + moved).view_as(shapes)

    def _keep(self, name: str, values: Sequence[object]) -> None:
        # Found again from the data; no part of checkpoints.
        tensor = torch.from_numpy(np.array(values, dtype=np.float32))
        self.register_buffer(name, tensor, persistent=False)


def _covariance(group: NDArray[np.float64], pooled: NDArray[np.float64]) -> NDArray[np.float64]:
    # A tenth of what all have in common, and a twentieth of a pixel, for classes of few shapes.
    own = (group - group.mean(0)).T @ (group - group.mean(0)) / len(group)
    shared = pooled.T @ pooled / len(pooled)
    covariance: NDArray[np.float64] = 0.9 * own + 0.1 * shared + 1e-6 * np.eye(len(own))
    return covariance


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.maximum(values, 1e-12))) @ vectors.T
    return root


def _monge(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    root = _root(source)
    inverse = np.linalg.inv(root)
    monge: NDArray[np.float64] = inverse @ _root(root @ target @ root) @ inverse
    return monge

"""Shapes of faces, 68 points each."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "JAW",
    "LIPS",
    "MIRRORED",
    "SHAPE_POINTS",
    "mirror_shapes",
    "shape_in_square",
]

SHAPE_POINTS = 68
"""The annotation of 300-W: jaw, brows, nose, eyes, outer and inner lips."""

JAW = slice(0, 17)
"""From ear to ear."""

LIPS = slice(48, 60)
"""The outer edge of the lips, a polygon."""

MIRRORED = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65),
)
"""Which point of a face each point of its mirror image was."""


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

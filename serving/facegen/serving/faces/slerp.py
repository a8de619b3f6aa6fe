"""Paths between two latents."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["lerp", "slerp"]

# Below this sine the great circle is not determined (parallel or opposite ends), in float64.
_LEAST_SINE = 1e-6


def lerp(
    start: NDArray[np.float32], end: NDArray[np.float32], *, count: int
) -> NDArray[np.float32]:
    """Go from one latent to another on the straight line.

    Args:
        start: (Z,).
        end: (Z,).
        count: Points on the path, both ends included; at least 2.

    Returns:
        (count, Z), the ends bit for bit.
    """
    t = np.linspace(0.0, 1.0, count)[:, None]
    path: NDArray[np.float32] = ((1 - t) * start.astype(np.float64) + t * end).astype(np.float32)
    path[0], path[-1] = start, end
    return path


def slerp(
    start: NDArray[np.float32], end: NDArray[np.float32], *, count: int
) -> NDArray[np.float32]:
    """Go from one latent to another on the great circle, the norm going evenly between theirs.

    Shoemake (1985), Animating Rotation with Quaternion Curves, section 3.3, on the directions.
    Where no great circle is determined (an end is zero, or the directions are parallel or
    opposite), the path is the straight line.

    Args:
        start: (Z,).
        end: (Z,).
        count: Points on the path, both ends included; at least 2.

    Returns:
        (count, Z), the ends bit for bit.
    """
    norm_start, norm_end = (
        np.linalg.norm(start.astype(np.float64)),
        np.linalg.norm(end.astype(np.float64)),
    )
    if norm_start == 0 or norm_end == 0:
        return lerp(start, end, count=count)
    a, b = start / norm_start, end / norm_end
    # Half-angle form: exact near 0 and pi, where the arc cosine of the dot product is not.
    angle = 2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))
    if np.sin(angle) < _LEAST_SINE:
        return lerp(start, end, count=count)
    t = np.linspace(0.0, 1.0, count)[:, None]
    direction = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    path: NDArray[np.float32] = (((1 - t) * norm_start + t * norm_end) * direction).astype(
        np.float32
    )
    path[0], path[-1] = start, end
    return path

"""Triangles out of the polygons of a mesh file."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["fan"]


def fan(corners: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int32]:
    """Cut every polygon into triangles about its first corner: 0 1 2, 0 2 3 and so on.

    Args:
        corners: The corners of all polygons behind each other, as vertex numbers.
        counts: How many corners each polygon has.

    Returns:
        (F, 3), in the polygons' order.

    Raises:
        ValueError: A polygon of fewer than three corners.
    """
    if (few := counts < 3).any():
        index = int(few.argmax())
        raise ValueError(f"face {index} has {counts[index]} corners, a face needs 3")
    triangle_counts = counts - 2
    polygons = np.repeat(np.arange(len(counts)), triangle_counts)
    firsts = (np.cumsum(counts) - counts)[polygons]
    before = np.cumsum(triangle_counts) - triangle_counts
    steps = np.arange(len(polygons)) - before[polygons]
    places = np.stack([firsts, firsts + steps + 1, firsts + steps + 2], axis=1)
    return corners[places].astype(np.int32)

"""What models draw on a few pixels, as the smooth function that it stands for."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["border_fade", "interpolation_matrix", "spline_matrix"]

# How far an edit fades out from the square's edges, as a fraction of its side, as in training.
_BORDER = 1 / 12


def spline_matrix(places: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    """Weights of a cubic B-spline through a row of cells, edges repeated.

    Args:
        places: Where it is evaluated, in [0, 1].
        cells: Cells in the row, their middles at (k + 0.5) / cells.

    Returns:
        (places, cells), rows that add up to 1: bounded by the cells' values and smooth.
    """
    position = places * cells - 0.5
    first = np.floor(position).astype(int)
    t = position - first
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    matrix = np.zeros((len(places), cells))
    for offset, weight in zip(range(-1, 3), weights, strict=True):
        np.add.at(matrix, (np.arange(len(places)), np.clip(first + offset, 0, cells - 1)), weight)
    return matrix


def interpolation_matrix(places: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    """Weights of the cubic spline that goes through a row of pixels, (places, cells)."""
    middles = (np.arange(cells) + 0.5) / cells
    inverse = np.linalg.inv(spline_matrix(middles, cells))
    return spline_matrix(places, cells) @ inverse


def border_fade(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of an edit shows along a side: 1 inside, falling to 0 at the edges."""
    edge = np.minimum(places, 1 - places) / _BORDER
    return np.where(edge < 1, 0.5 - 0.5 * np.cos(np.pi * edge), 1.0)

"""How far drawn meshes are from those of a data set, and those from the drawn.

Davies et al. (2002), A minimum description length approach to statistical shape modeling,
https://doi.org/10.1109/TMI.2002.1009388, who judge a model of shapes by its specificity.
"""

import numpy as np
from numpy.typing import NDArray

from facegen.training.mesh.principal import blocks

__all__ = ["nearest_mm"]

Reals = NDArray[np.float32]


def nearest_mm(queries: Reals, meshes: Reals, *, centre: Reals) -> Reals:
    """How far each mesh is from the nearest of others, by root mean square over the vertices.

    Args:
        queries: (Q, V, 3) in millimetres.
        meshes: (N, V, 3), never copied whole; may be mapped from disk.
        centre: About their mean, (V, 3): products of small numbers lose fewer digits.

    Returns:
        (Q,) in millimetres.
    """
    points = (queries - centre).reshape(len(queries), -1)
    best, rows = np.full(len(points), np.inf, np.float32), np.zeros(len(points), np.intp)
    start = 0
    for block in blocks(meshes):
        flat = (block - centre).reshape(len(block), -1)
        # |q - p|² without |q|², which changes no order.
        nearness = np.einsum("ij,ij->i", flat, flat) - 2 * (points @ flat.T)
        here = nearness.argmin(axis=1)
        nearest = np.take_along_axis(nearness, here[:, None], axis=1)[:, 0]
        closer = nearest < best
        best[closer], rows[closer] = nearest[closer], start + here[closer]
        start += len(block)
    # The product finds the nearest, but a small distance is lost in the digits of large squares.
    squares = [
        np.square(query - meshes[row]).sum() for query, row in zip(queries, rows, strict=True)
    ]
    mean: Reals = np.array(squares, np.float32) / np.float32(queries.shape[1])
    return np.sqrt(mean)

"""What every source of meshes gives: arrays of vertices in one topology, by split."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MeshArrays"]


@dataclass(frozen=True, slots=True)
class MeshArrays:
    """The meshes of one data set, in one topology.

    Attributes:
        name: The reader's name.
        faces: Triangles, (F, 3) int32, counter-clockwise seen from outside.
        vertices: By split, (N, V, 3) float32 in millimetres: `train`, `validation`, and one or more
            test splits by their names.
        names: Of each split's meshes, in the same order.
        refused: Files that were left out, each with its reason.
    """

    name: str
    faces: NDArray[np.int32]
    vertices: Mapping[str, NDArray[np.float32]]
    names: Mapping[str, tuple[str, ...]]
    refused: tuple[str, ...] = ()

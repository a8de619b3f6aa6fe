"""What all meshes of a family have in common: their triangles, and a template."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Topology"]

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]


class Topology:
    """The triangles between a number of vertices.

    Attributes:
        faces: (F, 3), indices of vertices, counter-clockwise seen from outside.
        template: (V, 3), a plain face at rest, in millimetres.

    Args:
        faces: See above.
        template: See above.

    Raises:
        ValueError: A triangle has a vertex that is not there, or the template is not finite.
    """

    def __init__(self, faces: Indices, template: Floats) -> None:
        if faces.min() < 0 or faces.max() >= len(template):
            raise ValueError(f"a triangle has a vertex beyond the {len(template)} that there are")
        if not np.isfinite(template).all():
            raise ValueError("the template is not finite")
        self.faces = np.ascontiguousarray(faces, "<i4")
        self.template = np.ascontiguousarray(template, "<f4")

    @property
    def vertex_count(self) -> int:
        """How many vertices each mesh has."""
        return len(self.template)

    def has(self, faces: Indices) -> bool:
        """Tell whether triangles (F, 3) are these, whatever their order and first corners."""
        if faces.shape != self.faces.shape:
            return False
        same = np.array_equal(faces, self.faces)
        return same or np.array_equal(_sorted(faces), self._sorted)

    def normals(self, vertices: Floats) -> Floats:
        """Give the normals of a mesh's vertices, each the mean of its triangles' by their areas.

        Args:
            vertices: (V, 3).

        Returns:
            (V, 3), of length 1; of vertices without an area they point at the viewer.
        """
        points = vertices.astype(np.float64)  # products of large float32 would be infinite
        first, second, third = (points[corner] for corner in self.faces.T)
        crossed = np.cross(second - first, third - first)  # twice the area long
        normals = np.empty(vertices.shape, np.float64)
        for axis in range(3):
            weights = np.tile(crossed[:, axis], 3)
            normals[:, axis] = np.bincount(self._corners, weights, len(vertices))
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        flat = lengths[:, 0] == 0
        normals[flat] = (0, 0, 1)
        lengths[flat] = 1
        unit: Floats = (normals / lengths).astype("<f4")
        return unit

    @cached_property
    def _corners(self) -> Indices:
        """The first corners of all triangles, then the second, then the third: (3 F,)."""
        return self.faces.T.ravel()

    @cached_property
    def _sorted(self) -> Indices:
        return _sorted(self.faces)


def _sorted(faces: Indices) -> Indices:
    """Order triangles by their corners, of which the smallest comes first; they keep their side."""
    first = faces.argmin(axis=1)
    turned = np.take_along_axis(faces, (first[:, None] + np.arange(3)) % 3, axis=1)
    ordered: Indices = turned[np.lexsort(turned.T[::-1])]
    return ordered

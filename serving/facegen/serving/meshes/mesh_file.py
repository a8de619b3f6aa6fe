"""What a mesh's file holds, and how its polygons become triangles."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["MeshFile", "MeshLimits", "TooManyError", "fans"]

Indices = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class MeshLimits:
    """How much of a file is read: no mesh that has more could be the family's.

    Attributes:
        vertex_count: The most vertices.
        face_count: The most triangles.
    """

    vertex_count: int
    face_count: int

    def check(self, *, vertices: int = 0, faces: int = 0) -> None:
        """Refuse counts of a file.

        Raises:
            TooManyError: They are above the limits.
        """
        if vertices > self.vertex_count:
            raise TooManyError(f"has more than {self.vertex_count} vertices")
        if faces > self.face_count:
            raise TooManyError(f"has more than {self.face_count} triangles")


class TooManyError(ValueError):
    """A file has more vertices or faces than are read."""


@dataclass(frozen=True, slots=True)
class MeshFile:
    """A mesh as its file gives it: nothing merged, left out or put in another order.

    Attributes:
        vertices: (N, 3), not looked at: they may not be finite.
        faces: (M, 3), indices of vertices that are there.
    """

    vertices: NDArray[np.float32]
    faces: Indices

    @classmethod
    def of(cls, vertices: NDArray[np.float32], faces: Indices) -> "MeshFile":
        """Make one.

        Raises:
            ValueError: There are no vertices or faces, or a face has a vertex that is not there.
        """
        if not len(vertices):
            raise ValueError("has no vertices")
        if not len(faces):
            raise ValueError("has no faces")
        wrong = np.flatnonzero(((faces < 0) | (faces >= len(vertices))).any(axis=1))
        if len(wrong):
            corners = ", ".join(map(str, faces[wrong[0]].tolist()))
            raise ValueError(
                f"has a triangle of the vertices {corners}, there are 0 to {len(vertices) - 1}"
            )
        return cls(vertices, faces)


def fans(polygons: Sequence[Sequence[int]], limits: MeshLimits) -> Indices:
    """Cut polygons into triangles from their first corners: 0, 1, 2, then 0, 2, 3, and so on.

    Args:
        polygons: The corners of each, in order around it.
        limits: How many triangles there may be.

    Returns:
        (M, 3).

    Raises:
        ValueError: A polygon has fewer than three corners, or a number that no vertex could have.
    """
    triangles: list[Sequence[int]] = []
    for corners in polygons:
        if len(corners) == 3:
            triangles.append(corners)
            continue
        if len(corners) < 3:
            raise ValueError(f"has a face of {len(corners)} corners, a triangle has 3")
        limits.check(faces=len(triangles) + len(corners) - 2)
        first = corners[0]
        triangles += [(first, second, third) for second, third in pairwise(corners[1:])]
    limits.check(faces=len(triangles))
    try:
        return np.array(triangles, np.int32).reshape(-1, 3)
    except OverflowError as error:
        raise ValueError("has a face with a vertex's number beyond 32 bits") from error

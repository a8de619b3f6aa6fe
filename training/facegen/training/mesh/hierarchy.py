"""The levels of a mesh autoencoder: ever coarser meshes, and the way back up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from facegen.training.mesh.simplification import simplify

__all__ = ["Hierarchy", "adjacency", "build_hierarchy"]


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Meshes from fine to coarse, L + 1 of them, and what leads from one to the next.

    Attributes:
        faces: Triangles of each level, (F, 3) int32; the first is the data's topology.
        kept: For each level but the last the vertices that make the next, rising, int64.
        corners: For each level but the last, (V, 3) int64: the coarser level's vertices between
            which each vertex lies.
        weights: Barycentric coordinates there, (V, 3) float32, rows sum to 1.
    """

    faces: tuple[NDArray[np.int32], ...]
    kept: tuple[NDArray[np.int64], ...]
    corners: tuple[NDArray[np.int64], ...]
    weights: tuple[NDArray[np.float32], ...]

    @property
    def vertex_counts(self) -> tuple[int, ...]:
        """Vertices of each level."""
        return (*(len(corners) for corners in self.corners), len(self.kept[-1]))

    def adjacency(self, level: int) -> csr_matrix:
        """The neighbours on one level, (V, V) float32 of ones and zeros, symmetric."""
        return adjacency(self.faces[level], self.vertex_counts[level])

    def up(self, level: int) -> csr_matrix:
        """From the next coarser level to this one, (V, W) float32: rows are barycentric."""
        fine, coarse = self.vertex_counts[level : level + 2]
        offsets = np.arange(0, 3 * fine + 1, 3)
        entries = (self.weights[level].ravel(), self.corners[level].ravel(), offsets)
        matrix = csr_matrix(entries, (fine, coarse), copy=True)
        matrix.eliminate_zeros()  # in place
        return matrix

    def state(self) -> dict[str, NDArray[Any]]:
        """Every array by a name, as `of_state` takes them."""
        return {
            f"{what}_{level}": array
            for what in ("faces", "kept", "corners", "weights")
            for level, array in enumerate(getattr(self, what))
        }

    @classmethod
    def of_state(cls, state: Mapping[str, NDArray[Any]]) -> "Hierarchy":
        """Put together what `state` gave."""
        count = sum(name.startswith("kept_") for name in state)
        return cls(
            tuple(state[f"faces_{level}"] for level in range(count + 1)),
            *(
                tuple(state[f"{what}_{level}"] for level in range(count))
                for what in ("kept", "corners", "weights")
            ),
        )


def build_hierarchy(
    template: NDArray[np.floating], faces: NDArray[np.int32], factors: Sequence[int]
) -> Hierarchy:
    """Simplify a template level by level, and find the way back up.

    Ranjan et al. (2018), Generating 3D Faces using Convolutional Mesh Autoencoders,
    https://arxiv.org/abs/1807.10267, section 3: down-sampling keeps some of the vertices;
    up-sampling takes each vertex from the point of the coarse surface that is nearest to it.

    Args:
        template: A typical mesh, (V, 3).
        faces: Its triangles, (F, 3).
        factors: How many times fewer vertices each level has than the one before; counts are
            rounded up.

    Raises:
        ValueError: A level would have fewer than three vertices.
    """
    vertices = np.asarray(template, np.float64)
    levels, kept, corners, weights = [faces], [], [], []
    for factor in factors:
        coarse = simplify(vertices, faces, -(-len(vertices) // factor))
        places = _places(vertices, vertices[coarse.kept], coarse.faces)
        kept.append(coarse.kept)
        corners.append(places[0])
        weights.append(places[1])
        vertices, faces = vertices[coarse.kept], coarse.faces
        levels.append(faces)
    return Hierarchy(tuple(levels), tuple(kept), tuple(corners), tuple(weights))


def adjacency(faces: NDArray[np.integer], vertex_count: int) -> csr_matrix:
    """Which vertices share an edge, (V, V) float32 of ones and zeros, symmetric."""
    ends = np.concatenate([faces[:, [i, (i + 1) % 3]] for i in range(3)]).T
    shape = (vertex_count, vertex_count)
    once = csr_matrix((np.ones(ends.shape[1], np.float32), tuple(ends)), shape)
    both = once + once.T
    both.data[:] = 1.0
    both.sort_indices()
    return both


def _places(
    points: NDArray[np.float64], vertices: NDArray[np.float64], faces: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The corners (N, 3) and weights (N, 3) of the points of a surface nearest to given ones."""
    surface = trimesh.Trimesh(vertices, faces, process=False)
    nearest, _, triangle = trimesh.proximity.closest_point(surface, points)  # type: ignore[no-untyped-call]  # trimesh's
    corners = vertices[faces[triangle]]
    weights = trimesh.triangles.points_to_barycentric(corners, nearest)  # type: ignore[no-untyped-call]  # likewise
    weights = np.clip(np.nan_to_num(weights, nan=1 / 3), 0.0, 1.0)  # of a triangle without area
    weights /= weights.sum(1, keepdims=True)
    return faces[triangle].astype(np.int64), weights.astype(np.float32)

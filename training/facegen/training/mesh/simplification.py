"""Coarser meshes by edge collapse: which vertices stay, and the triangles between them."""

import heapq
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Simplified", "simplify"]

_BOUNDARY_WEIGHT = 10.0
"""Planes that hold a boundary edge in place weigh so much more than a triangle as large."""
_LEAST_COSINE = 0.1
"""Of a triangle's normal before and after a collapse: below it the triangle has turned over."""


class Simplified(NamedTuple):
    """A coarser mesh whose vertices are some of the finer one's.

    Attributes:
        kept: The finer mesh's vertices that stay, rising, (W,) int64.
        faces: Triangles between them, in the coarser mesh's numbers, (G, 3) int32.
    """

    kept: NDArray[np.int64]
    faces: NDArray[np.int32]


def simplify(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], vertex_count: int
) -> Simplified:
    """Collapse edges until so many vertices are left, those first that move the surface least.

    Garland & Heckbert (1997), Surface Simplification Using Quadric Error Metrics,
    https://www.cs.cmu.edu/~garland/Papers/quadrics.pdf, with subset placement: of an edge's two
    vertices one stays where it is, as in COMA (Ranjan et al. 2018), so that every coarse vertex is
    one of the fine mesh. Boundaries are held by planes of their own. A collapse that would pinch
    the surface or turn a triangle over is left out, as long as others are left.

    Args:
        vertices: (V, 3).
        faces: Triangles, (F, 3).
        vertex_count: Vertices to keep, 3 to V; vertices of no triangle are the first to go.

    Returns:
        What stays; the same every time.

    Raises:
        ValueError: vertex_count is not in that range.
    """
    if not 3 <= vertex_count <= len(vertices):
        raise ValueError(
            f"cannot simplify to {vertex_count} vertices: 3 to {len(vertices)} are possible"
        )
    surface = _Surface(np.asarray(vertices, np.float64), np.asarray(faces))
    for strict in (True, False):
        surface.collapse_until(vertex_count, strict=strict)
    return surface.result()


class _Surface:
    """A mesh whose edges can be collapsed."""

    def __init__(self, vertices: NDArray[np.float64], faces: NDArray[np.integer]) -> None:
        self.points = vertices
        self.faces: dict[int, list[int]] = {i: [int(v) for v in f] for i, f in enumerate(faces)}
        self.around: list[set[int]] = [set() for _ in vertices]  # faces of each vertex
        for number, face in self.faces.items():
            for vertex in face:
                self.around[vertex].add(number)
        self.alive = np.ones(len(vertices), bool)
        self.alive_count = len(vertices)
        self.quadrics = _quadrics(vertices, np.asarray(faces))
        self.stamps = [0] * len(vertices)  # an edge is stale when its ends have changed

    def collapse_until(self, vertex_count: int, *, strict: bool) -> None:
        """Collapse the cheapest edges; strict: only where the surface stays one."""
        self._drop_loose(vertex_count)
        queue: list[tuple[float, int, int, int, int]] = []
        for vertex in np.flatnonzero(self.alive):
            self._push(queue, int(vertex), (v for v in self._neighbours(int(vertex)) if v > vertex))
        while self.alive_count > vertex_count and queue:
            _, gone, stays, *stamps = heapq.heappop(queue)
            fresh = self.alive[gone] and self.alive[stays]
            if not fresh or stamps != [self.stamps[gone], self.stamps[stays]]:
                continue
            if strict and not self._keeps_surface(gone, stays):
                continue
            self._collapse(gone, stays)
            self._push(queue, stays, self._neighbours(stays))
        self._drop_loose(vertex_count)

    def result(self) -> Simplified:
        """The mesh as it is now."""
        kept = np.flatnonzero(self.alive)
        number = np.full(len(self.alive), -1)
        number[kept] = np.arange(len(kept))
        faces = np.array(list(self.faces.values()), np.int64).reshape(-1, 3)
        return Simplified(kept, number[faces].astype(np.int32))

    def _drop_loose(self, vertex_count: int) -> None:
        """Drop vertices of no triangle."""
        for vertex in np.flatnonzero(self.alive):
            if self.alive_count > vertex_count and not self.around[vertex]:
                self._remove(int(vertex))

    def _neighbours(self, vertex: int) -> set[int]:
        found = {v for face in self.around[vertex] for v in self.faces[face]}
        found.discard(vertex)
        return found

    def _push(
        self,
        queue: list[tuple[float, int, int, int, int]],
        vertex: int,
        others: Iterable[int],
    ) -> None:
        ends = np.fromiter(others, np.int64)
        if not len(ends):
            return
        ends.sort()
        sums = self.quadrics[ends] + self.quadrics[vertex]
        there = np.einsum("nij,i,j->n", sums, *[_homogeneous(self.points[vertex])] * 2)
        ones = np.column_stack([self.points[ends], np.ones(len(ends))])
        theirs = np.einsum("nij,ni,nj->n", sums, ones, ones)
        for end, own, other in zip(ends.tolist(), there.tolist(), theirs.tolist(), strict=True):
            gone, stays = (end, vertex) if own <= other else (vertex, end)
            cost = max(0.0, min(own, other))
            stamps = (self.stamps[gone], self.stamps[stays])
            heapq.heappush(queue, (cost, gone, stays, *stamps))

    def _keeps_surface(self, gone: int, stays: int) -> bool:
        shared = self.around[gone] & self.around[stays]
        # The link condition, Dey et al. (1999): else three sheets would meet in an edge.
        if len(self._neighbours(gone) & self._neighbours(stays)) != len(shared):
            return False
        moved = [self.faces[face] for face in self.around[gone] - shared]
        if not moved:
            return False
        before = self.points[np.array(moved)]
        after = self.points[np.array([[stays if v == gone else v for v in f] for f in moved])]
        old, new = _normals(before), _normals(after)
        lengths = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
        return bool(np.all((old * new).sum(1) > _LEAST_COSINE * lengths))

    def _collapse(self, gone: int, stays: int) -> None:
        present = {frozenset(self.faces[face]) for face in self.around[stays]}
        for number in sorted(self.around[gone]):
            face = self.faces[number]
            moved = [stays if v == gone else v for v in face]
            if stays in face or frozenset(moved) in present:
                del self.faces[number]
                for vertex in face:
                    self.around[vertex].discard(number)
                continue
            present.add(frozenset(moved))
            self.faces[number] = moved
            self.around[stays].add(number)
        self.quadrics[stays] += self.quadrics[gone]
        self.stamps[stays] += 1
        self._remove(gone)

    def _remove(self, vertex: int) -> None:
        self.around[vertex] = set()
        self.alive[vertex] = False
        self.alive_count -= 1


def _quadrics(vertices: NDArray[np.float64], faces: NDArray[np.integer]) -> NDArray[np.float64]:
    """The sum of squared distances from the planes around each vertex, by area, (V, 4, 4)."""
    corners = vertices[faces]
    normals = _normals(corners)  # twice as long as the triangle's area
    areas = np.maximum(np.linalg.norm(normals, axis=1), np.finfo(np.float64).tiny)
    quadrics = np.zeros((len(vertices), 4, 4))
    planes = _planes(normals / areas[:, None], corners[:, 0]) * areas[:, None, None] / 2
    for corner in range(3):
        np.add.at(quadrics, faces[:, corner], planes)

    edges = np.concatenate([faces[:, [i, (i + 1) % 3]] for i in range(3)])
    _, first, counts = np.unique(
        np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True
    )
    alone = first[counts == 1]  # an edge of one triangle is a boundary's
    ends, owner = edges[alone], alone % len(faces)
    along = vertices[ends[:, 1]] - vertices[ends[:, 0]]
    across = np.cross(along, normals[owner])
    lengths = np.maximum(np.linalg.norm(across, axis=1), np.finfo(np.float64).tiny)
    weights = _BOUNDARY_WEIGHT * np.square(along).sum(1)
    walls = _planes(across / lengths[:, None], vertices[ends[:, 0]]) * weights[:, None, None]
    for end in range(2):
        np.add.at(quadrics, ends[:, end], walls)
    return quadrics


def _planes(normals: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quadrics of planes through points, (N, 4, 4)."""
    plane = np.column_stack([normals, -(normals * points).sum(1)])
    quadrics: NDArray[np.float64] = plane[:, :, None] * plane[:, None, :]
    return quadrics


def _normals(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    normals: NDArray[np.float64] = np.cross(
        corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    )
    return normals


def _homogeneous(point: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.append(point, 1.0)

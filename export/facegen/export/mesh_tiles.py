"""Sparse matrices on meshes as stacks of small dense ones: ONNX has no sparse product.

The vertices of a level are laid out patch by patch. The rows of one patch need few columns beside
their own, so that a product is a lookup of those and a small dense product for each patch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

__all__ = ["LARGEST_SUM", "Layout", "Tile", "cut_tiles", "lay_out"]

LARGEST_SUM = 128
"""Terms that ONNX Runtime adds up in one order however many columns a product has: beyond it the
bits of a row would depend on the batch."""

_GROUP = 60  # patches: fewer have less to fill up, but are more products
_FAR = 1e6  # edges to what cannot be reached
_ROUNDS = 20

_Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the vertices of a level lie.

    Attributes:
        vertices: (P, N): vertices by place, P patches of N places; -1 where there is none.
        places: (V,): places by vertex, counted through all patches.
    """

    vertices: _Indices
    places: _Indices

    @classmethod
    def of(cls, patches: Sequence[_Indices]) -> "Layout":
        """Lay patches out one after the other, as long as the longest each."""
        size = max(len(patch) for patch in patches)
        vertices = np.full((len(patches), size), -1, np.int64)
        for row, patch in zip(vertices, patches, strict=True):
            row[: len(patch)] = patch
        places = np.empty(int((vertices >= 0).sum()), np.int64)
        taken = np.flatnonzero(vertices.ravel() >= 0)
        places[vertices.ravel()[taken]] = taken
        return cls(vertices, places)

    @property
    def place_count(self) -> int:
        """Places, those of no vertex included."""
        return self.vertices.size

    @property
    def natural(self) -> bool:
        """Whether vertices lie in their order."""
        return np.array_equal(self.vertices.ravel(), np.arange(self.place_count))

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Move what vertices have, (V, …), to their places; zeros where there is none."""
        moved = np.zeros((self.place_count, *values.shape[1:]), values.dtype)
        moved[self.places] = values
        return moved


@dataclass(frozen=True, slots=True)
class Tile:
    """Some columns of a matrix for each patch of its rows.

    Attributes:
        columns: (P, K): places.
        values: (P, N, K).
    """

    columns: _Indices
    values: NDArray[np.float32]

    @property
    def whole(self) -> bool:
        """Whether it is a matrix of one patch, with columns in their order."""
        return len(self.columns) == 1 and bool((np.diff(self.columns[0]) == 1).all())


def lay_out(adjacency: csr_matrix, patch_size: int) -> Layout:
    """Cut a mesh into compact patches of at most so many vertices; a small one is one patch.

    Args:
        adjacency: Which vertices share an edge, (V, V), symmetric.
        patch_size: The most vertices of a patch.
    """
    count = adjacency.shape[0]
    if count <= max(patch_size, LARGEST_SUM):
        return Layout.of([np.arange(count)])
    patches = _halved(adjacency, np.arange(count), -(-count // patch_size))
    patch_of = np.empty(count, np.int64)
    for number, patch in enumerate(patches):
        patch_of[patch] = number
    _smooth(adjacency, patch_of, patch_size=patch_size)
    smooth = [np.flatnonzero(patch_of == number) for number in range(len(patches))]
    # Patches of many neighbours come last: `cut_tiles` groups those that need as many columns.
    around = [len(np.unique(adjacency[patch].indices)) for patch in smooth]
    return Layout.of([smooth[number] for number in np.argsort(around, kind="stable")])


def cut_tiles(matrix: csr_matrix, rows: Layout, columns: Layout) -> tuple[tuple[Tile, ...], ...]:
    """Cut a matrix into tiles of at most `LARGEST_SUM` columns.

    Args:
        matrix: (V, W) by vertices.
        rows: Where the V lie.
        columns: Where the W lie.

    Returns:
        Groups of following patches. All tiles of a group have its patches' rows, and are added up.
    """
    matrix = matrix.tocsr()
    blocks = [_Block.of(matrix[patch[patch >= 0]], columns) for patch in rows.vertices]
    count = max(1, round(len(blocks) / _GROUP))
    cuts = [len(blocks) * number // count for number in range(count + 1)]
    size = rows.vertices.shape[1]
    return tuple(_tiles(blocks[start:end], size) for start, end in pairwise(cuts))


class _Block(NamedTuple):
    """The rows of one patch: the places of its columns, and its entries."""

    places: _Indices
    rows: _Indices
    columns: _Indices
    values: NDArray[np.float32]

    @classmethod
    def of(cls, part: csr_matrix, layout: Layout) -> "_Block":
        entries = part.tocoo()
        places, column = np.unique(layout.places[entries.col], return_inverse=True)
        if len(layout.vertices) == 1 and layout.place_count <= LARGEST_SUM:
            places, column = np.arange(layout.place_count), layout.places[entries.col]
        return cls(places, entries.row, column, entries.data)


def _tiles(blocks: Sequence[_Block], size: int) -> tuple[Tile, ...]:
    """Stack the rows of patches of a size, and cut the columns."""
    width = max(1, *(len(block.places) for block in blocks))
    count = -(-width // LARGEST_SUM)
    width = -(-width // count)
    places = np.zeros((len(blocks), count * width), np.int64)
    values = np.zeros((len(blocks), size, count * width), np.float32)
    for number, block in enumerate(blocks):
        places[number, : len(block.places)] = block.places
        values[number, block.rows, block.columns] = block.values
    cuts = [slice(start, start + width) for start in range(0, count * width, width)]
    return tuple(Tile(places[:, cut], values[:, :, cut]) for cut in cuts)


def _halved(adjacency: csr_matrix, part: _Indices, count: int) -> list[_Indices]:
    """Halve a part of a mesh across its length, again and again, into so many patches."""
    if count == 1:
        return [part]
    within = adjacency[part][:, part]
    first = _edges_from(within, int(_edges_from(within, 0).argmax()))
    last = _edges_from(within, int(first.argmax()))
    order = part[np.lexsort((first, first - last))]
    half = count // 2
    cut = round(len(part) * half / count)
    return _halved(adjacency, order[:cut], half) + _halved(adjacency, order[cut:], count - half)


def _edges_from(adjacency: csr_matrix, start: int) -> NDArray[np.float64]:
    away: NDArray[np.float64] = dijkstra(adjacency, indices=start, unweighted=True)
    away[np.isinf(away)] = _FAR
    return away


def _smooth(adjacency: csr_matrix, patch_of: _Indices, *, patch_size: int) -> None:
    """Move vertices, in place, to a patch with room that holds more of their neighbours."""
    sizes = np.bincount(patch_of)
    for _ in range(_ROUNDS):
        moved = False
        for vertex, own in enumerate(patch_of):
            start, end = adjacency.indptr[vertex : vertex + 2]
            around, counts = np.unique(patch_of[adjacency.indices[start:end]], return_counts=True)
            counts[(sizes[around] >= patch_size) & (around != own)] = 0
            if len(around) and counts.max() > counts[around == own].sum():
                patch_of[vertex] = around[counts.argmax()]
                sizes[own] -= 1
                sizes[patch_of[vertex]] += 1
                moved = True
        if not moved:
            break

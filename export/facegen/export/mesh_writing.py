"""Writes what the graphs of meshes consist of: products with sparse matrices, convolutions.

Vertices come first and the batch second, (places, B, C): a lookup copies rows that hold the whole
batch, and a product of matrices is as wide.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from onnx import TensorProto
from scipy.sparse import csr_matrix
from torch import nn

from facegen.export.graph_writer import GraphWriter
from facegen.export.mesh_tiles import Layout, cut_tiles, lay_out
from facegen.training.mesh.convolutions import ChebyshevConv, SageConv
from facegen.training.mesh.hierarchy import Hierarchy
from facegen.training.mesh.operators import SparseOperator

__all__ = ["Convolution", "MeshLayouts", "MeshWriter"]

Convolution = ChebyshevConv | SageConv

_HIGHEST_POWER = 7
"""The degree up to which polynomials are summed by powers; beyond it powers cancel each other."""

_Product = Callable[[str, int], str]
"""Writes a product of a fixed sparse matrix with features, given those and how many they are."""

_Reals = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class MeshLayouts:
    """How the vertices of every level lie in the tensors of a graph.

    Attributes:
        levels: From fine to coarse.
        tiled: Products with sparse matrices are cut into tiles; otherwise vertices look up one
            neighbour after the other.
    """

    levels: tuple[Layout, ...]
    tiled: bool

    @classmethod
    def in_patches(cls, hierarchy: Hierarchy, patch_size: int) -> "MeshLayouts":
        """Lay every level out in patches of at most so many vertices."""
        levels = range(len(hierarchy.vertex_counts))
        return cls(tuple(lay_out(hierarchy.adjacency(it), patch_size) for it in levels), tiled=True)

    @classmethod
    def plain(cls, hierarchy: Hierarchy) -> "MeshLayouts":
        """Leave all vertices in their order."""
        levels = (Layout.of([np.arange(count)]) for count in hierarchy.vertex_counts)
        return cls(tuple(levels), tiled=False)


class MeshWriter(GraphWriter):
    """A graph of meshes that grows; features of a level are (places B, C), place by place.

    Args:
        name: The graph's name.
        source: The graph's input, whose first axis is the batch.
        layouts: Where the vertices of every level lie.
    """

    def __init__(self, name: str, source: str, layouts: MeshLayouts) -> None:
        super().__init__(name)
        self.layouts = layouts
        self._source = source
        self._products: dict[tuple[str, int], _Product] = {}
        self._batch = ""

    def linear(self, x: str, layer: nn.Linear, *, output: str = "") -> str:
        """A linear layer of rows, (B, N) to (B, M)."""
        weight, bias = (self.reals(it.detach().numpy()) for it in (layer.weight, layer.bias))
        return self.add("Gemm", x, weight, bias, output=output, transB=1)

    def at_places(self, meshes: str, level: int, features: int) -> str:
        """Bring meshes (B, V, C) to the places of a level."""
        layout = self.layouts.levels[level]
        x = self.add("Transpose", meshes, perm=[1, 0, 2])
        if not layout.natural:
            x = self.add("Gather", x, self.indices(np.maximum(layout.vertices.ravel(), 0)))
        return self.reshape(x, (-1, features))

    def as_meshes(self, x: str, level: int, features: int) -> str:
        """Bring the features of a level to meshes (B, V, C)."""
        layout = self.layouts.levels[level]
        x = self.reshape(x, (layout.place_count, -1, features))
        if not layout.natural:
            x = self.add("Gather", x, self.indices(layout.places))
        return self.add("Transpose", x, perm=[1, 0, 2])

    def elu(self, x: str) -> str:
        """ELU; ONNX's own operator takes ONNX Runtime three times as long."""
        below = self.add("Exp", self.add("Min", x, self.reals(0.0)))
        return self.add("Max", x, self.add("Sub", below, self.reals(1.0)))

    def up(self, x: str, operator: SparseOperator, level: int, features: int) -> str:
        """Bring features of the next coarser level to a level."""
        return self._product("up", level, operator, source=level + 1)(x, features)

    def chosen(self, x: str, convolution: Convolution, level: int, *, scale: float = 1.0) -> str:
        """Convolve the features of a level, and keep the vertices of the next alone.

        Args:
            x: The features.
            convolution: With chosen vertices.
            level: The finer of the two.
            scale: What the features are to be multiplied with before.
        """
        assert convolution.chosen is not None, "an encoder's convolution"
        kept = self.layouts.levels[level].places[convolution.chosen.numpy()]
        target = self.layouts.levels[level + 1]
        weight = convolution.weight.detach().numpy().astype(np.float64)
        inputs, outputs = weight.shape[1:]
        if isinstance(convolution, SageConv):
            means = self._product("chosen", level, convolution.means, rows=level + 1)
            terms, others = [x], [means(x, inputs)]
        else:
            terms, weight = self._terms(x, convolution, level, weight)
            others = []
        here = self.indices(target.spread(kept))
        picked = [self.add("Gather", self._rows(it, level), here) for it in terms]
        flat = [*(self.reshape(it, (-1, inputs)) for it in picked), *others]
        joined = self.add("Concat", *flat, axis=1)
        biases = convolution.bias.detach().numpy()
        return self._mixed(joined, scale * weight.reshape(-1, outputs), biases)

    def convolved(self, x: str, convolution: Convolution, level: int, *, scale: float = 1.0) -> str:
        """Convolve the features of a level.

        Args:
            x: The features.
            convolution: Of all vertices.
            level: Which.
            scale: What the result is multiplied with.
        """
        weight = scale * convolution.weight.detach().numpy().astype(np.float64)
        biases = scale * convolution.bias.detach().numpy()
        common, own = (biases, None) if biases.ndim == 1 else (None, biases)
        if isinstance(convolution, SageConv):
            means = self._product("means", level, convolution.means)
            others = means(self.add("MatMul", x, self.reals(weight[1])), weight.shape[2])
            y = self.add("Add", self._mixed(x, weight[0], common), others)
        else:
            y = self._polynomial(x, convolution, level, weight, common)
        return y if own is None else self.add("Add", y, self._repeated(own, level))

    def _mixed(self, x: str, weight: NDArray[np.float64], biases: _Reals | None = None) -> str:
        """Mix features, (places B, C) to (places B, C'), and add biases (C')."""
        y = self.add("MatMul", x, self.reals(weight))
        return y if biases is None else self.add("Add", y, self.reals(biases))

    def _repeated(self, biases: _Reals, level: int) -> str:
        """What every vertex has of its own, (V, 1, C), for all meshes: (places B, C).

        To repeat biases and to add them then takes ONNX Runtime half the time of an addition that
        repeats them.
        """
        layout, features = self.layouts.levels[level], biases.shape[2]
        self._batch = self._batch or self.add("Shape", self._source, end=1)
        first, last = (self.constant(np.array([it])) for it in (layout.place_count, features))
        shape = self.add("Concat", first, self._batch, last, axis=0)
        repeated = self.add("Expand", self.reals(layout.spread(biases)), shape)
        return self.reshape(repeated, (-1, features))

    def _polynomial(
        self,
        x: str,
        convolution: ChebyshevConv,
        level: int,
        weight: NDArray[np.float64],
        biases: _Reals | None,
    ) -> str:
        """Σ T_k(L) (x W_k) + b: Horner's scheme, or Clenshaw's for a high degree."""
        multiply, features = self._laplacian(convolution, level), weight.shape[2]
        high = len(weight) - 1 > _HIGHEST_POWER
        first, *others = weight if high else _by_powers(weight)
        terms = [self._mixed(x, first, biases), *(self._mixed(x, it) for it in others)]
        last, total = "", terms.pop()
        while terms:
            product = multiply(total, features)
            if high and len(terms) > 1:  # b_k = c_k + 2 L b_k+1 - b_k+2, but in the end c_0 + L b_1
                product = self.add("Add", product, product)
            following = self.add("Add", terms.pop(), product)
            if high and last:
                following = self.add("Sub", following, last)
            last, total = total, following
        return total

    def _terms(
        self, x: str, convolution: ChebyshevConv, level: int, weight: NDArray[np.float64]
    ) -> tuple[list[str], NDArray[np.float64]]:
        """Powers of L times x, or polynomials of a high degree, and the weights of either."""
        multiply, features = self._laplacian(convolution, level), weight.shape[1]
        high = len(weight) - 1 > _HIGHEST_POWER
        terms = [x]
        while len(terms) < len(weight):
            following = multiply(terms[-1], features)
            if high and len(terms) > 1:  # T_k = 2 L T_k-1 - T_k-2
                following = self.add("Sub", self.add("Add", following, following), terms[-2])
            terms.append(following)
        return terms, weight if high else _by_powers(weight)

    def _laplacian(self, convolution: ChebyshevConv, level: int) -> _Product:
        return self._product("laplacian", level, convolution.laplacian)

    def _rows(self, x: str, level: int) -> str:
        """Features with a row a place, (places, B C)."""
        return self.reshape(x, (self.layouts.levels[level].place_count, -1))

    def _product(
        self,
        what: str,
        level: int,
        operator: SparseOperator,
        *,
        rows: int | None = None,
        source: int | None = None,
    ) -> _Product:
        """The product with an operator of a level, whose constants are kept once.

        Args:
            what: What it does.
            level: Where.
            operator: Its matrix.
            rows: The level that it leads to; this one by default.
            source: The level that it comes from; this one by default.
        """
        if (what, level) not in self._products:
            entries = (operator.values, operator.columns, operator.offsets)
            matrix = csr_matrix(tuple(it.numpy() for it in entries), operator.shape)
            to, come = (self.layouts.levels[level if it is None else it] for it in (rows, source))
            write = self._in_tiles if self.layouts.tiled else self._by_neighbours
            self._products[what, level] = write(matrix, to, come)
        return self._products[what, level]

    def _in_tiles(self, matrix: csr_matrix, rows: Layout, columns: Layout) -> _Product:
        groups = [
            [
                (
                    "" if it.whole else self.indices(it.columns, to=TensorProto.INT32),
                    self.sparse(it.values[0] if it.whole else it.values),
                )
                for it in tiles
            ]
            for tiles in cut_tiles(matrix, rows, columns)
        ]

        def multiply(x: str, features: int) -> str:
            x, parts = self.reshape(x, (columns.place_count, -1)), []
            for tiles in groups:
                total = ""
                for looked_up, values in tiles:
                    needed = self.add("Gather", x, looked_up) if looked_up else x
                    part = self.add("MatMul", values, needed)
                    total = self.add("Add", total, part) if total else part
                parts.append(total)
            joined = parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)
            return self.reshape(joined, (-1, features))

        return multiply

    def _by_neighbours(self, matrix: csr_matrix, rows: Layout, columns: Layout) -> _Product:
        counts = np.diff(matrix.indptr)
        shape = (len(counts), max(1, int(counts.max(initial=0))))
        row = np.repeat(np.arange(len(counts)), counts)
        entry = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], counts)
        looked_up, weights = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        looked_up[row, entry] = columns.places[matrix.indices]
        weights[row, entry] = matrix.data
        kept = [
            (self.indices(looked_up[:, it]), self.reals(weights[:, it : it + 1]))
            for it in range(shape[1])
        ]

        def multiply(x: str, features: int) -> str:
            x, total = self.reshape(x, (columns.place_count, -1)), ""
            for neighbours, weight in kept:
                part = self.add("Mul", self.add("Gather", x, neighbours), weight)
                total = self.add("Add", total, part) if total else part
            return self.reshape(total, (-1, features))

        return multiply


def _by_powers(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of T_k(L) as those of the powers of L, (K, …) each."""
    count = len(weight)
    coefficients = np.zeros((count, count))
    for k, unit in enumerate(np.eye(count)):
        powers = chebyshev.cheb2poly(unit[: k + 1])
        coefficients[k, : len(powers)] = powers
    by_powers: NDArray[np.float64] = np.einsum("kp,kio->pio", coefficients, weight)
    return by_powers

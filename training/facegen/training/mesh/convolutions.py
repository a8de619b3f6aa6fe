"""Convolutions on meshes: Chebyshev polynomials of the Laplacian, and GraphSAGE's means.

Both have two forms that compute the same. An encoder's convolution is followed by a choice of
vertices, so the form for it mixes features only there; a decoder's has fewer features after it than
before, so the form for it mixes features first and propagates what is left.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from torch import Tensor, nn
from torch.autograd import Function

from facegen.training.mesh.operators import SparseOperator

__all__ = [
    "ChebyshevConv",
    "SageConv",
    "neighbour_means",
    "rescaled_laplacian",
]


def rescaled_laplacian(adjacency: csr_matrix) -> csr_matrix:
    """The normalised Laplacian moved to [-1, 1]: 2 L / λ - I with λ = 2, thus -D^-1/2 A D^-1/2.

    Defferrard et al. (2016), Convolutional Neural Networks on Graphs with Fast Localized Spectral
    Filtering, https://arxiv.org/abs/1606.09375, section 2.1.
    """
    root = diags(1 / np.sqrt(_degrees(adjacency)))
    return csr_matrix(-(root @ adjacency @ root))


def neighbour_means(adjacency: csr_matrix) -> csr_matrix:
    """The mean over a vertex's neighbours: D^-1 A; zero where there are none."""
    return csr_matrix(diags(1 / _degrees(adjacency)) @ adjacency)


def _degrees(adjacency: csr_matrix) -> NDArray[np.floating]:
    degrees: NDArray[np.floating] = np.maximum(np.asarray(adjacency.sum(1)).ravel(), 1.0)
    return degrees


class ChebyshevConv(nn.Module):
    """y = sum over k < K of T_k(L) x W_k + b, T_k being Chebyshev's polynomials.

    Defferrard et al. (2016), eq. 5. L is symmetric and its eigenvalues lie in [-1, 1].

    Args:
        inputs: Features before.
        outputs: Features after.
        order: K, at least 1.
        laplacian: L.
        chosen: The vertices to compute the result of, (W,) int64, rising; None: all.
        own_biases: Give every vertex biases of its own, instead of the same to all.
    """

    chosen: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        order: int,
        laplacian: SparseOperator,
        chosen: Tensor | None = None,
        own_biases: bool = False,
    ) -> None:
        super().__init__()
        self.laplacian = laplacian
        self.register_buffer("chosen", chosen, persistent=False)
        bound = math.sqrt(3 / (order * inputs))
        self.weight = nn.Parameter(torch.empty(order, inputs, outputs).uniform_(-bound, bound))
        self.bias = _biases(outputs, laplacian.shape[0] if own_biases else 0)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (V, B, C) to (V, B, C'), or to (W, B, C') where vertices are chosen."""
        form = _MixFirst if self.chosen is None else _PropagateFirst
        y: Tensor = form.apply(x, self.weight, self.laplacian, self.chosen)
        return y + self.bias


class SageConv(nn.Module):
    """y_v = x_v W_self + (mean of x over the neighbours of v) W_neighbours + b.

    Hamilton et al. (2017), Inductive Representation Learning on Large Graphs,
    https://arxiv.org/abs/1706.02216, with means; the mixing of the two as PyTorch Geometric has it.

    Args:
        inputs: Features before.
        outputs: Features after.
        means: From features to their neighbours' means; with chosen vertices, those rows alone.
        chosen: As for `ChebyshevConv`.
        own_biases: Likewise.
    """

    chosen: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        means: SparseOperator,
        chosen: Tensor | None = None,
        own_biases: bool = False,
    ) -> None:
        super().__init__()
        self.means = means
        self.register_buffer("chosen", chosen, persistent=False)
        bound = math.sqrt(3 / (2 * inputs))
        self.weight = nn.Parameter(torch.empty(2, inputs, outputs).uniform_(-bound, bound))
        self.bias = _biases(outputs, means.shape[0] if own_biases else 0)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (V, B, C) to (V, B, C'), or to (W, B, C') where vertices are chosen."""
        own, others = self.weight
        if self.chosen is None:
            y = (x @ own).add_(self.means(x @ others))
        else:
            y = (x[self.chosen] @ own).add_(self.means(x) @ others)
        convolved: Tensor = y.add_(self.bias)
        return convolved


def _biases(outputs: int, vertex_count: int) -> nn.Parameter:
    """Zeros: (C,), or (V, 1, C) to be added to (V, B, C)."""
    return nn.Parameter(torch.zeros((vertex_count, 1, outputs) if vertex_count else outputs))


class _PropagateFirst(Function):
    """Σ (T_k(L) x)[chosen] W_k: the propagation is as wide as x."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, laplacian: SparseOperator, chosen: Tensor
    ) -> Tensor:
        terms = [x[chosen]]
        before, now = x, x
        for k in range(1, len(weight)):
            after = laplacian.times(now)
            if k > 1:
                after.mul_(2).sub_(before)
            before, now = now, after
            terms.append(now[chosen])
        context.laplacian, context.count = laplacian, len(x)
        context.save_for_backward(weight, chosen, *terms)
        return _mixed(terms, weight)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        weight, chosen, *terms = context.saved_tensors
        gradient = gradients[0].contiguous()
        d_weight = torch.stack([_outer(term, gradient) for term in terms])
        if not context.needs_input_grad[0]:
            return None, d_weight, None, None

        def spread(k: int) -> Tensor:
            mixed = gradient @ weight[k].T
            everywhere: Tensor = mixed.new_zeros(context.count, *mixed.shape[1:])
            everywhere[chosen] = mixed
            return everywhere

        return _clenshaw(context.laplacian, len(weight), spread), d_weight, None, None


class _MixFirst(Function):
    """Σ T_k(L) (x W_k), by Clenshaw's recurrence: the propagation is as wide as the result."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, laplacian: SparseOperator, chosen: None
    ) -> Tensor:
        context.laplacian = laplacian
        context.save_for_backward(x, weight)
        return _clenshaw(laplacian, len(weight), lambda k: x @ weight[k])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = context.saved_tensors
        terms = [gradients[0].contiguous()]
        for k in range(1, len(weight)):
            after = context.laplacian.times(terms[-1])
            if k > 1:
                after.mul_(2).sub_(terms[-2])
            terms.append(after)
        d_weight = torch.stack([_outer(x, term) for term in terms])
        return _mixed(terms, weight.transpose(1, 2)), d_weight, None, None


def _clenshaw(laplacian: SparseOperator, order: int, term: Callable[[int], Tensor]) -> Tensor:
    """Σ T_k(L) c_k with c_k = term(k), for a symmetric L.

    Clenshaw (1955), A note on the summation of Chebyshev series: b_k = c_k + 2 L b_k+1 - b_k+2.
    """
    last: Tensor | None = None
    total = term(order - 1)
    for k in range(order - 2, -1, -1):
        product = laplacian.times(total)
        if k:
            product.mul_(2)
        product.add_(term(k))
        if last is not None:
            product.sub_(last)
        last, total = total, product
    return total


def _mixed(terms: list[Tensor], weight: Tensor) -> Tensor:
    """Σ terms_k weight_k, each (V, B, C) with (C, C')."""
    rows = terms[0].shape[:-1]
    total = terms[0].flatten(0, 1) @ weight[0]
    for term, matrix in zip(terms[1:], weight[1:], strict=True):
        total.addmm_(term.flatten(0, 1), matrix)
    return total.view(*rows, -1)


def _outer(x: Tensor, y: Tensor) -> Tensor:
    """Σ over vertices and batch of x y', (C, C')."""
    return x.flatten(0, 1).T @ y.flatten(0, 1)

"""Convolutions beside PyTorch Geometric's, and beside the dense matrices they stand for."""

from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from scipy.sparse import csr_matrix, random_array
from torch import Tensor

from facegen.training.mesh.convolutions import (
    ChebyshevConv,
    SageConv,
    neighbour_means,
    rescaled_laplacian,
)
from facegen.training.mesh.hierarchy import adjacency
from facegen.training.mesh.operators import SparseOperator

_BALL = trimesh.creation.icosphere(subdivisions=2)
_GRAPH = adjacency(_BALL.faces, len(_BALL.vertices))
_EDGES = torch.from_numpy(np.stack(_GRAPH.nonzero()).astype(np.int64))
_CHOSEN = torch.arange(0, len(_BALL.vertices), 3)


def _convolution(
    name: str, inputs: int, outputs: int, chosen: Tensor | None = None
) -> ChebyshevConv | SageConv:
    torch.manual_seed(0)
    if name == "chebyshev":
        laplacian = SparseOperator(rescaled_laplacian(_GRAPH))
        return ChebyshevConv(inputs, outputs, order=6, laplacian=laplacian, chosen=chosen)
    means = neighbour_means(_GRAPH)
    rows = SparseOperator(means if chosen is None else means[chosen.numpy()])
    return SageConv(inputs, outputs, means=rows, chosen=chosen)


def _geometric(ours: ChebyshevConv | SageConv) -> tuple[Any, list[Any]]:
    """The same convolution, and its linear layers in the order of our weights."""
    from torch_geometric.nn import ChebConv, SAGEConv

    count, inputs, outputs = ours.weight.shape
    if isinstance(ours, ChebyshevConv):
        theirs: Any = ChebConv(inputs, outputs, count)
        linears, bias = list(theirs.lins), theirs.bias
    else:
        theirs = SAGEConv(inputs, outputs)
        linears, bias = [theirs.lin_r, theirs.lin_l], theirs.lin_l.bias
    with torch.no_grad():
        bias.copy_(ours.bias)
        for linear, weight in zip(linears, ours.weight, strict=True):
            linear.weight.copy_(weight.T)
    return theirs, linears


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # of what it imports
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["chebyshev", "sage"])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 16), (16, 16), (16, 3)])
def test_output_and_gradients_are_those_of_pytorch_geometric(
    name: str, inputs: int, outputs: int
) -> None:
    for chosen in (None, _CHOSEN):
        ours = _convolution(name, inputs, outputs, chosen)
        with torch.no_grad():
            ours.bias.normal_()
        theirs, linears = _geometric(ours)
        x = torch.randn(len(_BALL.vertices), 4, inputs, requires_grad=True)
        y = x.detach().clone().requires_grad_()

        out = ours(x)
        expected = theirs(y.transpose(0, 1), _EDGES).transpose(0, 1)
        expected = expected if chosen is None else expected[chosen]
        mix = torch.randn_like(out)
        torch.autograd.backward([(out * mix).sum(), (expected * mix).sum()])

        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(x.grad, y.grad, atol=1e-4, rtol=1e-4)
        assert ours.weight.grad is not None
        for gradient, linear in zip(ours.weight.grad, linears, strict=True):
            torch.testing.assert_close(gradient, linear.weight.grad.T, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", ["chebyshev", "sage"])
def test_a_vertex_may_have_no_neighbours(name: str) -> None:
    alone = csr_matrix((3, 3), dtype=np.float32)
    if name == "chebyshev":
        laplacian = SparseOperator(rescaled_laplacian(alone))
        convolution: torch.nn.Module = ChebyshevConv(2, 2, order=3, laplacian=laplacian)
    else:
        convolution = SageConv(2, 2, means=SparseOperator(neighbour_means(alone)))

    assert convolution(torch.randn(3, 1, 2)).isfinite().all()


def test_the_laplacians_eigenvalues_lie_between_minus_one_and_one() -> None:
    eigenvalues = np.linalg.eigvalsh(rescaled_laplacian(_GRAPH).toarray())

    assert eigenvalues.min() == pytest.approx(-1, abs=1e-6)  # of the constant vector
    assert eigenvalues.max() <= 1 + 1e-6


def test_a_vertex_reaches_as_far_as_the_order_says() -> None:
    convolution = _convolution("chebyshev", 1, 1)
    x = torch.zeros(len(_BALL.vertices), 1, 1)
    x[0] = 1

    touched = (convolution(x)[:, 0, 0] != 0).nonzero().ravel()

    reached = np.linalg.matrix_power(_GRAPH.toarray() + np.eye(len(x)), 5)[0] > 0
    assert set(touched.tolist()) == set(np.flatnonzero(reached))


def test_own_biases_are_added_to_their_vertices() -> None:
    laplacian = SparseOperator(rescaled_laplacian(_GRAPH))
    convolution = ChebyshevConv(2, 3, order=2, laplacian=laplacian, own_biases=True)
    x = torch.randn(len(_BALL.vertices), 5, 2)
    plain = convolution(x)

    with torch.no_grad():
        convolution.bias[7] += 1.0

    moved = convolution(x) - plain
    torch.testing.assert_close(moved[7], torch.ones(5, 3))
    assert moved.detach().abs().sum() == pytest.approx(15.0, rel=1e-5)


def test_a_sparse_product_and_its_gradient_are_those_of_the_dense_matrix() -> None:
    matrix = csr_matrix(random_array((20, 12), density=0.2, random_state=0), dtype=np.float32)
    operator = SparseOperator(matrix)
    dense = torch.from_numpy(matrix.toarray())
    x = torch.randn(12, 3, 4, requires_grad=True)
    y = x.detach().clone().requires_grad_()

    out, expected = operator(x), torch.einsum("vw,wbc->vbc", dense, y)
    mix = torch.randn_like(out)
    torch.autograd.backward([(out * mix).sum(), (expected * mix).sum()])

    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(x.grad, y.grad)

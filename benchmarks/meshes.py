"""A training step of our mesh autoencoders beside the same networks in PyTorch Geometric.

Both have the same weights and must give the same meshes. Steps take turns, on one thread, so that
what else the machine does hits all alike; medians are compared. PyTorch Geometric is used as its
documentation says: `edge_index`, the batch as (B, V, C) over one static graph.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import ChebConv, SAGEConv
from torch_geometric.utils import scatter

from facegen.training.memory import keep_freed_memory
from facegen.training.mesh.convolutions import ChebyshevConv, SageConv
from facegen.training.mesh.hierarchy import Hierarchy, build_hierarchy
from facegen.training.mesh.ict import load_face_model, simplified
from facegen.training.mesh.model import MeshAutoencoder, MeshConfig, VertexScale

CONVOLUTIONS = ("chebyshev", "sage")
LIMIT = 1e-5
"""The largest difference of the two networks' outputs, in the network's unit."""


class GeometricNetwork(nn.Module):
    """One of our autoencoders, written with PyTorch Geometric, with its weights.

    Args:
        model: Ours.
    """

    def __init__(self, model: MeshAutoencoder) -> None:
        super().__init__()
        hierarchy, self.scale = model.hierarchy, float(model.encoder.deviation)
        self.mean = model.encoder.mean
        self.kept = [torch.from_numpy(kept) for kept in hierarchy.kept]
        self.edges = [_edges(hierarchy, level) for level in range(len(hierarchy.faces))]
        self.ups = [_entries(hierarchy, level) for level in range(len(hierarchy.kept))]
        self.coarsest = model.decoder.coarsest
        self.down = nn.ModuleList(_Geometric(it) for it in model.encoder.convolutions)
        self.up = nn.ModuleList(_Geometric(it) for it in model.decoder.convolutions)
        self.last = _Geometric(model.decoder.last)
        self.mu, self.expand = _copied(model.encoder.mu), _copied(model.decoder.expand)

    def forward(self, vertices: Tensor) -> Tensor:
        """Encode and decode meshes (B, V, 3)."""
        x = (vertices - self.mean) / self.scale
        for level, convolution in enumerate(self.down):
            x = functional.elu(convolution(x, self.edges[level]))[:, self.kept[level]]
        x = self.expand(self.mu(x.flatten(1))).unflatten(1, self.coarsest)
        for level, convolution in zip(reversed(range(len(self.up))), self.up, strict=True):
            rows, columns, weights, count = self.ups[level]
            taken = x[:, columns] * weights[:, None]
            x = scatter(taken, rows, dim=1, dim_size=count)
            x = functional.elu(convolution(x, self.edges[level]))
        decoded: Tensor = self.last(x, self.edges[0]) * self.scale + self.mean
        return decoded


class _Geometric(nn.Module):
    """A convolution of PyTorch Geometric with the weights of one of ours."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        assert isinstance(ours, ChebyshevConv | SageConv)
        count, inputs, outputs = ours.weight.shape
        if isinstance(ours, ChebyshevConv):
            self.convolution = ChebConv(inputs, outputs, count, bias=False)
            linears = list(self.convolution.lins)
        else:
            self.convolution = SAGEConv(inputs, outputs, bias=False)
            linears = [self.convolution.lin_r, self.convolution.lin_l]
        with torch.no_grad():
            for linear, weight in zip(linears, ours.weight, strict=True):
                linear.weight.copy_(weight.T)
        # (C,), or (V, C) where every vertex has its own.
        bias = ours.bias.detach().clone()
        self.bias = nn.Parameter(bias if bias.ndim == 1 else bias[:, 0])

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        y: Tensor = self.convolution(x, edges) + self.bias
        return y


def _edges(hierarchy: Hierarchy, level: int) -> Tensor:
    graph = hierarchy.adjacency(level).tocoo()
    return torch.from_numpy(np.stack([graph.row, graph.col]).astype(np.int64))


def _entries(hierarchy: Hierarchy, level: int) -> tuple[Tensor, Tensor, Tensor, int]:
    up = hierarchy.up(level).tocoo()
    indices = [torch.from_numpy(it.astype(np.int64)) for it in (up.row, up.col)]
    return indices[0], indices[1], torch.from_numpy(up.data), up.shape[0]


def _copied(linear: nn.Linear) -> nn.Linear:
    copy = nn.Linear(linear.in_features, linear.out_features)
    copy.load_state_dict(linear.state_dict())
    return copy


def largest_difference(ours: MeshAutoencoder, theirs: GeometricNetwork, vertices: Tensor) -> float:
    """How far two networks' outputs lie apart, in the network's unit."""
    with torch.no_grad():
        difference = ours(vertices).reconstruction - theirs(vertices)
    return float(difference.abs().max()) / theirs.scale


def _step(network: nn.Module, forward: Callable[[Tensor], Tensor], vertices: Tensor) -> None:
    network.zero_grad()
    (forward(vertices) - vertices).abs().mean().backward()  # type: ignore[no-untyped-call]  # torch's


def measure(steps: Mapping[str, Callable[[], None]], *, repetitions: int) -> Mapping[str, float]:
    """Time functions in turns; returns their median seconds."""
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repetitions):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Run the race and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="holds ict_facekit.npz")
    parser.add_argument("--vertices", type=int, default=5000, help="of a mesh")
    parser.add_argument("--batch-size", type=int, default=16, help="meshes of a step")
    parser.add_argument("--repetitions", type=int, default=5, help="steps of each")
    arguments = parser.parse_args()

    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    face = simplified(load_face_model(arguments.data), arguments.vertices)
    scale = VertexScale(face.neutral, 3.0)
    noise = torch.randn(arguments.batch_size, *face.neutral.shape)
    vertices = torch.from_numpy(face.neutral) + 3 * noise
    steps: dict[str, Callable[[], None]] = {}
    parameters, differences = {}, {}
    for name in CONVOLUTIONS:
        config = MeshConfig(convolution=name)
        hierarchy = build_hierarchy(face.neutral, face.faces, config.factors)
        ours = MeshAutoencoder(config, hierarchy, scale)
        theirs = GeometricNetwork(ours)
        differences[name] = largest_difference(ours, theirs, vertices)
        if differences[name] > LIMIT:
            raise SystemExit(f"{name}: outputs differ by {differences[name]:.1e}")
        parameters[name] = ours.parameter_count

        def our_step(ours: MeshAutoencoder = ours) -> None:
            _step(ours, lambda x: ours(x).reconstruction, vertices)

        def their_step(theirs: GeometricNetwork = theirs) -> None:
            _step(theirs, theirs, vertices)

        steps[name], steps[f"{name}, PyTorch Geometric"] = our_step, their_step
    seconds = measure(steps, repetitions=arguments.repetitions)

    table = Table("network", "ms a mesh", "times as fast as PyG", "outputs differ by", "parameters")
    for name in CONVOLUTIONS:
        theirs_s = seconds[f"{name}, PyTorch Geometric"]
        for row, ratio in ((name, theirs_s / seconds[name]), (f"{name}, PyTorch Geometric", 1.0)):
            milliseconds = 1000 * seconds[row] / arguments.batch_size
            table.add_row(
                row,
                f"{milliseconds:.1f}",
                f"{ratio:.1f}",
                f"{differences[name]:.0e}",
                f"{parameters[name]:,}",
            )
    Console().print(table)
    print(f"sage / chebyshev: {seconds['sage'] / seconds['chebyshev']:.2f}")


if __name__ == "__main__":
    main()

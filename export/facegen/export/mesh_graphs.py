"""The graphs of a mesh autoencoder, written by name, in which a topology is fixed.

`vertices` float32 (B, V, 3) in millimetres to `mu` and, of a VAE, `logvar` (B, Z); `latent` (B, Z)
to `vertices`; and `row` uint8 (B, 1), of which nothing is read, to the topology.
"""

import copy

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import nn

from facegen.export.graph_writer import GraphWriter
from facegen.export.mesh_writing import Convolution, MeshLayouts, MeshWriter
from facegen.training.mesh.convolutions import ChebyshevConv, SageConv
from facegen.training.mesh.model import LOGVAR_RANGE, MeshDecoder, MeshEncoder
from facegen.training.mesh.operators import SparseOperator

__all__ = ["decoder_graph", "encoder_graph", "topology_graph"]

_FLOAT = TensorProto.FLOAT


def encoder_graph(encoder: MeshEncoder, layouts: MeshLayouts, *, name: str) -> onnx.ModelProto:
    """Write the graph from vertices to posteriors.

    Args:
        encoder: In evaluation mode, on the CPU.
        layouts: Where vertices lie in it.
        name: The graph's name.
    """
    writer = MeshWriter(name, "vertices", layouts)
    centred = writer.add("Sub", "vertices", writer.reals(encoder.mean.numpy()))
    x = writer.at_places(centred, 0, 3)
    for level, convolution in enumerate(_convolutions(encoder.convolutions)):
        scale = 1 / float(encoder.deviation) if level == 0 else 1.0
        x = writer.elu(writer.chosen(x, convolution, level, scale=scale))
    coarsest, size = len(encoder.convolutions), encoder.mu.in_features
    features = size // len(layouts.levels[coarsest].places)
    x = writer.reshape(writer.as_meshes(x, coarsest, features), (-1, size))
    writer.linear(x, encoder.mu, output="mu")
    outputs = ["mu"]
    if encoder.logvar is not None:
        low, high = (writer.reals(bound) for bound in LOGVAR_RANGE)
        writer.add("Clip", writer.linear(x, encoder.logvar), low, high, output="logvar")
        outputs.append("logvar")
    return writer.finish(
        [("vertices", _FLOAT, tuple(encoder.mean.shape))],
        [(output, _FLOAT, (encoder.mu.out_features,)) for output in outputs],
    )


def decoder_graph(decoder: MeshDecoder, layouts: MeshLayouts, *, name: str) -> onnx.ModelProto:
    """Write the graph from latents to vertices.

    Args:
        decoder: In evaluation mode, on the CPU.
        layouts: Where vertices lie in it.
        name: The graph's name.
    """
    writer = MeshWriter(name, "latent", layouts)
    convolutions = _convolutions(decoder.convolutions)
    steps = list(zip(_operators(decoder.ups), convolutions, strict=True))
    level = len(steps)
    if layouts.tiled and len(layouts.levels[level - 1].vertices) == 1:
        level -= 1
        (up, convolution), *steps = steps
        features = convolution.weight.shape[2]
        x = writer.linear("latent", _folded_head(decoder))
        x = writer.elu(_at_places(writer, x, level, (up.shape[0], features)))
    else:
        features = decoder.coarsest[1]
        x = _at_places(writer, writer.linear("latent", decoder.expand), level, decoder.coarsest)
    for up, convolution in steps:
        level -= 1
        x = writer.up(x, up, level, features)
        x = writer.elu(writer.convolved(x, convolution, level))
        features = convolution.weight.shape[2]
    assert isinstance(decoder.last, ChebyshevConv | SageConv)
    mean, deviation = decoder.mean.numpy(), float(decoder.deviation)
    moved = writer.as_meshes(writer.convolved(x, decoder.last, 0, scale=deviation), 0, 3)
    writer.add("Add", moved, writer.reals(mean), output="vertices")
    return writer.finish(
        [("latent", _FLOAT, (decoder.expand.in_features,))],
        [("vertices", _FLOAT, mean.shape)],
    )


def topology_graph(
    template: NDArray[np.float32], faces: NDArray[np.int32], *, name: str
) -> onnx.ModelProto:
    """Write the graph that says a topology, once for every row that it is asked for.

    Args:
        template: The mean mesh, (V, 3) in millimetres.
        faces: Triangles, (F, 3).
        name: The graph's name.
    """
    writer = GraphWriter(name)
    count = writer.add("Shape", "row", end=1)
    shape = writer.add("Concat", count, writer.constant(np.array([1, 1])), axis=0)
    triangles = writer.indices(faces[None], to=TensorProto.INT32)
    writer.add("Expand", triangles, shape, output="faces")
    writer.add("Expand", writer.reals(template[None]), shape, output="template")
    return writer.finish(
        [("row", TensorProto.UINT8, (1,))],
        [("faces", TensorProto.INT32, faces.shape), ("template", _FLOAT, template.shape)],
    )


def _at_places(writer: MeshWriter, x: str, level: int, shape: tuple[int, int]) -> str:
    """Bring features (B, V C) to the places of a level; `shape` says V and C."""
    return writer.at_places(writer.reshape(x, (-1, *shape)), level, shape[1])


def _folded_head(decoder: MeshDecoder) -> nn.Linear:
    """All that comes before a decoder's first nonlinearity, as one linear layer to (V, C)."""
    exact = copy.deepcopy(decoder).double()

    def head(latent: torch.Tensor) -> torch.Tensor:
        x = exact.expand(latent).unflatten(1, exact.coarsest).transpose(0, 1).contiguous()
        y: torch.Tensor = exact.convolutions[0](exact.ups[0](x))
        return y.transpose(0, 1).flatten(1)

    size = decoder.expand.in_features
    with torch.no_grad():
        origin = head(torch.zeros(1, size, dtype=torch.float64))
        basis = head(torch.eye(size, dtype=torch.float64)) - origin
    folded = nn.Linear(size, origin.shape[1])
    folded.weight = nn.Parameter(basis.T.float(), requires_grad=False)
    folded.bias = nn.Parameter(origin[0].float(), requires_grad=False)
    return folded


def _convolutions(modules: nn.ModuleList) -> list[Convolution]:
    found = [it for it in modules if isinstance(it, ChebyshevConv | SageConv)]
    assert len(found) == len(modules)
    return found


def _operators(modules: nn.ModuleList) -> list[SparseOperator]:
    found = [it for it in modules if isinstance(it, SparseOperator)]
    assert len(found) == len(modules)
    return found

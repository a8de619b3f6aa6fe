"""The mesh autoencoder: graph convolutions on ever coarser meshes, a latent, and the way back.

Ranjan et al. (2018), Generating 3D Faces using Convolutional Mesh Autoencoders (COMA),
https://arxiv.org/abs/1807.10267; activations are ELUs, as in its best-known PyTorch version.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from facegen.training.autoencoder import Posterior
from facegen.training.mesh.convolutions import (
    ChebyshevConv,
    SageConv,
    neighbour_means,
    rescaled_laplacian,
)
from facegen.training.mesh.hierarchy import Hierarchy
from facegen.training.mesh.operators import SparseOperator

__all__ = [
    "LOGVAR_RANGE",
    "MeshAutoencoder",
    "MeshConfig",
    "MeshDecoder",
    "MeshEncoder",
    "MeshOutput",
    "VertexScale",
]

LOGVAR_RANGE = (-12.0, 6.0)
"""Beyond it a posterior is a point, or wider than any prior."""


class MeshConfig(BaseModel):
    """What a mesh autoencoder is made of; the defaults are COMA's."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["mesh"] = "mesh"
    """An autoencoder of face meshes."""
    variational: bool = False
    """A posterior over latents (a VAE) instead of one latent."""
    convolution: Literal["chebyshev", "sage"] = "chebyshev"
    """chebyshev: polynomials of the Laplacian; sage: GraphSAGE's means over neighbours."""
    order: int = Field(default=6, ge=1)
    """K: terms of a Chebyshev polynomial, which reaches K - 1 edges far."""
    filters: tuple[int, ...] = Field(default=(16, 16, 16, 32), min_length=1)
    """Features after each of the encoder's convolutions; the decoder has them in reverse."""
    factors: tuple[int, ...] = Field(default=(4, 4, 4, 4), min_length=1)
    """How many times fewer vertices each level has than the one before."""
    latent_size: int = Field(default=8, ge=1)
    """Values of a latent."""
    vertex_biases: bool = True
    """Give every vertex biases of its own in the decoder's convolutions but the last. COMA gives
    all the same, so that a vertex has to guess from its neighbours where on the face it is."""

    @model_validator(mode="after")
    def _as_many_levels(self) -> "MeshConfig":
        if len(self.filters) != len(self.factors):
            raise ValueError(
                f"{len(self.filters)} filters and {len(self.factors)} factors: give as many of each"
            )
        return self


class VertexScale(NamedTuple):
    """What takes vertices to the network's own unit.

    Attributes:
        mean: The mean mesh, (V, 3) in millimetres.
        deviation: Of all coordinates from it, in millimetres.
    """

    mean: NDArray[np.float32]
    deviation: float

    @classmethod
    def of(cls, vertices: NDArray[np.float32]) -> "VertexScale":
        """Measure meshes (N, V, 3)."""
        mean = vertices.mean(0, dtype=np.float64)
        deviation = float(np.sqrt(np.mean(np.square(vertices - mean.astype(np.float32)))))
        return cls(mean.astype(np.float32), deviation or 1.0)


class MeshOutput(NamedTuple):
    """What the model makes of meshes.

    Attributes:
        reconstruction: (B, V, 3) in millimetres.
        posterior: Means, and of a VAE logarithms of variances, (B, Z).
    """

    reconstruction: Tensor
    posterior: Posterior


class MeshEncoder(nn.Module):
    """Meshes to posteriors.

    Args:
        config: The model's configuration.
        hierarchy: Its levels.
        scale: The data's.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: MeshConfig, hierarchy: Hierarchy, scale: VertexScale) -> None:
        super().__init__()
        _register_scale(self, scale)
        self.convolutions = nn.ModuleList(
            _convolution(config, hierarchy, level, inputs, outputs, choose=True)
            for level, (inputs, outputs) in enumerate(pairwise((3, *config.filters)))
        )
        size = config.filters[-1] * hierarchy.vertex_counts[-1]
        self.mu = nn.Linear(size, config.latent_size)
        self.logvar = nn.Linear(size, config.latent_size) if config.variational else None

    def forward(self, vertices: Tensor) -> Posterior:
        """Encode meshes (B, V, 3) in millimetres."""
        x = ((vertices - self.mean) / self.deviation).transpose(0, 1).contiguous()  # (V, B, 3)
        for convolution in self.convolutions:
            x = functional.elu(convolution(x), inplace=True)  # (V / 4, B, C)
        x = x.transpose(0, 1).flatten(1)  # (B, V C)
        logvar = None if self.logvar is None else self.logvar(x).clamp(*LOGVAR_RANGE)
        return Posterior(self.mu(x), logvar)


class MeshDecoder(nn.Module):
    """Latents to meshes.

    Args:
        config: The model's configuration.
        hierarchy: Its levels.
        scale: The data's.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: MeshConfig, hierarchy: Hierarchy, scale: VertexScale) -> None:
        super().__init__()
        _register_scale(self, scale)
        self.coarsest = (hierarchy.vertex_counts[-1], config.filters[-1])
        self.expand = nn.Linear(config.latent_size, self.coarsest[0] * self.coarsest[1])
        levels = range(len(config.filters) - 1, -1, -1)
        self.ups = nn.ModuleList(SparseOperator(hierarchy.up(level)) for level in levels)
        widths = (config.filters[-1], *reversed(config.filters))
        self.convolutions = nn.ModuleList(
            _convolution(config, hierarchy, level, inputs, outputs, own_biases=config.vertex_biases)
            for level, (inputs, outputs) in zip(levels, pairwise(widths), strict=True)
        )
        self.last = _convolution(config, hierarchy, 0, config.filters[0], 3)

    def forward(self, latent: Tensor) -> Tensor:
        """Decode latents (B, Z) to meshes (B, V, 3) in millimetres."""
        x = self.expand(latent).unflatten(1, self.coarsest)  # (B, V, C)
        x = x.transpose(0, 1).contiguous()  # (V, B, C)
        for up, convolution in zip(self.ups, self.convolutions, strict=True):
            x = functional.elu(convolution(up(x)), inplace=True)
        vertices: Tensor = self.last(x).transpose(0, 1) * self.deviation + self.mean
        return vertices


class MeshAutoencoder(nn.Module):
    """A mesh autoencoder; its levels and its scale are stored with its weights.

    Args:
        config: The model's configuration.
        hierarchy: Its levels, as many as the configuration has.
        scale: The data's.
    """

    def __init__(self, config: MeshConfig, hierarchy: Hierarchy, scale: VertexScale) -> None:
        super().__init__()
        self.config = config
        self.levels = _Levels(hierarchy)
        self.encoder = MeshEncoder(config, hierarchy, scale)
        self.decoder = MeshDecoder(config, hierarchy, scale)

    def forward(self, vertices: Tensor, noise: Tensor | None = None) -> MeshOutput:
        """Encode and decode.

        Args:
            vertices: (B, V, 3) in millimetres.
            noise: Standard normal, (B, Z): decode a draw from the posterior; None decodes its mean.
        """
        posterior = self.encoder(vertices)
        latent = posterior.mu
        if noise is not None and posterior.logvar is not None:
            latent = latent + noise * torch.exp(posterior.logvar / 2)
        return MeshOutput(self.decoder(latent), posterior)

    @property
    def hierarchy(self) -> Hierarchy:
        """Its levels."""
        return self.levels.hierarchy

    @property
    def template(self) -> NDArray[np.float32]:
        """The mean mesh of the training data, (V, 3) in millimetres."""
        mean: NDArray[np.float32] = self.encoder.mean.cpu().numpy()
        return mean

    @property
    def parameter_count(self) -> int:
        """Numbers that training changes."""
        return sum(parameter.numel() for parameter in self.parameters())

    @classmethod
    def of_state(cls, config: MeshConfig, state: Mapping[str, Tensor]) -> "MeshAutoencoder":
        """Rebuild a model from its configuration and its `state_dict`.

        Raises:
            RuntimeError: They do not fit together.
        """
        prefix = "levels."
        stored = {
            n.removeprefix(prefix): t.numpy() for n, t in state.items() if n.startswith(prefix)
        }
        try:
            hierarchy = Hierarchy.of_state(stored)
            scale = VertexScale(
                state["encoder.mean"].numpy(), float(state["encoder.deviation"].item())
            )
            model = cls(config, hierarchy, scale)
        except (KeyError, IndexError, TypeError) as error:
            raise RuntimeError(
                f"the state holds no levels for this configuration: {error}"
            ) from error
        model.load_state_dict(state)
        return model


class _Levels(nn.Module):
    """Keeps a hierarchy in the state."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        super().__init__()
        for name, array in hierarchy.state().items():
            self.register_buffer(name, torch.from_numpy(array))

    @property
    def hierarchy(self) -> Hierarchy:
        return Hierarchy.of_state({name: t.cpu().numpy() for name, t in self.named_buffers()})


def _register_scale(module: nn.Module, scale: VertexScale) -> None:
    module.register_buffer("mean", torch.from_numpy(scale.mean))
    module.register_buffer("deviation", torch.tensor(scale.deviation, dtype=torch.float32))


def _convolution(
    config: MeshConfig,
    hierarchy: Hierarchy,
    level: int,
    inputs: int,
    outputs: int,
    *,
    choose: bool = False,
    own_biases: bool = False,
) -> ChebyshevConv | SageConv:
    """A convolution on a level; `choose`: keep the vertices of the next level alone."""
    graph: Any = hierarchy.adjacency(level)
    kept = hierarchy.kept[level] if choose else None
    chosen = None if kept is None else torch.from_numpy(kept)
    options: dict[str, Any] = {"chosen": chosen, "own_biases": own_biases}
    if config.convolution == "chebyshev":
        laplacian = SparseOperator(rescaled_laplacian(graph))
        return ChebyshevConv(inputs, outputs, order=config.order, laplacian=laplacian, **options)
    means = neighbour_means(graph)
    rows = SparseOperator(means if kept is None else means[kept])
    return SageConv(inputs, outputs, means=rows, **options)

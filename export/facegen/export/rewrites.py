"""Exact rewrites of a trained encoder and decoder: the same function in fewer operations.

The first map of a decoder, from the latent through the first transposed convolution and its
normalisation, has no nonlinearity: it is one affine map from Z values to C·H·W, found by pushing
the basis through in float64. Normalisations after other convolutions are folded by the exporter.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import cast

import torch
from torch import Tensor, nn

from facegen.export.phases import end_in_phases, ends_at_full_size
from facegen.training.autoencoder import Decoder, Encoder

__all__ = [
    "HEADS",
    "AffineMap",
    "decoder_forms",
    "encoder_forms",
    "fold_affine",
    "fold_head",
    "join_outputs",
]


@dataclass(frozen=True, slots=True)
class AffineMap:
    """latent @ weight + bias, then a reshape.

    Attributes:
        weight: (Z, C·H·W) float64.
        bias: (C·H·W) float64.
        shape: (C, H, W).
    """

    weight: Tensor
    bias: Tensor
    shape: tuple[int, int, int]


def fold_head(decoder: Decoder) -> tuple[AffineMap, int]:
    """Fold all that comes before a decoder's first nonlinearity into one affine map.

    Args:
        decoder: In evaluation mode; not changed.

    Returns:
        The map, exact to float64 rounding, and how many of the decoder's stages it replaces.
    """
    shape = (decoder.width, decoder.side, decoder.side)
    return fold_affine(decoder.linear, decoder.stages, shape=shape)


def fold_affine(
    linear: nn.Linear, stages: Iterable[nn.Module], *, shape: tuple[int, int, int]
) -> tuple[AffineMap, int]:
    """Fold a linear layer and the affine stages that follow it into one map.

    Args:
        linear: Takes latents.
        stages: What its output goes through, in evaluation mode; not changed.
        shape: What the first stage sees in that output, (C, H, W).

    Returns:
        As `fold_head`.
    """
    affine = (nn.ConvTranspose2d, nn.Conv2d, nn.BatchNorm2d, nn.PixelShuffle)
    folded = list(takewhile(lambda stage: isinstance(stage, affine), stages))
    head = copy.deepcopy(nn.Sequential(linear, nn.Unflatten(1, shape), *folded)).double().eval()
    with torch.no_grad():
        origin = head(torch.zeros(1, linear.in_features, dtype=torch.float64))
        basis = head(torch.eye(linear.in_features, dtype=torch.float64)) - origin
    shape = cast(tuple[int, int, int], tuple(origin.shape[1:]))
    return AffineMap(basis.flatten(1), origin.flatten(), shape), len(folded)


class _Gemm(nn.Module):
    """Gemm with the weight transposed, as nn.Linear keeps it."""

    def __init__(self, affine: AffineMap) -> None:
        super().__init__()
        self.linear = nn.Linear(*affine.weight.shape)
        self.linear.weight = nn.Parameter(affine.weight.T.float().contiguous())
        self.linear.bias = nn.Parameter(affine.bias.float())

    def forward(self, z: Tensor) -> Tensor:
        return cast(Tensor, self.linear(z))


class _MatMul(nn.Module):
    """MatMul and Add, the weight as the product wants it."""

    def __init__(self, affine: AffineMap) -> None:
        super().__init__()
        self.weight = nn.Parameter(affine.weight.float().contiguous())
        self.bias = nn.Parameter(affine.bias.float())

    def forward(self, z: Tensor) -> Tensor:
        return torch.matmul(z, self.weight) + self.bias


class _Convolution(nn.Module):
    """A convolution of one pixel."""

    def __init__(self, affine: AffineMap) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(affine.weight.shape[0], affine.weight.shape[1], kernel_size=1)
        self.convolution.weight = nn.Parameter(affine.weight.T.float()[:, :, None, None])
        self.convolution.bias = nn.Parameter(affine.bias.float())

    def forward(self, z: Tensor) -> Tensor:
        return cast(Tensor, self.convolution(z[:, :, None, None])).flatten(1)


class _TransposedConvolution(nn.Module):
    """A transposed convolution of one pixel, its kernel as large as its output."""

    def __init__(self, affine: AffineMap) -> None:
        super().__init__()
        size, (channels, height, width) = affine.weight.shape[0], affine.shape
        self.convolution = nn.ConvTranspose2d(size, channels, (height, width), bias=False)
        self.convolution.weight = nn.Parameter(affine.weight.float().reshape(size, *affine.shape))
        self.bias = nn.Parameter(affine.bias.float().reshape(affine.shape))

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.convolution(z[:, :, None, None]) + self.bias
        return x.flatten(1)


HEADS: Mapping[str, Callable[[AffineMap], nn.Module]] = {
    "folded head as Gemm": _Gemm,
    "folded head as MatMul": _MatMul,
    "folded head as convolution": _Convolution,
    "folded head as transposed convolution": _TransposedConvolution,
}
"""Modules (B, Z) to (B, C·H·W) that compute an affine map, the usual winner first."""


def decoder_forms(decoder: Decoder) -> Mapping[str, Callable[[], nn.Module]]:
    """The forms of a decoder by name, the usual winner first and the plain one last.

    Args:
        decoder: In evaluation mode; not changed.

    Returns:
        Builders of modules (B, Z) to (B, C, H, W) that compute the same function.
    """
    affine, count = fold_head(decoder)
    forms = {name: _with_head(decoder, head, affine, count) for name, head in HEADS.items()}
    if ends_at_full_size(decoder.stages[count:]):
        name, folded = next(iter(forms.items()))
        forms = {f"{name}, end in phases": lambda: end_in_phases(folded()), **forms}
    return {**forms, "plain": lambda: decoder}


def _with_head(
    decoder: Decoder, head: Callable[[AffineMap], nn.Module], affine: AffineMap, count: int
) -> Callable[[], Decoder]:
    def build() -> Decoder:
        folded = copy.deepcopy(decoder)
        folded.linear = head(affine)  # type: ignore[assignment]  # any module (B, Z) to (B, C·H·W)
        folded.width, folded.side = affine.shape[0], affine.shape[1]
        folded.stages = nn.Sequential(*list(folded.stages)[count:])
        return folded

    return build


class _Columns(nn.Module):
    """Some columns of a matrix (B, N)."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first, self.last = first, last

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.first : self.last]


def encoder_forms(encoder: Encoder) -> Mapping[str, Callable[[], nn.Module]]:
    """The forms of an encoder by name, the usual winner first and the plain one last.

    Args:
        encoder: In evaluation mode; not changed.

    Returns:
        Builders of modules (B, C, H, W) to a posterior that compute the same function.
    """
    forms: dict[str, Callable[[], nn.Module]] = {}
    if encoder.logvar is not None:
        forms["mu and logvar in one Gemm"] = lambda: _join_outputs(encoder)
    return {**forms, "plain": lambda: encoder}


def _join_outputs(encoder: Encoder) -> nn.Module:
    joined = copy.deepcopy(encoder)
    assert joined.logvar is not None
    both, mu, logvar = join_outputs(joined.mu, joined.logvar)
    joined.stages = nn.Sequential(joined.stages, nn.Flatten(), both)
    joined.mu, joined.logvar = mu, logvar  # type: ignore[assignment]  # (B, 2Z) to (B, Z)
    return joined


def join_outputs(mu: nn.Linear, logvar: nn.Linear) -> tuple[nn.Linear, nn.Module, nn.Module]:
    """Join two linear layers that see the same.

    Returns:
        A layer whose output holds both, and what takes each out of it.
    """
    both = nn.Linear(mu.in_features, mu.out_features + logvar.out_features)
    with torch.no_grad():
        both.weight.copy_(torch.cat([mu.weight, logvar.weight]))
        both.bias.copy_(torch.cat([mu.bias, logvar.bias]))
    size = mu.out_features
    return both, _Columns(0, size), _Columns(size, both.out_features)

"""The expression model: one variational encoder, a decoder per expression that edits a photo."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from facegen.training.autoencoder import Posterior

__all__ = [
    "EXPRESSIONS",
    "Edit",
    "Encoding",
    "ExpressionConfig",
    "ExpressionDecoder",
    "ExpressionEncoder",
    "ExpressionModel",
    "Fields",
    "apply_edit",
    "fields",
    "warp",
]

EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger")
"""The supported expressions, by FER+'s names."""

_LOGVAR_LIMIT = 10.0
_GRID = 12
"""Cells a side of the features."""
_CELLS = 24
"""Cells a side of mask and flow: two pixels each, enough to close lips."""
_BORDER = 1 / 12
"""How wide the band is, as a fraction of the side, over which an edit fades out."""


class ExpressionConfig(BaseModel):
    """What an expression model is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["expression"] = "expression"
    """An encoder and a decoder per expression."""
    image_size: Literal[48] = 48
    """Height and width in pixels."""
    channels: Literal[1] = 1
    """Grey."""
    latent_size: int = Field(default=128, ge=1)
    """Values in a latent."""
    widths: tuple[int, int, int, int, int] = (24, 48, 96, 192, 192)
    """Channels of the encoder's stages."""
    feature_channels: int = Field(default=48, ge=1)
    """Channels of the spatial features that the decoders see beside the latent."""
    decoder_widths: tuple[int, int, int] = (32, 64, 96)
    """Channels of a decoder at 12 x 12, 6 x 6 and 3 x 3."""
    expressions: tuple[str, ...] = EXPRESSIONS
    """The decoders' names."""
    flow_limit: float = Field(default=0.15, gt=0, le=0.5)
    """The farthest that a pixel may come from, as a fraction of the side."""


class Encoding(NamedTuple):
    """What the encoder says of pictures: a posterior, and features (B, F, 12, 12)."""

    posterior: Posterior
    features: Tensor


class Edit(NamedTuple):
    """How a decoder changes a picture.

    Attributes:
        content: (B, 1, H, W), about [0, 1]: without features a VAE's face with the expression.
        mask: (B, 1, 24, 24) in [0, 1]: how much of the content shows.
        flow: (B, 2, 24, 24): where each pixel comes from, to the right and down of its own place,
            as fractions of the side.
    """

    content: Tensor
    mask: Tensor
    flow: Tensor


def _same(inputs: int, outputs: int, *, gain: float = 1.0) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
    nn.init.normal_(convolution.weight, std=gain * math.sqrt(2 / (inputs * 9)))
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # it has one
    return convolution


def _up(inputs: int, outputs: int, *, gain: float = 1.0) -> tuple[nn.Module, nn.Module]:
    """Twice the side: Shi et al. (2016), https://arxiv.org/abs/1609.05158."""
    return _same(inputs, 4 * outputs, gain=gain), nn.PixelShuffle(2)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _same(width, width)
        self.second = _same(width, width, gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(functional.silu(self.first(x)))
        return functional.silu(x + change)


class ExpressionEncoder(nn.Module):
    """Pictures to posteriors and features.

    Five strided convolutions, kernel 4, and two linear layers, as the plain VAE has them; the
    features are taken after the second.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, kernel_size=4, stride=2, padding=2, bias=False),
                nn.BatchNorm2d(b),
                nn.SiLU(),
            )
            for a, b in pairwise((config.channels, *config.widths))
        )
        side: int = config.image_size
        for _ in config.widths:
            side = side // 2 + 1  # 48 → 25 → 13 → 7 → 4 → 3
        self.mu = nn.Linear(config.widths[-1] * side * side, config.latent_size)
        self.logvar = nn.Linear(config.widths[-1] * side * side, config.latent_size)
        self.features = nn.Sequential(
            nn.Conv2d(config.widths[1], config.feature_channels, kernel_size=2),
            nn.SiLU(),
            _Residual(config.feature_channels),
            _Residual(config.feature_channels),
        )

    def forward(self, x: Tensor) -> Encoding:
        """Encode pictures.

        Args:
            x: (B, 1, 48, 48) in [0, 1].

        Returns:
            Posteriors (B, Z) and features (B, F, 12, 12).
        """
        x = self.stages[1](self.stages[0](x - 0.5))  # (B, C, 13, 13)
        features = self.features(x)  # (B, F, 12, 12)
        for stage in list(self.stages)[2:]:
            x = stage(x)
        x = x.flatten(1)
        logvar = self.logvar(x).clamp(-_LOGVAR_LIMIT, _LOGVAR_LIMIT)
        return Encoding(Posterior(self.mu(x), logvar), features)


class _Blur(nn.Module):
    """The mean of 2 × 2 neighbours, twice: takes the chequers that sub-pixel convolutions leave.

    Karras et al. (2019), https://arxiv.org/abs/1812.04948, section 2, blur what they enlarge too.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(x, (1, 1, 1, 1), mode="replicate")
        return functional.avg_pool2d(functional.avg_pool2d(x, 2, stride=1), 2, stride=1)


class ExpressionDecoder(nn.Module):
    """Latents and features to an edit that gives a face one expression.

    Without features (zeros) its content is that of a plain VAE's decoder.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        low, middle, high = config.decoder_widths
        self.flow_limit = config.flow_limit
        self.high = high
        self.linear = nn.Linear(config.latent_size, high * 3 * 3)
        self.trunk = nn.Sequential(
            *(*_up(high, middle), nn.SiLU()),
            *(*_up(middle, low), nn.SiLU()),
        )
        self.merge = nn.Sequential(_same(low + config.feature_channels, low), nn.SiLU())
        self.residual = _Residual(low)
        half = low // 2
        self.enlarge = nn.Sequential(*_up(low, half), _Blur(), nn.SiLU())
        self.content = nn.Sequential(
            *(_same(half, half), nn.SiLU()),
            *(*_up(half, 1, gain=0.2), _Blur()),
        )
        motion = _same(half, 3, gain=0.1)
        assert motion.bias is not None
        nn.init.constant_(motion.bias[2:], -1.0)  # masks begin at a quarter
        self.motion = nn.Sequential(_same(half, half), nn.SiLU(), motion)

    def forward(self, z: Tensor, features: Tensor) -> Edit:
        """Decode latents (B, Z) with features (B, F, 12, 12) of the picture to edit, or zeros."""
        return self.finish(self.begin(z), features)

    def begin(self, z: Tensor) -> Tensor:
        """The layers that the decoders share while training: (B, Z) to (B, C, 12, 12)."""
        x: Tensor = self.trunk(self.linear(z).unflatten(1, (self.high, 3, 3)))
        return x

    def finish(self, x: Tensor, features: Tensor) -> Edit:
        """The layers of this expression alone: from what `begin` gives, and features."""
        x = self.residual(self.merge(torch.cat([x, features], 1)))
        x = self.enlarge(x)  # (B, C, 24, 24)
        motion = self.motion(x)  # (B, 3, 24, 24)
        return Edit(
            content=self.content(x) + 0.5,  # (B, 1, 48, 48)
            mask=torch.sigmoid(motion[:, 2:]),
            flow=torch.tanh(motion[:, :2]) * self.flow_limit,
        )


class ExpressionModel(nn.Module):
    """The encoder and a decoder for each expression.

    Args:
        config: The model's configuration.
    """

    decoders: Mapping[str, ExpressionDecoder]

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ExpressionEncoder(config)
        self.decoders = nn.ModuleDict(  # type: ignore[assignment]  # a mapping to decoders
            {name: ExpressionDecoder(config) for name in config.expressions}
        )
        first = next(iter(self.decoders.values()))
        for decoder in self.decoders.values():  # shared while training; each is exported whole
            decoder.linear, decoder.trunk = first.linear, first.trunk

    def decode_runs(self, z: Tensor, features: Tensor) -> Edit:
        """Decode equal runs of rows, each by the decoder of one expression, in their order.

        Args:
            z: (K · n, Z).
            features: (K · n, F, 12, 12).

        Returns:
            The edits in the order of the rows.
        """
        decoders = list(self.decoders.values())
        x = decoders[0].begin(z)
        parts = zip(decoders, x.chunk(len(decoders)), features.chunk(len(decoders)), strict=True)
        edits = [decoder.finish(low, some) for decoder, low, some in parts]
        return Edit(*(torch.cat(values) for values in zip(*edits, strict=True)))

    def no_features(self, like: Tensor) -> Tensor:
        """Zeros in the features' place, for as many pictures as `like` (B, …) has."""
        return like.new_zeros(len(like), self.config.feature_channels, _GRID, _GRID)


def spline_matrix(points: Sequence[float] | int, cells: int = _CELLS) -> Tensor:
    """Weights of a cubic B-spline through a row of cells, edges repeated.

    Args:
        points: How many evenly spaced pixel centres, or their places in [0, 1].
        cells: Cells in the row.

    Returns:
        (points, cells), rows that add up to 1: bounded by the cells' values and smooth.
    """
    places = (
        (torch.arange(points, dtype=torch.float64) + 0.5) / points
        if isinstance(points, int)
        else torch.tensor(points, dtype=torch.float64)
    )
    position = places * cells - 0.5
    left = position.floor()
    t = position - left
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    matrix = torch.zeros(len(places), cells, dtype=torch.float64)
    for offset, weight in zip(range(-1, 3), weights, strict=True):
        column = (left.long() + offset).clamp(0, cells - 1)
        matrix.scatter_add_(1, column[:, None], weight[:, None])
    return matrix.float()


def window(size: int) -> Tensor:
    """How much of an edit shows along a side: 1 inside, falling to 0 at the edges, (size,)."""
    place = (torch.arange(size, dtype=torch.float32) + 0.5) / size
    edge = torch.minimum(place, 1 - place) / _BORDER
    return torch.where(edge < 1, 0.5 - 0.5 * torch.cos(math.pi * edge), torch.ones(()))


class Fields(NamedTuple):
    """An edit's mask (B, 1, H, W) and flow (B, 2, H, W) for every pixel."""

    mask: Tensor
    flow: Tensor


def fields(edit: Edit, size: int, strength: float | Tensor = 1.0) -> Fields:
    """Smooth an edit's mask and flow.

    Cubic B-splines of the cells, which fade out at the border, so that the picture can be put back
    where it was cut out.

    Args:
        edit: Of pictures.
        size: Their height and width in pixels.
        strength: Scales mask and flow; a tensor is (B, 1, 1, 1).

    Returns:
        The fields; the mask is at most 1.
    """
    spline = spline_matrix(size).to(edit.mask)
    fade = window(size).to(edit.mask)
    fade = strength * fade[:, None] * fade  # (H, W), or (B, 1, H, W)
    mask = (fade * (spline @ edit.mask @ spline.T)).clamp(max=1.0)
    return Fields(mask, fade * (spline @ edit.flow @ spline.T))


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Take each pixel of pictures (B, C, H, W) from where a flow (B, 2, H, W) says."""
    place = (torch.arange(x.shape[-1], device=x.device, dtype=x.dtype) + 0.5) / x.shape[-1]
    down, right = torch.meshgrid(place, place, indexing="ij")
    source = torch.stack([right + flow[:, 0], down + flow[:, 1]], -1)  # (B, H, W, 2)
    return functional.grid_sample(
        x, 2 * source - 1, mode="bilinear", padding_mode="border", align_corners=False
    )


def apply_edit(x: Tensor, edit: Edit, strength: float | Tensor = 1.0) -> Tensor:
    """Edit pictures: y = (1 - A) · warp(x) + A · content.

    Pumarola et al. (2018), https://arxiv.org/abs/1807.09251, equation 1, with a warp of the
    picture in its own place.

    Args:
        x: (B, 1, H, W) in [0, 1].
        edit: Of these pictures.
        strength: Scales flow and mask; a tensor is (B, 1, 1, 1).

    Returns:
        (B, 1, H, W); x at strength 0, up to rounding.
    """
    mask, flow = fields(edit, x.shape[-1], strength)
    warped = warp(x, flow)
    return warped + mask * (edit.content - warped)

"""Classifiers of expressions: guides, which training follows, and the judge, never seen."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from facegen.training.expression.model import EXPRESSIONS

__all__ = ["Classifier", "ClassifierConfig", "adversarial", "vary"]


class ClassifierConfig(BaseModel):
    """What a classifier is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["classifier"] = "classifier"
    """Tells expressions apart."""
    image_size: Literal[48] = 48
    """Height and width of the pictures in pixels."""
    channels: Literal[1] = 1
    """Grey."""
    input_size: int = Field(default=48, ge=16, le=48)
    """Pictures are reduced to this side first."""
    architecture: Literal["plain", "residual", "separable"] = "plain"
    """Plain convolutions, residual blocks, or depthwise-separable blocks."""
    width: int = Field(default=24, ge=4)
    """Channels of the first stage."""
    expressions: tuple[str, ...] = EXPRESSIONS
    """The classes."""


def _convolution(inputs: int, outputs: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, stride=stride)
        self.second = nn.Sequential(
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(stride) if stride > 1 else nn.Identity(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.second(self.first(x)) + self.shortcut(x))


class _Separable(nn.Module):
    """An inverted residual: Sandler et al. (2018), https://arxiv.org/abs/1801.04381."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        middle = 3 * inputs
        self.shortcut = stride == 1 and inputs == outputs
        self.stages = nn.Sequential(
            _convolution(inputs, middle, kernel=1),
            nn.Conv2d(middle, middle, 5, stride, 2, groups=middle, bias=False),
            nn.BatchNorm2d(middle),
            nn.SiLU(),
            nn.Conv2d(middle, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.stages(x)
        return x + y if self.shortcut else y


def _stages(config: ClassifierConfig) -> tuple[list[nn.Module], int]:
    w = config.width
    match config.architecture:
        case "plain":
            return [
                _convolution(1, w, stride=2, kernel=5),
                _convolution(w, 2 * w),
                nn.MaxPool2d(2),
                _convolution(2 * w, 3 * w),
                _convolution(3 * w, 3 * w),
                nn.MaxPool2d(2),
                _convolution(3 * w, 5 * w),
            ], 5 * w
        case "residual":
            return [
                _convolution(1, w),
                _Residual(w, 2 * w, stride=2),
                _Residual(2 * w, 3 * w, stride=2),
                _Residual(3 * w, 4 * w, stride=2),
            ], 4 * w
        case "separable":
            return [
                _convolution(1, w, stride=2),
                _Separable(w, w, stride=1),
                _Separable(w, 2 * w, stride=2),
                _Separable(2 * w, 2 * w, stride=1),
                _Separable(2 * w, 4 * w, stride=2),
                _Separable(4 * w, 4 * w, stride=1),
                _convolution(4 * w, 8 * w, kernel=1),
            ], 8 * w


class Classifier(nn.Module):
    """Pictures to scores of expressions.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        stages, width = _stages(config)
        self.stages = nn.Sequential(*stages)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(
            width * (1 if config.architecture == "separable" else 9), len(config.expressions)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Score pictures (B, 1, H, W) in [0, 1]: logits (B, K), whatever the brightness."""
        size = self.config.input_size
        if x.shape[-1] != size:
            x = functional.interpolate(
                x, size=(size, size), mode="bilinear", antialias=True, align_corners=False
            )
        deviation, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
        x = (x - mean) / (deviation + 0.05)
        pooled = 1 if self.config.architecture == "separable" else 3
        x = functional.adaptive_avg_pool2d(self.stages(x), pooled).flatten(1)
        logits: Tensor = self.head(self.drop(x))
        return logits


def adversarial(
    model: Classifier,
    x: Tensor,
    targets: Tensor,
    *,
    radius: float,
    steps: int,
    random: torch.Generator,
) -> Tensor:
    """Change pictures to be mistaken: projected gradient ascent in an L2 ball.

    Madry et al. (2018), https://arxiv.org/abs/1706.06083. The gradients of a classifier trained on
    such pictures look like what they ask for: Santurkar et al. (2019),
    https://arxiv.org/abs/1906.09453.

    Args:
        model: The classifier.
        x: (B, 1, H, W) in [0, 1].
        targets: Probabilities, (B, K).
        radius: Of the ball, for intensities in [0, 1].
        steps: Of ascent.
        random: Where in the ball to start.

    Returns:
        (B, 1, H, W) without gradients.
    """
    change = torch.randn(x.shape, generator=random, device=x.device)
    change = _clip(change, radius) * torch.rand(len(x), 1, 1, 1, generator=random, device=x.device)
    for _ in range(steps):
        change.requires_grad_()
        loss = functional.cross_entropy(model(x + change), targets, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, change)
        norm = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]
        change = _clip(change.detach() + 1.5 * radius / steps * gradient / norm, radius)
    return (x + change).clamp(0, 1).detach()


def _clip(change: Tensor, radius: float) -> Tensor:
    norm = change.flatten(1).norm(dim=1)[:, None, None, None]
    clipped: Tensor = change * (radius / norm.clamp(min=radius))
    return clipped


def vary(x: Tensor, random: torch.Generator, *, cut_out: bool = True) -> Tensor:
    """Move, turn, scale, shade, blur and cover pictures a little, differentiably.

    Args:
        x: (B, 1, H, W) in [0, 1].
        random: Decides, on the pictures' device.
        cut_out: Cover a square of a quarter of the side in half of the pictures.

    Returns:
        (B, 1, H, W).
    """
    count, device = len(x), x.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=random, device=device)

    angle, scale = uniform(-0.17, 0.17), uniform(0.88, 1.12)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack(
        [
            torch.stack([mirror * cosine, -sine, uniform(-0.1, 0.1)], 1),
            torch.stack([mirror * sine, cosine, uniform(-0.1, 0.1)], 1),
        ],
        1,
    )
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    x = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = (x - 0.5) * uniform(0.7, 1.3)[:, None, None, None]
    x = x + 0.5 + uniform(-0.12, 0.12)[:, None, None, None]
    blurred = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, blurred, uniform(-0.2, 1).clamp(min=0)[:, None, None, None])
    x = x + 0.02 * torch.randn(x.shape, generator=random, device=device)
    if not cut_out:
        return x
    side = x.shape[-1]
    places = torch.arange(side, device=device)
    hidden = torch.ones(count, 1, side, side, dtype=torch.bool, device=device)
    for axis in (2, 3):
        first = (uniform(-0.25, 1) * side)[:, None]
        inside = (places >= first) & (places < first + side / 4)  # (B, side)
        hidden &= inside[:, None, :, None] if axis == 2 else inside[:, None, None, :]
    hidden &= (uniform(0, 1) < 0.5)[:, None, None, None]
    return torch.where(hidden, 0.5, x)

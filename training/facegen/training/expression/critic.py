"""The critic of expression training: is this patch of a real face with this expression?"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["ExpressionCritic", "jitter"]

_WIDTHS = (32, 64, 128)
_HEAD_WIDTH = 64
_GAIN = 10.0
"""Of the scores: normalised layers alone never reach the hinges at ±1, and learn little."""


_REGIONS = ((0, 0, 48, 48), (24, 10, 48, 38), (8, 4, 28, 44))
"""Face, mouth and eyes, (top, left, bottom, right): an edit changes little else, which a critic of
all would average over."""


class ExpressionCritic(nn.Module):
    """Critics of patches: of what guides see of a picture, and of face, mouth and eyes in pixels.

    The guides' frozen features make a critic that learns in hundreds of steps what takes one of
    pixels tens of thousands: Sauer et al. (2021), https://arxiv.org/abs/2111.01007. Every critic
    has spectral normalisation and a map of scores per expression, and only the map of a picture's
    own expression is trained on it: Liu et al. (2019), https://arxiv.org/abs/1905.01723, section
    3.2.

    Args:
        expression_count: Maps.
        feature_widths: Channels of the guides' features, in their order.
    """

    def __init__(self, expression_count: int, feature_widths: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(width, _HEAD_WIDTH, 3, padding=1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(_HEAD_WIDTH, expression_count, 3, padding=1)),
            )
            for width in feature_widths
        )
        self.pixels = nn.ModuleList(_pixel_critic(expression_count) for _ in _REGIONS)

    def forward(self, x: Tensor, features: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, ...]:
        """Score patches for expressions; higher is more real.

        Args:
            x: (B, 1, H, W) in [0, 1].
            features: Of the same pictures, perhaps varied, (B, C, h, w) each.
            labels: (B,).

        Returns:
            (B, h, w) for every head, and then for face, mouth and eyes.
        """
        maps = [head(some) for head, some in zip(self.heads, features, strict=True)]
        for critic, (top, left, bottom, right) in zip(self.pixels, _REGIONS, strict=True):
            maps.append(critic(2 * x[..., top:bottom, left:right] - 1))
        rows = torch.arange(len(labels), device=labels.device)
        return tuple(_GAIN * scores[rows, labels] for scores in maps)


def _pixel_critic(expression_count: int) -> nn.Sequential:
    stages: list[nn.Module] = []
    channels = 1
    for width in _WIDTHS:
        convolution = nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1)
        stages += [spectral_norm(convolution), nn.LeakyReLU(0.2)]
        channels = width
    stages.append(spectral_norm(nn.Conv2d(channels, expression_count, 3, padding=1)))
    return nn.Sequential(*stages)


def jitter(x: Tensor, random: torch.Generator) -> Tensor:
    """Mirror, move and shade what a critic sees, so that it cannot learn the real faces by heart.

    Zhao et al. (2020), https://arxiv.org/abs/2006.10738.

    Args:
        x: (B, 1, H, W) in [0, 1], with gradients.
        random: Decides, on the pictures' device.

    Returns:
        (B, 1, H, W).
    """
    count, device = len(x), x.device

    def uniform(limit: float) -> Tensor:
        return limit * (2 * torch.rand(count, generator=random, device=device) - 1)

    one, zero = torch.ones(count, device=device), torch.zeros(count, device=device)
    mirror = torch.where(uniform(1) < 0, -one, one)
    matrix = torch.stack(
        [torch.stack([mirror, zero, uniform(0.15)], 1), torch.stack([zero, one, uniform(0.15)], 1)],
        1,
    )
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    x = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    gain, shift = 1 + uniform(0.2), uniform(0.1)
    return (x - 0.5) * gain[:, None, None, None] + 0.5 + shift[:, None, None, None]

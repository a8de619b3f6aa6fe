"""The critic of expression training: is this patch of a real face with this expression?"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["ExpressionCritic", "jitter"]

_WIDTHS = (32, 64, 128)


class ExpressionCritic(nn.Module):
    """A patch critic with spectral normalisation and one map of scores per expression.

    Only the map of a picture's own expression is trained on it: Liu et al. (2019),
    https://arxiv.org/abs/1905.01723, section 3.2. A score sees 38 of 48 pixels.

    Args:
        expression_count: Maps.
    """

    def __init__(self, expression_count: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels = 1
        for width in _WIDTHS:
            convolution = nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1)
            stages += [spectral_norm(convolution), nn.LeakyReLU(0.2)]
            channels = width
        stages.append(spectral_norm(nn.Conv2d(channels, expression_count, 3, padding=1)))
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Score patches of (B, 1, H, W) for labels (B,): (B, 6, 6), higher is more real."""
        maps: Tensor = self.stages(2 * x - 1)
        return maps.gather(1, labels[:, None, None, None].expand(-1, 1, *maps.shape[2:]))[:, 0]


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

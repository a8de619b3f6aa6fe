"""Changes of pictures that gradients go through: no critic learns pictures by heart."""

import torch
from torch import Tensor

from facegen.training.randomness import integers, uniform

__all__ = ["alter"]

_BRIGHTNESS = 0.2
_SATURATION = (0.5, 1.5)
_SHIFT = 1 / 16


def alter(x: Tensor, random: torch.Generator) -> Tensor:
    """Change brightness, saturation and place of each picture, what is real and decoded alike.

    Zhao et al. (2020), Differentiable Augmentation, https://arxiv.org/abs/2006.10738.

    Args:
        x: (B, C, H, W) in [0, 1].
        random: Decides; on the pictures' device.

    Returns:
        (B, C, H, W): brightness moved by up to 0.2, saturation times 0.5 to 1.5, and moved by up to
        a sixteenth of the side, edges repeated.
    """
    count, channels, height, width = x.shape
    draws = uniform(2, count, 1, 1, 1, random=random, axis=1)
    x = x + (2 * draws[0] - 1) * _BRIGHTNESS
    if channels > 1:
        low, high = _SATURATION
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * (low + (high - low) * draws[1])
    most = round(height * _SHIFT)
    shifts = integers(-most, most + 1, 2, count, 1, random=random, axis=1)
    rows = (torch.arange(height, device=x.device) + shifts[0]).clamp(0, height - 1)  # (B, H)
    columns = (torch.arange(width, device=x.device) + shifts[1]).clamp(0, width - 1)  # (B, W)
    which = torch.arange(count, device=x.device)[:, None, None]
    moved = x.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)  # still in NHWC memory order

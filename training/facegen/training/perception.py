"""What a frozen network sees in pictures: maps of features to match, and for a critic to judge."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from facegen.training.lite import load_lite, scaled

__all__ = ["FEATURE_CHANNELS", "FeatureMaps"]

_TAPS = (3, 6, 14)
"""The last blocks at strides 4, 8 and 16; what comes after sees 2 × 2 places of a small face."""

FEATURE_CHANNELS = (24, 40, 112)
"""Of the maps, in their order."""


class FeatureMaps(nn.Module):
    """EfficientNet-Lite1's maps at strides 4, 8 and 16, frozen, standardised by real pictures.

    Not Lite0, whose features measure the finished model: a network that a model was trained against
    is no judge of it. Pictures are seen at their own size, for speed.

    Args:
        pictures: Real ones, (N, C, H, W) in [0, 1], at least 2: their maps have mean 0 and
            deviation 1 in every channel.
    """

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        network = load_lite("lite1").network
        self.stem = network._conv_stem
        self.blocks = network._blocks[: _TAPS[-1] + 1]
        self.standards = nn.ModuleList(nn.BatchNorm2d(c, affine=False) for c in FEATURE_CHANNELS)
        self.eval()
        self.to(memory_format=torch.channels_last)  # a fifth of the time on a CPU
        with torch.no_grad():
            for standard, x in zip(self.standards, self._maps(pictures), strict=True):
                standard.running_mean.copy_(x.mean((0, 2, 3)))  # type: ignore[operator]  # a buffer
                standard.running_var.copy_(x.var((0, 2, 3)))  # type: ignore[operator]  # a buffer

    def forward(self, x: Tensor) -> list[Tensor]:
        """Look at pictures.

        Args:
            x: (B, 3, H, W) or (B, 1, H, W), about [0, 1].

        Returns:
            (B, 24, H/4, W/4), (B, 40, H/8, W/8), (B, 112, H/16, W/16).
        """
        # On a CPU depthwise convolutions take longer in bfloat16 than in 32 bits.
        with torch.autocast("cpu", enabled=False):
            maps = zip(self.standards, self._maps(x.float()), strict=True)
            return [standard(features) for standard, features in maps]

    def _maps(self, x: Tensor) -> list[Tensor]:
        x = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        x = functional.relu6(self.stem(scaled(x)))
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _TAPS:
                maps.append(x)
        return maps

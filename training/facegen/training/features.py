"""The frozen ImageNet networks whose features measure how alike two sets of faces are."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from facegen.training.lite import load_lite, scaled

__all__ = ["FEATURE_NETWORK", "FeatureNetwork", "MeasuringVariant"]

MeasuringVariant = Literal["lite0", "lite2"]
"""Not lite1: models are trained against its features, and it is no judge of them."""

# Their convolutions' "same" padding is fixed for this size.
_SIZES: dict[MeasuringVariant, int] = {"lite0": 224, "lite2": 260}
_BATCH_SIZE = 4  # on a CPU half the time a picture of a batch of 50: it stays in the cache


def _description(variant: MeasuringVariant) -> str:
    size = _SIZES[variant]
    return (
        f"EfficientNet-{variant.capitalize()}, ImageNet, pooled 1280 features, {size} × {size}, "
        "batch norm in eval mode"
    )


FEATURE_NETWORK = _description("lite0")


class FeatureNetwork(nn.Module):
    """An EfficientNet-Lite up to its pooled features, frozen.

    Normalisations folded away, channels last and small batches halve the time on a CPU.

    Args:
        variant: Which of them.

    Raises:
        ModuleNotFoundError: The package with the variant's weights is not installed.
    """

    def __init__(self, variant: MeasuringVariant = "lite0") -> None:
        super().__init__()
        lite = load_lite(variant)
        self.name: str = variant
        self.description = _description(variant)
        self.sha256 = lite.sha256
        self._size = _SIZES[variant]
        self.network = lite.network.to(memory_format=torch.channels_last)

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
        features: Tensor = self.network.extract_features(scaled(x))
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

"""What happens to pictures on their way: adversarial noise dies of it, expressions do not."""

import io
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from PIL import Image

from facegen.training.expression.sources import Pixels

__all__ = ["DISTORTIONS", "blur", "compress"]

_QUALITY = 75
_SIGMA_PX = 1.0


def compress(images: Pixels) -> Pixels:
    """Pass pictures (N, H, W, 1) through JPEG of quality 75."""
    found = np.empty_like(images)
    for index, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(image[..., 0]).save(buffer, "JPEG", quality=_QUALITY)
        found[index, ..., 0] = np.asarray(Image.open(buffer))
    return found


def blur(images: Pixels) -> Pixels:
    """Blur pictures (N, H, W, 1) by a Gaussian of one pixel's standard deviation."""
    found = np.empty_like(images)
    for index, image in enumerate(images):
        found[index, ..., 0] = cv2.GaussianBlur(
            image[..., 0], (7, 7), _SIGMA_PX, borderType=cv2.BORDER_REPLICATE
        )
    return found


def _both(images: Pixels) -> Pixels:
    return compress(blur(images))


DISTORTIONS: Mapping[str, Callable[[Pixels], Pixels]] = {
    "jpeg_75": compress,
    "blur_1px": blur,
    "blur_1px_jpeg_75": _both,
}
"""By name; all take and give (N, H, W, 1) uint8."""

"""From a picture's file to the pixels that a model sees."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facegen.training.data.dataset import Picture

__all__ = ["crop_box", "decode_picture"]


def crop_box(width_px: int, height_px: int, crop: float) -> tuple[int, int, int, int]:
    """The central square of a picture, in whole pixels as torchvision's CenterCrop has it.

    Args:
        width_px: The picture's width.
        height_px: Its height.
        crop: The square's side as a fraction of the shorter side.

    Returns:
        left, upper, right, lower, in pixels.
    """
    side = max(1, round(crop * min(width_px, height_px)))
    left, upper = round((width_px - side) / 2), round((height_px - side) / 2)
    return left, upper, left + side, upper + side


def decode_picture(
    picture: Picture, *, size_px: int, channels: int, crop: float
) -> NDArray[np.uint8]:
    """Decode, crop and resize a picture.

    Args:
        picture: Its file or pixels.
        size_px: The side of the result.
        channels: 3 for RGB, 1 for grey.
        crop: As for `crop_box`.

    Returns:
        (size_px, size_px, channels) uint8; reduced with antialiasing (Pillow's bicubic).

    Raises:
        OSError: The file is not a picture that Pillow reads, or is cut short.
    """
    if isinstance(picture.source, np.ndarray):
        image = Image.fromarray(picture.source)
    else:
        with Image.open(picture.source) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
    image = image.convert("RGB" if channels == 3 else "L")
    image = image.crop(crop_box(*image.size, crop))
    image = image.resize((size_px, size_px), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size_px, size_px, channels)

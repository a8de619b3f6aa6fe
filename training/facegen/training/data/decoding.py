"""From a picture's file to the pixels that a model sees."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facegen.training.data.dataset import Picture
from facegen.training.data.parquet import ParquetRow, RowGroup
from facegen.training.data.tars import TarMember

__all__ = ["crop_box", "decode_picture", "in_memory"]


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


def in_memory(pictures: Iterable[Picture]) -> Iterator[Picture]:
    """Replace rows of Parquet files by their bytes, so that a row group is read only once.

    Args:
        pictures: Those of a row group one after the other.

    Yields:
        The pictures in their order; those that are no such rows as they are.

    Raises:
        DatasetError: A row group cannot be read.
    """
    group: RowGroup | None = None
    contents: list[bytes] = []
    for picture in pictures:
        source = picture.source
        if not isinstance(source, ParquetRow):
            yield picture
            continue
        if source.group != group:
            group, contents = source.group, source.group.read()
        yield replace(picture, source=contents[source.row])


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
    source = picture.source
    if isinstance(source, np.ndarray):
        image = Image.fromarray(source)
    else:
        with Image.open(_file(source)) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
    image = image.convert("RGB" if channels == 3 else "L")
    image = image.crop(crop_box(*image.size, crop))
    image = image.resize((size_px, size_px), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size_px, size_px, channels)


def _file(source: Path | TarMember | ParquetRow | bytes) -> Path | BytesIO:
    if isinstance(source, Path):
        return source
    return BytesIO(source if isinstance(source, bytes) else source.read())

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from facegen.client import RAW_PIXELS, Image
from facegen.client.png import encode_png, tile


def raw(pixels: NDArray[Any]) -> Image:
    height, width, channels = pixels.shape
    return Image(pixels.astype(np.uint8).tobytes(), RAW_PIXELS, height, width, channels)


def decode(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(PillowImage.open(io.BytesIO(data)))


@pytest.mark.parametrize("channel_count", [1, 3])
def test_png_holds_the_pixels_it_was_given(channel_count: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channel_count))

    decoded = decode(encode_png(raw(pixels)))

    np.testing.assert_array_equal(decoded.reshape(pixels.shape), pixels)


def test_png_carries_its_text() -> None:
    data = encode_png(raw(np.zeros((1, 1, 1))), text={"Software": "facegen", "Title": "œuvre"})

    with PillowImage.open(io.BytesIO(data)) as picture:
        assert picture.info == {"Software": "facegen", "Title": "œuvre"}


def test_tiles_lie_in_rows_with_white_between() -> None:
    tiles = [raw(np.full((2, 3, 3), 10 * (index + 1))) for index in range(3)]

    sheet = decode(encode_png(tile(tiles, column_count=2, gap_px=1)))

    assert sheet.shape == (2 * 3 + 1, 2 * 4 + 1, 3)
    expected = np.full(sheet.shape, 255)
    expected[1:3, 1:4], expected[1:3, 5:8], expected[4:6, 1:4] = 10, 20, 30
    np.testing.assert_array_equal(sheet, expected)

"""Contact sheets written as PNG without an imaging library, from raw pixels."""

import struct
import zlib
from collections.abc import Mapping, Sequence

from facegen.client.types import Image

__all__ = ["encode_png", "tile"]

_COLOR_TYPES = {1: 0, 3: 2}  # grey, RGB: PNG specification, table 11.1


def encode_png(image: Image, *, text: Mapping[str, str] | None = None) -> bytes:
    """Code raw pixels as an 8-bit PNG.

    Args:
        image: Raw pixels.
        text: What the file says of itself: Latin-1 keywords of at most 79 characters, any text.
    """
    header = struct.pack(
        ">IIBBBBB", image.width_px, image.height_px, 8, _COLOR_TYPES[image.channel_count], 0, 0, 0
    )
    stride = image.width_px * image.channel_count
    rows = (image.data[start : start + stride] for start in range(0, len(image.data), stride))
    # A zero before each row: filter type "none".
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    notes = b"".join(
        _chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + value.encode())
        for keyword, value in (text or {}).items()
    )
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + _chunk(b"IHDR", header) + notes + _chunk(b"IDAT", pixels) + _chunk(b"IEND")


def tile(images: Sequence[Image], *, column_count: int, gap_px: int = 2) -> Image:
    """Lay raw pictures of one size out in rows, white between them and around.

    Args:
        images: At least one; raw pixels, all of the same shape.
        column_count: Pictures in a row.
        gap_px: White between pictures.
    """
    first = images[0]
    white = b"\xff" * first.channel_count
    width_px = column_count * (first.width_px + gap_px) + gap_px
    stride = first.width_px * first.channel_count
    gap, gap_rows = white * gap_px, white * width_px * gap_px
    blank = white * first.width_px
    parts = [gap_rows]
    for start in range(0, len(images), column_count):
        row_images = images[start : start + column_count]
        filler = (blank + gap) * (column_count - len(row_images))
        for offset in range(0, stride * first.height_px, stride):
            row = (image.data[offset : offset + stride] + gap for image in row_images)
            parts += (gap, *row, filler)
        parts.append(gap_rows)
    data = b"".join(parts)
    height_px = len(data) // (width_px * first.channel_count)
    return Image(data, first.mime_type, height_px, width_px, first.channel_count)


def _chunk(kind: bytes, body: bytes = b"") -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

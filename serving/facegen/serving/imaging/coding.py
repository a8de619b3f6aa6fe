"""Codes pictures as PNG, JPEG, WebP or raw pixels, with their origin as XMP metadata.

Coders were chosen by measurement (`benchmarks/image_coding.py`): libdeflate packs PNG rows that are
filtered here in about an eighth of Pillow's time for a tenth more bytes. PNG is the default format,
and Pillow's costs about as much as drawing the face itself. ISA-L is faster still, but the same
rows give other bytes now and then, by where its buffers happen to lie.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import deflate
import numpy as np
import simplejpeg  # type: ignore[import-untyped]  # it has no stubs
from numpy.typing import NDArray
from PIL import Image

from facegen.serving.imaging.origin import Origin, xmp_packet

__all__ = ["JPEG", "PNG", "RAW", "WEBP", "PictureFormat", "encode_pictures"]

PNG, JPEG, WEBP, RAW = "image/png", "image/jpeg", "image/webp", "application/octet-stream"


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """How to code pictures.

    Attributes:
        mime_type: `image/png`, `image/jpeg`, `image/webp` or `application/octet-stream`.
        quality: Of JPEG and WebP, 1 to 100.
    """

    mime_type: str = PNG
    quality: int = 90


def encode_pictures(
    pixels: NDArray[np.uint8],
    picture_format: PictureFormat,
    *,
    origins: Sequence[Origin] | None = None,
) -> list[bytes]:
    """Code pictures of one size.

    Args:
        pixels: (B, H, W, C), C 1 or 3.
        picture_format: How.
        origins: What made each of them, written as XMP; None for pictures that no model made. Raw
            pixels carry none.

    Returns:
        One file for each picture.
    """
    packets = [xmp_packet(origin) for origin in origins] if origins else [b""] * len(pixels)
    match picture_format.mime_type:
        case "application/octet-stream":
            return [picture.tobytes() for picture in pixels]
        case "image/png":
            return [_png(rows, p) for rows, p in zip(_filter_up(pixels), packets, strict=True)]
        case "image/jpeg":
            quality = picture_format.quality
            return [_jpeg(x, quality, p) for x, p in zip(pixels, packets, strict=True)]
        case "image/webp":
            quality = picture_format.quality
            return [_webp(x, quality, p) for x, p in zip(pixels, packets, strict=True)]
        case other:
            raise ValueError(f"no coder for {other!r}")


def _filter_up(pixels: NDArray[np.uint8]) -> list[tuple[int, int, int, bytes]]:
    """Filter rows by PNG's type 2, the difference to the row above.

    Returns:
        Height, width, channels and filtered rows of each picture.
    """
    count, height, width, channels = pixels.shape
    flat = pixels.reshape(count, height, width * channels)
    rows = np.empty((count, height, 1 + width * channels), np.uint8)
    rows[:, :, 0] = 2
    rows[:, 0, 1:] = flat[:, 0]
    np.subtract(flat[:, 1:], flat[:, :-1], out=rows[:, 1:, 1:])
    return [(height, width, channels, picture.tobytes()) for picture in rows]


def _png(picture: tuple[int, int, int, bytes], packet: bytes) -> bytes:
    """Write a PNG file (ISO/IEC 15948) of 8-bit grey or RGB pixels."""
    height, width, channels, rows = picture
    colour_type = 2 if channels == 3 else 0
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + packet
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"iTXt", text) if packet else b"",
            _chunk(b"IDAT", deflate.zlib_compress(rows, 1)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes | bytearray) -> bytes:
    """Write a PNG chunk: length, kind, data, checksum."""
    checksum = deflate.crc32(data, deflate.crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)))


def _jpeg(picture: NDArray[np.uint8], quality: int, packet: bytes) -> bytes:
    """Write a JPEG file without chroma subsampling, which shows at this size."""
    grey = picture.shape[-1] == 1
    coded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(picture),
        quality,
        colorspace="GRAY" if grey else "RGB",
        colorsubsampling="Gray" if grey else "444",
    )
    if not packet:
        return coded
    # XMP is an APP1 segment (XMP part 3, 1.1.3); the JFIF segment stays first.
    start = 4 + struct.unpack(">H", coded[4:6])[0]
    body = b"http://ns.adobe.com/xap/1.0/\0" + packet
    return b"".join(
        (coded[:start], b"\xff\xe1", struct.pack(">H", 2 + len(body)), body, coded[start:])
    )


def _webp(picture: NDArray[np.uint8], quality: int, packet: bytes) -> bytes:
    """Write a lossy WebP file, through Pillow."""
    file = io.BytesIO()
    squeezed = picture[..., 0] if picture.shape[-1] == 1 else picture
    Image.fromarray(squeezed).save(file, "WEBP", quality=quality, method=2, xmp=packet)
    return file.getvalue()

"""Codes a row of pictures as one animated picture, GIF or WebP, with its origin as XMP metadata."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facegen.serving.imaging.coding import WEBP
from facegen.serving.imaging.origin import Origin, xmp_packet

__all__ = ["GIF", "AnimationFormat", "encode_animation"]

GIF = "image/gif"

# The application extension that holds XMP, and what lets readers who do not know it pass over the
# packet, which is not cut into blocks (XMP part 3, 1.1.2).
_XMP_EXTENSION = b"\x21\xff\x0bXMP DataXMP"
_XMP_TRAILER = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"
# So many pixels of all pictures choose the palette; four times as many made no better one.
_PALETTE_PIXELS = 16 * 1024


@dataclass(frozen=True, slots=True)
class AnimationFormat:
    """How to code an animation.

    Attributes:
        mime_type: `image/gif` or `image/webp`.
        quality: Of WebP, 1 to 100.
        frame_ms: How long each picture stays, in milliseconds; GIF keeps steps of 10.
        there_and_back: Whether it goes back as it came before it begins again.
    """

    mime_type: str = WEBP
    quality: int = 90
    frame_ms: int = 100
    there_and_back: bool = False


def encode_animation(
    frames: Sequence[NDArray[np.uint8]],
    animation: AnimationFormat,
    *,
    origin: Origin | None = None,
) -> bytes:
    """Code pictures as one file that shows them one after the other, without end.

    Args:
        frames: At least two, each (H, W, C) of one shape, C 1 or 3.
        animation: How.
        origin: What made them, written as XMP; None if no model did.
    """
    row = [*frames, *frames[-2:0:-1]] if animation.there_and_back else [*frames]
    packet = xmp_packet(origin) if origin else b""
    if animation.mime_type == GIF:
        return _gif(row, animation.frame_ms, packet)
    file = io.BytesIO()
    first, *rest = (Image.fromarray(_colour(frame)) for frame in row)
    first.save(
        file,
        "WEBP",
        save_all=True,
        append_images=rest,
        duration=animation.frame_ms,
        loop=0,
        quality=animation.quality,
        method=2,
        xmp=packet,
    )
    return file.getvalue()


def _gif(row: Sequence[NDArray[np.uint8]], frame_ms: int, packet: bytes) -> bytes:
    """Write a GIF (version 89a) whose pictures share one palette."""
    file = io.BytesIO()
    first, *rest = _indexed(row)
    first.save(file, "GIF", save_all=True, append_images=rest, duration=frame_ms, loop=0)
    coded = file.getvalue()
    if not packet:
        return coded
    # Header and screen are 13 bytes; a bit of the last but two says whether a palette follows.
    palette = 3 << ((coded[10] & 7) + 1) if coded[10] & 0x80 else 0
    start = 13 + palette
    return b"".join((coded[:start], _XMP_EXTENSION, packet, _XMP_TRAILER, coded[start:]))


def _indexed(row: Sequence[NDArray[np.uint8]]) -> list[Image.Image]:
    """Reduce pictures to 256 colours that they share.

    A palette for each took 200 times as long (its median cut of 512 x 512 pixels: 0.26 s), made the
    file five times as large, and smooth areas flicker. So does dithering.
    """
    if row[0].shape[2] == 1:
        return [Image.fromarray(frame[..., 0]) for frame in row]
    # By chance, of a fixed seed: every so many would take one column of some sizes.
    random = np.random.default_rng(0)
    count = -(-_PALETTE_PIXELS // len(row))
    colours = [frame.reshape(-1, 3)[random.integers(0, frame.size // 3, count)] for frame in row]
    palette = Image.fromarray(np.stack(colours)).quantize(256, kmeans=1)
    return [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in row
    ]


def _colour(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give a picture as WebP's animations have them, with three channels."""
    return np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame

"""Reads uploaded pictures: header first, then only as many pixels as the model's view needs.

Photos, of which a part is edited, are read whole.
"""

import io
import math
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facegen.serving.errors import PictureError, PictureSizeError, RequestSizeError
from facegen.serving.imaging.cropping import CenterCrop, PixelSquare, square_of

__all__ = [
    "OpenPicture",
    "PictureLimits",
    "Upload",
    "open_pictures",
    "photo_of",
    "read_view",
    "view_of",
]

# Formats whose decoders Pillow carries itself and that browsers and phones make; found by content.
# Not GIF: of 3 KB that claim to be 60,000 x 50,000 pixels, merely opening them fills 3 GB.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
# Each scan goes over all pixels and may be of 70 bytes. Cameras and browsers make about ten.
_MOST_JPEG_SCANS = 50
_JPEG, _JPEG_SCAN = b"\xff\xd8", b"\xff\xda"
# What Pillow's decoders raise on broken files.
_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError),
    *(NotImplementedError, struct.error, zlib.error),
)
# Pillow has a limit of its own, beside which no larger one could be set; here pixels are limited as
# configured, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None
# It also writes to standard error of metadata that it finds odd, and keeps every such text.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
# EXIF orientations 5 to 8 exchange width and height (EXIF 2.3, tag 0x0112).
_ORIENTATION_TAG, _SIDEWAYS = 0x0112, (5, 6, 7, 8)
# Of Pillow's modes: "1", "L", "LA", "La", "I", "I;16".
_GREY_MODES = ("1", "L", "I")
# A JPEG decoder that leaves out fine detail must leave twice what the view shows, or it would blur.
_DRAFT_MARGIN = 2


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What uploaded pictures may cost.

    Attributes:
        max_pixels: The most pixels of one picture.
        max_request_pixels: The most pixels of all pictures of one request.
    """

    max_pixels: int = 50_000_000
    max_request_pixels: int = 200_000_000


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture as it was sent.

    Attributes:
        data: The encoded file, or raw uint8 pixels if `shape` is given.
        field: Its field in the request, for example `images[3].data`.
        shape: (H, W, C) of raw pixels.
    """

    data: bytes
    field: str
    shape: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class OpenPicture:
    """A picture of which no more than the header was read.

    Attributes:
        content: The picture, not yet decoded; raw pixels as an array (H, W, C).
        field: Its field in the request.
        size_px: Width and height as stored, not yet upright.
    """

    content: Image.Image | NDArray[np.uint8]
    field: str
    size_px: tuple[int, int]

    @property
    def pixel_count(self) -> int:
        """How many pixels it has."""
        return self.size_px[0] * self.size_px[1]


def read_view(
    upload: Upload,
    crop: CenterCrop | PixelSquare,
    *,
    shape: tuple[int, int, int],
    limits: PictureLimits,
) -> NDArray[np.uint8]:
    """Decode one picture and give what a model sees; see `open_pictures` and `view_of`."""
    return view_of(open_pictures([upload], limits)[0], crop, shape=shape)


def open_pictures(uploads: Sequence[Upload], limits: PictureLimits) -> list[OpenPicture]:
    """Read the headers of a request's pictures, and refuse what would be too large to decode.

    Raises:
        PictureError: Not a picture, or of an unknown format. Never right.
        PictureSizeError: More pixels than one picture, or all together, may have. Never right.
    """
    pictures, pixels = [], 0
    for upload in uploads:
        picture = _open(upload)
        if picture.pixel_count > limits.max_pixels:
            raise PictureSizeError(upload.field, limit=limits.max_pixels, size_px=picture.size_px)
        pixels += picture.pixel_count
        if pixels > limits.max_request_pixels:
            raise RequestSizeError(upload.field, pixels=pixels, limit=limits.max_request_pixels)
        pictures.append(picture)
    return pictures


def view_of(
    picture: OpenPicture, crop: CenterCrop | PixelSquare, *, shape: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Decode a picture and give the square of it that a model sees, reduced with antialiasing.

    The picture is turned upright by its EXIF orientation; transparency is laid over white.

    Args:
        picture: The picture; it cannot be read again.
        crop: Which square of the upright picture.
        shape: (H, W, C) of the model's pictures, C 1 or 3.

    Returns:
        (H, W, C).

    Raises:
        PictureError: Broken or truncated. Never right.
        InputError: The crop does not lie inside. Never right.
    """
    height, width, channels = shape
    content = picture.content
    if isinstance(content, np.ndarray):
        square = square_of(crop, picture.size_px, field=picture.field)
        if content.shape == shape and square == (0, 0, width, height):
            return content
        content = Image.fromarray(content[..., 0] if content.shape[2] == 1 else content)
    with content:
        orientation = _orientation(content)
        size_px = picture.size_px[::-1] if orientation in _SIDEWAYS else picture.size_px
        square = square_of(crop, size_px, field=picture.field)
        detail = _DRAFT_MARGIN * max(height, width) / (square[2] - square[0])
        upright = _load(content, orientation, detail, picture.field)
        # A reduced JPEG has its square elsewhere, between pixels.
        scale_x, scale_y = upright.width / size_px[0], upright.height / size_px[1]
        left, right = square[0] * scale_x, square[2] * scale_x
        top, bottom = square[1] * scale_y, square[3] * scale_y
        x, y = math.floor(left), math.floor(top)
        part = upright.crop((x, y, math.ceil(right), math.ceil(bottom)))
        view = _flatten(part, "L" if channels == 1 else "RGB").resize(
            (width, height),
            Image.Resampling.BICUBIC,
            box=(left - x, top - y, right - x, bottom - y),
        )
    return np.asarray(view).reshape(shape)


def photo_of(picture: OpenPicture) -> NDArray[np.uint8]:
    """Decode a whole picture at its full size, upright, transparency laid over white.

    Args:
        picture: The picture; it cannot be read again.

    Returns:
        (H, W, C), C 1 if the picture is grey, else 3.

    Raises:
        PictureError: Broken or truncated. Never right.
    """
    content = picture.content
    if isinstance(content, np.ndarray):
        return content
    with content:
        upright = _load(content, _orientation(content), 1, picture.field)
        grey = upright.mode.startswith(_GREY_MODES)
        pixels = np.asarray(_flatten(upright, "L" if grey else "RGB"))
    return pixels.reshape(*pixels.shape[:2], -1)


def _open(upload: Upload) -> OpenPicture:
    """Read a picture's header."""
    if not upload.data:
        raise PictureError(upload.field, "is empty; send a picture's bytes")
    if upload.shape is not None:
        pixels = np.frombuffer(upload.data, np.uint8).reshape(upload.shape)
        return OpenPicture(pixels, upload.field, (upload.shape[1], upload.shape[0]))
    try:
        picture = Image.open(io.BytesIO(upload.data), formats=_FORMATS)
    except _BROKEN as error:
        raise PictureError(
            upload.field,
            f"is not a picture ({', '.join(_FORMATS)}), or is truncated in its header",
        ) from error
    if upload.data.startswith(_JPEG) and upload.data.count(_JPEG_SCAN) > _MOST_JPEG_SCANS:
        raise PictureError(
            upload.field, f"is a JPEG of more than {_MOST_JPEG_SCANS} scans; save it again"
        )
    return OpenPicture(picture, upload.field, picture.size)


def _orientation(picture: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; of a PNG that may decode it."""
    try:
        return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except _BROKEN:
        return 1  # The pixels may be sound where the camera's notes are not.


def _load(picture: Image.Image, orientation: int, detail: float, field: str) -> Image.Image:
    """Decode a picture and turn it upright.

    Args:
        picture: The opened picture.
        orientation: Its EXIF orientation, 1 to 8.
        detail: The scale at which its pixels are needed; below 1 a JPEG may be decoded smaller.
        field: Its field, for the error.

    Returns:
        The whole picture, no smaller than `detail` times its size.
    """
    try:
        if detail < 1:
            width_px, height_px = picture.size
            picture.draft(None, (math.ceil(width_px * detail), math.ceil(height_px * detail)))
        picture.load()
        return picture if orientation == 1 else ImageOps.exif_transpose(picture)
    except _BROKEN as error:
        raise PictureError(
            field, f"is a broken or truncated {picture.format} file ({error}); send it whole"
        ) from error


def _flatten(picture: Image.Image, mode: str) -> Image.Image:
    """Convert any picture to 8-bit grey or RGB, transparency laid over white."""
    if picture.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion clips where it should scale.
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture if picture.mode == mode else picture.convert(mode)

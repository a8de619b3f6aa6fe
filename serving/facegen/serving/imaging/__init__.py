"""Pictures in and out: uploads decoded, cropped and reduced; faces coded with their origin."""

from facegen.serving.imaging.coding import PictureFormat, encode_pictures
from facegen.serving.imaging.cropping import (
    CenterCrop,
    CropSquare,
    PixelSquare,
    square_of,
)
from facegen.serving.imaging.origin import Origin
from facegen.serving.imaging.reading import PictureLimits, Upload, read_view

__all__ = [
    "CenterCrop",
    "CropSquare",
    "Origin",
    "PictureFormat",
    "PictureLimits",
    "PixelSquare",
    "Upload",
    "encode_pictures",
    "read_view",
    "square_of",
]

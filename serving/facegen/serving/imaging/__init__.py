"""Pictures in and out: uploads decoded, cropped and reduced; faces coded with their origin."""

from facegen.serving.imaging.coding import JPEG, PNG, RAW, WEBP, PictureFormat, encode_pictures
from facegen.serving.imaging.cropping import (
    CenterCrop,
    CropSquare,
    PixelSquare,
    square_of,
)
from facegen.serving.imaging.origin import Origin
from facegen.serving.imaging.pool import ImagingPool, coded_quickly
from facegen.serving.imaging.reading import PictureLimits, Upload, open_pictures, read_view

__all__ = [
    "JPEG",
    "PNG",
    "RAW",
    "WEBP",
    "CenterCrop",
    "CropSquare",
    "ImagingPool",
    "Origin",
    "PictureFormat",
    "PictureLimits",
    "PixelSquare",
    "Upload",
    "coded_quickly",
    "encode_pictures",
    "open_pictures",
    "read_view",
    "square_of",
]

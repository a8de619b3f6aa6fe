"""Pictures in and out: uploads decoded, cropped and reduced; faces coded with their origin.

Of photos: faces found, cut out and put back.
"""

from facegen.serving.imaging.alignment import (
    align,
    central_square,
    grey,
    similarity,
    square_of_points,
)
from facegen.serving.imaging.animation import GIF, AnimationFormat, encode_animation
from facegen.serving.imaging.changes import add_change, reduced
from facegen.serving.imaging.coding import JPEG, PNG, RAW, WEBP, PictureFormat, encode_pictures
from facegen.serving.imaging.compositing import FaceEdit, composite
from facegen.serving.imaging.cropping import (
    CenterCrop,
    CropSquare,
    FaceCrop,
    PixelSquare,
    square_of,
)
from facegen.serving.imaging.detection import DetectedFace, FaceDetector, square_around
from facegen.serving.imaging.origin import Origin
from facegen.serving.imaging.pool import ImagingPool, coded_quickly
from facegen.serving.imaging.reading import (
    OpenPicture,
    PictureLimits,
    Upload,
    open_pictures,
    photo_of,
    read_view,
    view_of,
)
from facegen.serving.imaging.sheet import SheetPicture, contact_sheet

__all__ = [
    "GIF",
    "JPEG",
    "PNG",
    "RAW",
    "WEBP",
    "AnimationFormat",
    "CenterCrop",
    "CropSquare",
    "DetectedFace",
    "FaceCrop",
    "FaceDetector",
    "FaceEdit",
    "ImagingPool",
    "OpenPicture",
    "Origin",
    "PictureFormat",
    "PictureLimits",
    "PixelSquare",
    "SheetPicture",
    "Upload",
    "add_change",
    "align",
    "central_square",
    "coded_quickly",
    "composite",
    "contact_sheet",
    "encode_animation",
    "encode_pictures",
    "grey",
    "open_pictures",
    "photo_of",
    "read_view",
    "reduced",
    "similarity",
    "square_around",
    "square_of",
    "square_of_points",
    "view_of",
]

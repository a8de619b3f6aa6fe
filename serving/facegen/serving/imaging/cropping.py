"""Which square of a picture a model sees."""

from dataclasses import dataclass

from facegen.serving.errors import InputError
from facegen.serving.imaging.detection import DetectedFace

__all__ = ["CenterCrop", "CropSquare", "FaceCrop", "PixelSquare", "square_around_face", "square_of"]


@dataclass(frozen=True, slots=True)
class CenterCrop:
    """The central square of a picture.

    Attributes:
        fraction: Its side as a fraction of the picture's shorter side, above 0, at most 1.
    """

    fraction: float = 1.0


@dataclass(frozen=True, slots=True)
class PixelSquare:
    """A square given in pixels of the upright picture.

    Attributes:
        left_px: Its left edge, from 0.
        top_px: Its top edge, from 0.
        side_px: Its side, at least 1.
    """

    left_px: int
    top_px: int
    side_px: int


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """The square around a photo's surest face, framed as models saw faces.

    Attributes:
        x: Where the middle of the detector's box lies in such a square, in its sides from the left.
        y: Likewise from the top.
        side: The box's side, in the square's.
    """

    x: float
    y: float
    side: float


CropSquare = CenterCrop | PixelSquare | FaceCrop


def square_around_face(crop: FaceCrop, face: DetectedFace, size_px: tuple[int, int]) -> PixelSquare:
    """Frame a face; a square that would reach beyond the picture is moved inside, or shrunk."""
    wanted_px = face.side_px / crop.side
    side_px = max(1, min(round(wanted_px), *size_px))
    left_px, top_px = (
        min(max(0, round(middle - place * wanted_px + (wanted_px - side_px) / 2)), size - side_px)
        for middle, place, size in zip(face.center_px, (crop.x, crop.y), size_px, strict=True)
    )
    return PixelSquare(left_px, top_px, side_px)


def square_of(
    crop: CenterCrop | PixelSquare, size_px: tuple[int, int], *, field: str
) -> tuple[float, float, float, float]:
    """Find the edges of a crop in a picture.

    Args:
        crop: The square.
        size_px: Width and height of the upright picture.
        field: The picture's field in the request, for the error.

    Returns:
        Left, top, right and bottom edge in pixels.

    Raises:
        InputError: The square does not lie inside the picture. Never right.
    """
    width_px, height_px = size_px
    if isinstance(crop, CenterCrop):
        side_px = max(1, round(crop.fraction * min(size_px)))
        # Whole pixels, as torchvision's CenterCrop has them in training.
        left_px, top_px = round((width_px - side_px) / 2), round((height_px - side_px) / 2)
    else:
        left_px, top_px, side_px = crop.left_px, crop.top_px, crop.side_px
    if left_px + side_px > width_px or top_px + side_px > height_px:
        raise InputError(
            "crop.square_px",
            f"the square of {side_px} pixels at ({left_px}, {top_px}) does not lie inside {field}, "
            f"{width_px} x {height_px} pixels; move or shrink it",
        )
    return left_px, top_px, left_px + side_px, top_px + side_px

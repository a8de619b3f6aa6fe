"""The pictures of a family."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facegen.serving.call_context import CallContext
from facegen.serving.errors import InputError
from facegen.serving.faces.family import Family
from facegen.serving.faces.latent_pipelines import Draw, Floats
from facegen.serving.faces.pipelines import Pipelines
from facegen.serving.imaging import (
    CenterCrop,
    CropSquare,
    FaceCrop,
    FaceDetector,
    ImagingPool,
    Origin,
    PictureFormat,
    Upload,
    encode_pictures,
)
from facegen.serving.rendering.media.medium import Contents, Medium

__all__ = ["PICTURE_SUFFIXES", "Pictures", "crop_of"]

PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
# Of pictures that are equal to the last bit.
_MOST_PSNR_DB = 100.0


class Pictures(Medium):
    """The pictures of a family.

    Args:
        pipelines: Run its models.
        family: The family.
        imaging: Reads photos.
        picture_format: How pictures are coded.
        crop: Which square of a photo is read.
    """

    fidelity = "psnr_db"

    def __init__(
        self,
        pipelines: Pipelines,
        family: Family,
        imaging: ImagingPool,
        *,
        picture_format: PictureFormat,
        crop: CropSquare,
    ) -> None:
        self._pipelines, self._family, self._imaging = pipelines, family, imaging
        self._picture_format, self._crop = picture_format, crop
        self._detector = FaceDetector()
        self.priors = tuple(family.priors)
        self.expressions = tuple(family.expressions.decoders) if family.expressions else ()
        self.latent_size, self.batch_rows = family.latent_size, family.batch_rows

    def draw(self, draws: Sequence[Draw], *, context: CallContext) -> Floats:
        """Draw latents; see `Medium.draw`."""
        return self._pipelines.draw_latents(self._family, draws, context=context)

    def read(self, data: bytes, name: str) -> Contents:
        """Read the square of a photo that the models see: (H, W, C)."""
        family = self._family
        shape = (family.height_px, family.width_px, family.channel_count)
        (view,) = self._imaging.read([Upload(data, name)], self._crop, shape=shape)
        return np.asarray(view)

    def encode(self, contents: Contents, *, context: CallContext) -> Floats:
        """Encode pictures (B, H, W, C)."""
        return self._pipelines.encode(self._family, contents, context=context).mu

    def decode(self, latents: Floats, *, expression: str, context: CallContext) -> Contents:
        """Decode latents (B, Z) to pictures (B, H, W, C)."""
        return self._pipelines.decode(self._family, latents, expression=expression, context=context)

    def code(self, contents: Contents, origins: Sequence[Origin]) -> list[bytes]:
        """Code pictures."""
        return encode_pictures(contents, self._picture_format, origins=origins)

    def compare(self, contents: Contents, others: Contents) -> list[float]:
        """Give the peak signal-to-noise ratio of each picture, in dB, at most 100."""
        return [_psnr_db(one, other) for one, other in zip(contents, others, strict=True)]

    def scores(self, contents: Contents) -> list[float | None]:
        """Score the surest face of each picture; above 0, rarely above 3."""
        found = [self._detector.detect(picture) for picture in contents]
        return [faces[0].score if faces else None for faces in found]


def crop_of(family: Family, crop: str) -> CropSquare:
    """Tell which square of a photo a job's `crop` means for a family.

    Raises:
        InputError: The family does not say how its faces are framed. Never right.
    """
    if crop == "dataset":
        return CenterCrop(family.crop_fraction)
    if crop == "face":
        if family.face_frame is None:
            raise InputError(
                "crop", f'family "{family.name}" does not tell how its faces are framed; use center'
            )
        return FaceCrop(*family.face_frame)
    return CenterCrop()


def _psnr_db(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    error = np.square(one.astype(np.float32) - other).mean(dtype=np.float64)
    if error == 0:
        return _MOST_PSNR_DB
    return float(min(_MOST_PSNR_DB, 10 * np.log10(255**2 / error)))

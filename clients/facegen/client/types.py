"""The values a client takes and gives: immutable, without protobuf."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from facegen.client.files import write_atomically

__all__ = [
    "RAW_PIXELS",
    "Animation",
    "CenterCrop",
    "Crop",
    "DatasetCrop",
    "Decoded",
    "Direction",
    "DrawnFace",
    "EditView",
    "Edited",
    "EditedFace",
    "Encoding",
    "Endpoint",
    "ExpressionTarget",
    "Face",
    "FaceCrop",
    "FaceFinding",
    "FaceSource",
    "FoundFace",
    "Generated",
    "HealthStatus",
    "Image",
    "ImageSource",
    "Interpolated",
    "Interpolation",
    "Latent",
    "Model",
    "Point",
    "Reconstructed",
    "SquareCrop",
    "TransferView",
    "Transferred",
    "TransferredImage",
    "TransferredPhoto",
    "Traversal",
]

RAW_PIXELS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Image:
    """One picture.

    Attributes:
        data: The encoded file; for `RAW_PIXELS` uint8 pixels, height x width x channels, rows from
            the top, no padding.
        mime_type: `image/png`, `image/jpeg`, `image/webp`, `RAW_PIXELS`; of animations also
            `image/gif`.
        height_px: Height; 0 if not known (an encoded picture that was never sent).
        width_px: Width, likewise.
        channel_count: 1 (grey) or 3 (RGB), likewise.
    """

    data: bytes = field(repr=False)
    mime_type: str = ""
    height_px: int = 0
    width_px: int = 0
    channel_count: int = 0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `data` to a file, whole or not at all.

        Raises:
            FileError: The file cannot be written.
        """
        write_atomically(path, self.data)


@dataclass(frozen=True, slots=True)
class Latent:
    """A point in the latent space of one version of one family.

    Attributes:
        family: The family whose encoder or prior made it.
        version: Its version; empty if not known.
        values: The coordinates, as many as the family's `latent_size`.
    """

    family: str
    version: str
    values: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Face:
    """One face drawn from a prior, with all it takes to draw it again.

    Attributes:
        index: Its index under the seed.
        image: The picture.
        latent: Its latent, if asked for.
        seed: The seed.
        family: The family that drew it.
        version: The family's version.
        prior: The prior it was drawn from.
    """

    index: int
    image: Image
    latent: Latent | None
    seed: int
    family: str
    version: str
    prior: str


@dataclass(frozen=True, slots=True)
class Generated:
    """The answer to `generate`: faces in the order of their indices, and what drew them."""

    faces: tuple[Face, ...]
    seed: int
    family: str
    version: str
    prior: str


@dataclass(frozen=True, slots=True)
class Reconstructed:
    """The answer to `reconstruct`.

    Attributes:
        images: One for each picture sent, in its order.
        inputs: The model's view of each, cropped and scaled, if asked for; else empty.
        family: The family used.
        version: Its version.
    """

    images: tuple[Image, ...]
    inputs: tuple[Image, ...]
    family: str
    version: str


@dataclass(frozen=True, slots=True)
class Encoding:
    """What the encoder makes of one picture or mesh.

    Attributes:
        mean: The mean of the posterior; for an autoencoder the latent itself.
        log_variance: Logarithms of the posterior's variances; empty for an autoencoder.
    """

    mean: Latent
    log_variance: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The answer to `decode`: one picture for each latent, in its order, and what drew them."""

    images: tuple[Image, ...]
    family: str
    version: str


@dataclass(frozen=True, slots=True)
class DrawnFace:
    """A face of a seed: that of `generate` or `generate_meshes` with the same arguments.

    Attributes:
        seed: 0 to 2**64 - 1.
        index: Its index under the seed.
        prior: The name of one of the family's priors; empty: its default.
        temperature: Standard deviation of the noise, 0 to 10; None: 1.
    """

    seed: int
    index: int = 0
    prior: str = ""
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Animation:
    """Asks for a row of pictures as one animated picture, WebP or GIF.

    Attributes:
        frame_ms: How long each picture stays, 20 to 10000 milliseconds; of GIF in steps of 10.
        there_and_back: Whether it goes back as it came before it begins again.
    """

    frame_ms: int = 100
    there_and_back: bool = False


@dataclass(frozen=True, slots=True)
class Interpolated:
    """The answer to `interpolate`.

    Attributes:
        images: The pictures from start to end; empty if an animation was asked for.
        latents: The latent of each.
        animation: The whole path as one picture, if asked for.
    """

    images: tuple[Image, ...]
    latents: tuple[Latent, ...]
    animation: Image | None = None


@dataclass(frozen=True, slots=True)
class Traversal:
    """A row of strengths along one direction, each a picture.

    Attributes:
        direction: One of the family's `directions`.
        start: The strength of the first picture, -20 to 20.
        end: The strength of the last one, likewise.
        count: How many pictures, both ends included: 2 to the server's limit.
    """

    direction: str
    start: float = -1.0
    end: float = 1.0
    count: int = 9


@dataclass(frozen=True, slots=True)
class EditedFace:
    """What became of one face.

    Attributes:
        images: One, or with a traversal one for each strength; empty if an animation was asked for.
        latents: The moved latents, one for each picture.
        original: The latent before the moves.
        animation: The whole traversal as one picture, if asked for.
    """

    images: tuple[Image, ...]
    latents: tuple[Latent, ...]
    original: Latent
    animation: Image | None = None


@dataclass(frozen=True, slots=True)
class Edited:
    """The answer to `edit`.

    Attributes:
        faces: One for each face sent, in its order.
        strengths: Those of the traversal, one for each picture of a face; empty without.
        family: The family used.
        version: Its version.
    """

    faces: tuple[EditedFace, ...]
    strengths: tuple[float, ...]
    family: str
    version: str


@dataclass(frozen=True, slots=True)
class ExpressionTarget:
    """An expression to give to faces.

    Attributes:
        expression: One of the family's `expressions` or `experimental_expressions`.
        strength: How much of it, 0 to 1.5: 0 gives the photo's pixels back, 1 what the model was
            trained for.
    """

    expression: str
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Point:
    """A point in a photo, in pixels after EXIF orientation; the first pixel's centre is at 0.5."""

    x_px: float
    y_px: float


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A face found in a photo, in pixels after EXIF orientation.

    Attributes:
        left_px: The left edge of its box; like the others, it may lie outside the photo.
        top_px: The top edge.
        right_px: The right edge.
        bottom_px: The bottom edge.
        points: The outer and the inner corner of the eye at the picture's right, the same of the
            eye at its left, and the foot of the nose.
        score: The detector's, above 0, higher is surer; 0 where no detector looked.
    """

    left_px: float
    top_px: float
    right_px: float
    bottom_px: float
    points: tuple[Point, ...]
    score: float


@dataclass(frozen=True, slots=True)
class TransferredImage:
    """One picture made of a photo.

    Attributes:
        expression: The expression given; empty on a sheet.
        strength: Its strength; 0 on a sheet.
        face_index: The face shown, an index into the photo's `faces`; None where all are.
        image: The picture.
    """

    expression: str
    strength: float
    face_index: int | None
    image: Image


@dataclass(frozen=True, slots=True)
class TransferredPhoto:
    """What became of one photo.

    Attributes:
        images: One for each target; of view `crop` one for each face and target, all targets of
            the first face first; of view `sheet` one.
        faces: The faces found, the surest first.
    """

    images: tuple[TransferredImage, ...]
    faces: tuple[FoundFace, ...]


@dataclass(frozen=True, slots=True)
class Transferred:
    """The answer to `transfer`: one of `photos` for each sent, in its order, and what drew them."""

    photos: tuple[TransferredPhoto, ...]
    family: str
    version: str


@dataclass(frozen=True, slots=True)
class Direction:
    """A direction along which faces of a family can be moved.

    Attributes:
        name: An attribute as the data names it, `Smiling`, or `component-1` and so on: the
            principal axes of the latents.
        effect: What a move was measured to change; None: not measured. The model card gives the
            protocol.
    """

    name: str
    effect: float | None


@dataclass(frozen=True, slots=True)
class Model:
    """A family that is served.

    Attributes:
        family: Its name.
        version: The version used when a request names none.
        kind: `autoencoder`, `vae`, `expression` or `mesh`.
        latent_size: Coordinates of a latent.
        height_px: Height of its pictures; 0 for meshes.
        width_px: Width of its pictures; 0 for meshes.
        channel_count: 1 (grey) or 3 (RGB); 0 for meshes.
        priors: The names of its priors, the default first.
        dataset: The data set it was trained on.
        data_license: The terms of that data.
        metrics: Measured qualities by name; the model card gives their protocol.
        graphs: The names of its graphs in the model repository.
        expressions: The expressions that it gives to faces, the first the default of drawing;
            empty for other kinds.
        experimental_expressions: Those of poor quality: given when named, never by default.
        directions: Those along which its faces can be moved; empty if it has none.
        vertex_count: Vertices of each of its meshes; 0 for pictures.
        face_count: Triangles of each of its meshes; 0 for pictures.
    """

    family: str
    version: str
    kind: str
    latent_size: int
    height_px: int
    width_px: int
    channel_count: int
    priors: tuple[str, ...]
    dataset: str
    data_license: str
    metrics: Mapping[str, float]
    graphs: tuple[str, ...]
    expressions: tuple[str, ...]
    experimental_expressions: tuple[str, ...]
    directions: tuple[Direction, ...]
    vertex_count: int = 0
    face_count: int = 0


@dataclass(frozen=True, slots=True)
class CenterCrop:
    """The central square, its side a fraction (above 0, to 1) of the picture's shorter side."""

    fraction: float


@dataclass(frozen=True, slots=True)
class SquareCrop:
    """A square inside the picture, in pixels after EXIF orientation."""

    left_px: int
    top_px: int
    side_px: int


@dataclass(frozen=True, slots=True)
class DatasetCrop:
    """The central square that the family was trained on, for pictures framed like its data."""


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """The square around the surest face that the server finds, framed as the family's data is."""


class HealthStatus(StrEnum):
    """What a server says of itself or of one of its services."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    NOT_SERVING = "not serving"
    SERVICE_UNKNOWN = "service unknown"


Crop = CenterCrop | SquareCrop | DatasetCrop | FaceCrop
ImageSource = bytes | str | os.PathLike[str] | Image
"""A picture's encoded bytes, the path of its file, or an `Image` (which may be raw pixels)."""
FaceSource = bytes | str | os.PathLike[str] | Image | Latent | DrawnFace
"""A face: a picture, a latent, or a face of a seed."""
Endpoint = FaceSource
Interpolation = Literal["linear", "spherical"]
FaceFinding = Literal["detect", "cropped"]
"""A detector of frontal faces looks for them, or a photo's central square frames one face."""
EditView = Literal["photo", "crop", "decoded"]
"""The whole photo; the square that the model sees; or what the model draws of the moved latent."""
TransferView = Literal["photo", "crop", "sheet"]
"""The whole photo; its faces alone, aligned, grey and small; or one labelled sheet of all."""

"""Edits faces: moves their latents, and lays what that changes over photos.

What a model draws of a photo is blurred, and lacks what it cannot draw. The difference between two
of its pictures, that of the moved latent and that of the latent, is what the move changes: added to
the photo, it leaves the photo itself.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facegen.serving.call_context import CallContext
from facegen.serving.errors import ResponseSizeError
from facegen.serving.faces.family import Family
from facegen.serving.faces.pipelines import Draw, Pipelines
from facegen.serving.faces.sources import Source, latents_of, uploads_of
from facegen.serving.imaging import (
    AnimationFormat,
    CropSquare,
    ImagingPool,
    OpenPicture,
    Origin,
    PictureFormat,
    Upload,
    add_change,
    encode_animation,
    encode_pictures,
    reduced,
    square_of,
    view_of,
)

__all__ = ["Edit", "EditOrder", "EditView", "EditedFace", "Picture"]

EditView = Literal["photo", "crop", "decoded"]

# What a picture costs in a message beside its own bytes.
_PICTURE_OVERHEAD_BYTES = 64
# The longer side of a photo in an animation.
_ANIMATED_PX = 512

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
_Square = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class EditOrder:
    """What a request wants of each of its faces.

    Attributes:
        moves: How far to move along which directions.
        traversed: The direction of the traversal; empty: there is none.
        path: Its strengths; empty without.
        crop: Which square of a picture the model sees.
        view: What to make of pictures; other faces are decoded.
        picture_format: How to code pictures.
        animation: How to code each face's pictures as one; None: each alone.
        max_bytes: The most that the coded pictures may have together.
    """

    moves: Mapping[str, float]
    traversed: str
    path: tuple[float, ...]
    crop: CropSquare
    view: EditView
    picture_format: PictureFormat
    animation: AnimationFormat | None
    max_bytes: int

    def strengths(self, names: Sequence[str]) -> Floats:
        """Give how far each picture's latent moves along each of the directions named, (T, D)."""
        row = np.array([self.moves.get(name, 0.0) for name in names], np.float32)
        strengths = np.tile(row, (max(1, len(self.path)), 1))
        if self.path:
            strengths[:, names.index(self.traversed)] += np.array(self.path, np.float32)
        return strengths

    def label(self, step: int | None = None) -> str:
        """Tell the moves, for example `Smiling=1`: those of one picture, or of all."""
        told = [f"{name}={strength:g}" for name, strength in self.moves.items()]
        if self.path:
            ends = f"{self.path[0]:g}..{self.path[-1]:g}"
            told.append(f"{self.traversed}={ends if step is None else f'{self.path[step]:g}'}")
        return " ".join(told)


@dataclass(frozen=True, slots=True)
class Picture:
    """A coded picture.

    Attributes:
        file: The file.
        mime_type: Its format.
        shape: (H, W, C).
    """

    file: bytes
    mime_type: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EditedFace:
    """What became of a face.

    Attributes:
        pictures: T of them, or one animation.
        latents: The moved latents, (T, Z).
        original: The latent before, (Z,).
    """

    pictures: tuple[Picture, ...]
    latents: Floats
    original: Floats


@dataclass(frozen=True, slots=True)
class _Canvas:
    """What a face's pictures are made on.

    Attributes:
        source: The face.
        decoded: Its moved latents' pictures, (T, h, w, c).
        plain: That of its own latent, (h, w, c); None where no photo is kept.
        photo: What the changes are added to, (H, W, C); None likewise.
        square: The square in the photo that the model saw.
    """

    source: Source
    decoded: Pixels
    plain: Pixels | None = None
    photo: Pixels | None = None
    square: _Square = (0, 0, 0, 0)

    def picture(self, step: int) -> Pixels:
        """Make one of its pictures: (H, W, C)."""
        if self.photo is None or self.plain is None:
            picture: Pixels = self.decoded[step]
            return picture
        change = self.decoded[step].astype(np.int16) - self.plain
        return add_change(self.photo, change, self.square)


class Edit:
    """One call's faces; it blocks. The errors are those of `Pipelines` and of `faces`.

    Args:
        pipelines: Run the models.
        imaging: Works on pixels.
        family: One that has directions.
        order: What is wanted.
        context: Whose call it is.
    """

    def __init__(
        self,
        pipelines: Pipelines,
        imaging: ImagingPool,
        family: Family,
        order: EditOrder,
        *,
        context: CallContext,
    ) -> None:
        self._pipelines, self._imaging = pipelines, imaging
        self._family, self._order, self._context = family, order, context
        assert family.directions is not None
        self._strengths = order.strengths(family.directions.names)
        self._shape = (family.height_px, family.width_px, family.channel_count)
        self._bytes = 0
        self._counting = threading.Lock()

    def faces(self, sources: Sequence[Source]) -> list[EditedFace]:
        """Edit faces, at least one.

        Raises:
            InputError: A picture is broken, too large, or does not hold the crop. Never right.
            ResponseSizeError: The pictures have too many bytes together. Never right.
            CallCancelledError: The caller went away.
        """
        with self._photos(uploads_of(sources)) as (photos, squares, views):
            latents = latents_of(
                self._pipelines, self._family, sources, views, context=self._context
            )
            moved, decoded, plain = self._decode(latents, sources)
            canvases, number = [], 0
            for source, some in zip(sources, decoded, strict=True):
                if isinstance(source, Upload) and photos:
                    canvases.append(
                        _Canvas(source, some, plain[number], photos[number], squares[number])
                    )
                    number += 1
                else:
                    canvases.append(_Canvas(source, some))
            made = self._animations(canvases) if self._order.animation else self._each(canvases)
        return [
            EditedFace(tuple(pictures), some, original)
            for pictures, some, original in zip(made, moved, latents, strict=True)
        ]

    @contextmanager
    def _photos(
        self, uploads: Sequence[Upload]
    ) -> Iterator[tuple[Sequence[Pixels], Sequence[_Square], Pixels | None]]:
        """Give what changes are added to, the squares in it, and what the model sees."""
        imaging, crop, context = self._imaging, self._order.crop, self._context
        if not uploads:
            yield (), (), None
        elif self._order.view != "photo":
            views = imaging.read(uploads, crop, shape=self._shape, context=context)
            whole = (0.0, 0.0, float(self._shape[1]), float(self._shape[0]))
            kept = views if self._order.view == "crop" else ()
            yield list(kept), [whole] * len(kept), views
        else:
            with imaging.photos(uploads, context=context) as photos:
                pairs = list(zip(uploads, photos, strict=True))
                crops = imaging.place(
                    crop, photos, fields=[up.field for up in uploads], context=context
                )
                squares = [
                    square_of(placed, _size_px(it), field=up.field)
                    for placed, (up, it) in zip(crops, pairs, strict=True)
                ]
                opened = [OpenPicture(it, up.field, _size_px(it)) for up, it in pairs]
                seen = imaging.each(
                    lambda pair: view_of(pair[0], pair[1], shape=self._shape),
                    list(zip(opened, crops, strict=True)),
                    pixel_counts=[picture.pixel_count for picture in opened],
                    context=context,
                )
                yield photos, squares, np.stack(seen)

    def _decode(
        self, latents: Floats, sources: Sequence[Source]
    ) -> tuple[NDArray[np.float32], Pixels, Pixels]:
        """Move latents and draw them, with the pictures of those whose photos are kept.

        Returns:
            The moved latents (B, T, Z), their pictures (B, T, h, w, c), and those of the latents
            of kept photos (P, h, w, c).
        """
        steps = len(self._strengths)
        moved = self._pipelines.move(
            self._family,
            np.repeat(latents, steps, axis=0),
            np.tile(self._strengths, (len(latents), 1)),
            context=self._context,
        )
        kept = [
            row
            for row, source in enumerate(sources)
            if isinstance(source, Upload) and self._order.view != "decoded"
        ]
        rows = np.concatenate([moved, latents[kept]])
        pixels = self._pipelines.decode(self._family, rows, context=self._context)
        decoded = pixels[: len(moved)].reshape(len(latents), steps, *pixels.shape[1:])
        return moved.reshape(len(latents), steps, -1), decoded, pixels[len(moved) :]

    def _each(self, canvases: Sequence[_Canvas]) -> list[list[Picture]]:
        """Code every picture alone, of each face in the order of its steps."""
        steps = len(self._strengths)
        picture_format = self._order.picture_format

        def make(job: tuple[_Canvas, int]) -> Picture:
            canvas, step = job
            pixels = canvas.picture(step)
            still = canvas.photo is not None and not self._strengths[step].any()
            origin = self._origin(canvas, self._order.label(step))
            (file,) = encode_pictures(
                pixels[None], picture_format, origins=None if still else [origin]
            )
            return self._counted(Picture(file, picture_format.mime_type, pixels.shape))

        jobs = [(canvas, step) for canvas in canvases for step in range(steps)]
        counts = [_pixel_count(canvas) for canvas, _ in jobs]
        made = self._imaging.each(make, jobs, pixel_counts=counts, context=self._context)
        return [made[first : first + steps] for first in range(0, len(made), steps)]

    def _animations(self, canvases: Sequence[_Canvas]) -> list[list[Picture]]:
        """Code the pictures of each face as one."""
        animation = self._order.animation
        assert animation is not None

        def make(canvas: _Canvas) -> list[Picture]:
            canvas = _reduced(canvas)
            frames = [canvas.picture(step) for step in range(len(canvas.decoded))]
            origin = self._origin(canvas, self._order.label())
            file = encode_animation(frames, animation, origin=origin)
            return [self._counted(Picture(file, animation.mime_type, frames[0].shape))]

        return self._imaging.each(make, canvases, context=self._context)

    def _origin(self, canvas: _Canvas, moves: str) -> Origin:
        """Say what made a face's pictures."""
        drawn = canvas.source if isinstance(canvas.source, Draw) else None
        return Origin(
            self._family.name,
            self._family.version,
            seed=drawn.seed if drawn else None,
            index=drawn.first_index if drawn else None,
            moves=moves,
            edited=canvas.photo is not None,
        )

    def _counted(self, picture: Picture) -> Picture:
        """Refuse a picture with which the answer would be too large."""
        with self._counting:
            self._bytes += len(picture.file) + _PICTURE_OVERHEAD_BYTES
            if self._bytes > self._order.max_bytes:
                raise ResponseSizeError("faces", limit=self._order.max_bytes)
        return picture


def _reduced(canvas: _Canvas) -> _Canvas:
    """Reduce a face's photo to what an animation shows of it."""
    if canvas.photo is None:
        return canvas
    photo, square = reduced(canvas.photo, canvas.square, most_px=_ANIMATED_PX)
    return _Canvas(canvas.source, canvas.decoded, canvas.plain, photo, square)


def _size_px(photo: Pixels) -> tuple[int, int]:
    return photo.shape[1], photo.shape[0]


def _pixel_count(canvas: _Canvas) -> int:
    height_px, width_px = (canvas.decoded[0] if canvas.photo is None else canvas.photo).shape[:2]
    return int(height_px * width_px)

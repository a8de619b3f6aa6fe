"""Reads and codes the pictures of a call, in its own thread and as many more as there are CPUs.

The coders release the GIL.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from facegen.serving.call_context import CallContext
from facegen.serving.errors import CallCancelledError, NoFaceError
from facegen.serving.imaging.budget import PixelBudget
from facegen.serving.imaging.coding import RAW, WEBP, PictureFormat, encode_pictures
from facegen.serving.imaging.cropping import (
    CenterCrop,
    CropSquare,
    FaceCrop,
    PixelSquare,
    square_around_face,
)
from facegen.serving.imaging.detection import DetectedFace, FaceDetector
from facegen.serving.imaging.origin import Origin
from facegen.serving.imaging.reading import (
    OpenPicture,
    PictureLimits,
    Upload,
    open_pictures,
    photo_of,
    view_of,
)

__all__ = ["ImagingPool", "coded_quickly"]

S = TypeVar("S")
T = TypeVar("T")

# Coding this many pixels costs about ten times what handing them to another thread does: fewer
# gained nothing from a second thread.
_PIXELS_PER_JOB = 16 * 64 * 64
_QUICK_PIXELS = 64 * 64
# Decoded pictures larger than this are counted, so that calls at a time cannot add up their memory.
_LARGE_PIXELS = 1024 * 1024


class ImagingPool:
    """Reads and codes pictures for all calls; few are done at once by the thread that asks.

    Args:
        threads: The most that work on one call, and that decode large pictures at a time.
        limits: What is refused before decoding.
    """

    def __init__(self, threads: int, limits: PictureLimits) -> None:
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="imaging")
        self._large = threading.Semaphore(threads)
        self._limits = limits
        self._detector = FaceDetector()
        self._photos = PixelBudget(limits.max_request_pixels)

    def read(
        self,
        uploads: Sequence[Upload],
        crop: CropSquare,
        *,
        shape: tuple[int, int, int],
        context: CallContext | None = None,
    ) -> NDArray[np.uint8]:
        """Give what a model sees of pictures.

        Args:
            uploads: The pictures of one request, at least one.
            crop: Which square of each.
            shape: (H, W, C) of the model's pictures.
            context: Whose call it is.

        Returns:
            (B, H, W, C).

        Raises:
            InputError: A picture is broken, too large, does not hold the crop or the face that is
                to be cropped; or all together have too many pixels. Never right.
            CallCancelledError: The caller went away.
        """
        context = context or CallContext()
        with _stage(context, len(uploads)):
            pictures = open_pictures(uploads, self._limits)
            views = np.empty((len(pictures), *shape), np.uint8)

            def read(part: slice) -> None:
                for index in range(part.start, part.stop):
                    views[index] = self._view(pictures[index], crop, shape, context)

            parts = _parts([picture.pixel_count for picture in pictures])
            self._run([partial(read, part) for part in parts])
        return views

    def encode(
        self,
        pixels: NDArray[np.uint8],
        picture_format: PictureFormat,
        *,
        origins: Sequence[Origin] | None = None,
        context: CallContext | None = None,
    ) -> list[bytes]:
        """Code pictures; see `encode_pictures`.

        Raises:
            CallCancelledError: The caller went away.
        """
        context = context or CallContext()
        with _stage(context, len(pixels)):
            if picture_format.mime_type == RAW:
                return encode_pictures(pixels, picture_format)

            def encode(part: slice) -> list[bytes]:
                _check(context)
                some = None if origins is None else origins[part]
                return encode_pictures(pixels[part], picture_format, origins=some)

            parts = _parts([pixels.shape[1] * pixels.shape[2]] * len(pixels))
            files = self._run([partial(encode, part) for part in parts])
        return [file for some in files for file in some]

    @contextmanager
    def photos(
        self, uploads: Sequence[Upload], *, context: CallContext | None = None
    ) -> Iterator[list[NDArray[np.uint8]]]:
        """Give whole pictures, upright, to hold for a while; see `photo_of`.

        The calls that hold some have no more pixels together than one request may have. Others
        wait.

        Args:
            uploads: The pictures of one request, at least one.
            context: Whose call it is.

        Yields:
            (H, W, C) of each.

        Raises:
            InputError: A picture is broken or too large; or all together have too many pixels.
                Never right.
            CallCancelledError: The caller went away.
        """
        context = context or CallContext()
        pictures = open_pictures(uploads, self._limits)
        counts = [picture.pixel_count for picture in pictures]
        with self._photos.hold(sum(counts), context):
            yield self.each(photo_of, pictures, pixel_counts=counts, context=context)

    def place(
        self,
        crop: CropSquare,
        photos: Sequence[NDArray[np.uint8]],
        *,
        fields: Sequence[str],
        context: CallContext | None = None,
    ) -> Sequence[CenterCrop | PixelSquare]:
        """Tell which square of each photo is meant; where it is that of a face, look for one.

        Args:
            crop: Which square.
            photos: (H, W, C) each, upright, at least one.
            fields: Their fields in the request, for errors.
            context: Whose call it is.

        Raises:
            NoFaceError: A photo shows none. Never right.
            CallCancelledError: The caller went away.
        """
        if not isinstance(crop, FaceCrop):
            return [crop] * len(photos)
        pairs = list(zip(photos, fields, strict=True))
        look = partial(self._placed, crop)
        return self.each(lambda it: look(*it), pairs, context=context, stage="face detection")

    def find_faces(
        self, photos: Sequence[NDArray[np.uint8]], *, context: CallContext | None = None
    ) -> list[list[DetectedFace]]:
        """Find the faces of photos, at least one; see `FaceDetector.detect`.

        Raises:
            CallCancelledError: The caller went away.
        """
        detect = self._detector.detect
        return self.each(detect, photos, context=context, stage="face detection")

    def each(
        self,
        work: Callable[[S], T],
        items: Sequence[S],
        *,
        pixel_counts: Sequence[int] | None = None,
        context: CallContext | None = None,
        stage: str = "image coding",
    ) -> list[T]:
        """Do some imaging for each of a call's pictures, some at a time.

        Args:
            work: What to do with an item.
            items: At least one.
            pixel_counts: Of each item, if many may be too small to be worth a job.
            context: Whose call it is.
            stage: The work's name in traces.

        Returns:
            What the work gave for each.

        Raises:
            CallCancelledError: The caller went away.
        """
        context = context or CallContext()
        counts = pixel_counts or [_PIXELS_PER_JOB] * len(items)

        def do(part: slice) -> list[T]:
            results = []
            for index in range(part.start, part.stop):
                with self._large if counts[index] > _LARGE_PIXELS else nullcontext():
                    _check(context)
                    results.append(work(items[index]))
            return results

        with _stage(context, len(items), name=stage):
            done = self._run([partial(do, part) for part in _parts(counts)])
        return [result for some in done for result in some]

    def begin(self, work: Callable[[], None]) -> None:
        """Run work that codes pictures in a thread of the pool; it must raise nothing."""
        self._executor.submit(work)

    def _view(
        self,
        picture: OpenPicture,
        crop: CropSquare,
        shape: tuple[int, int, int],
        context: CallContext,
    ) -> NDArray[np.uint8]:
        with self._large if picture.pixel_count > _LARGE_PIXELS else nullcontext():
            _check(context)
            if isinstance(crop, FaceCrop):
                photo = photo_of(picture)
                size_px = (photo.shape[1], photo.shape[0])
                picture = OpenPicture(photo, picture.field, size_px)
                crop = self._placed(crop, photo, picture.field)
            return view_of(picture, crop, shape=shape)

    def _placed(self, crop: FaceCrop, photo: NDArray[np.uint8], field: str) -> PixelSquare:
        faces = self._detector.detect(photo)
        if not faces:
            raise NoFaceError(field, remedy="give crop.square_px")
        return square_around_face(crop, faces[0], (photo.shape[1], photo.shape[0]))

    def _run(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Run jobs side by side; when one fails, drop the rest.

        The pool begins with the first, this thread with the last; they meet where the pool has got
        to, so that a pool that is busy for others delays nobody.
        """
        if len(jobs) == 1 or self._threads == 1:
            return [job() for job in jobs]
        futures = [self._executor.submit(job) for job in jobs]
        results: list[T] = []
        try:
            for job, future in zip(reversed(jobs), reversed(futures), strict=True):
                results.append(job() if future.cancel() else future.result())
        finally:
            for future in futures:
                future.cancel()
        return results[::-1]

    def close(self) -> None:
        """Finish the jobs that run and drop the others."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def coded_quickly(shape: tuple[int, int, int, int], picture_format: PictureFormat) -> bool:
    """Tell whether coding pictures (B, H, W, C) takes about as long as handing them to a thread."""
    if picture_format.mime_type == RAW:
        return True
    return picture_format.mime_type != WEBP and math.prod(shape[:3]) <= _QUICK_PIXELS


def _parts(pixel_counts: Sequence[int]) -> list[slice]:
    """Cut pictures into runs that are worth a job each."""
    parts, first, pixels = [], 0, 0
    for index, count in enumerate(pixel_counts):
        pixels += count
        if pixels >= _PIXELS_PER_JOB:
            parts.append(slice(first, index + 1))
            first, pixels = index + 1, 0
    if first < len(pixel_counts):
        parts.append(slice(first, len(pixel_counts)))
    return parts


def _check(context: CallContext) -> None:
    if context.cancelled:
        raise CallCancelledError


@contextmanager
def _stage(context: CallContext, count: int, *, name: str = "image coding") -> Iterator[None]:
    """Record the stage in the call's trace, if it has one."""
    if context.spans is None:
        yield
        return
    start_ns = time.time_ns()
    try:
        yield
    finally:
        context.spans.add(name, start_ns, time.time_ns(), {"pictures": count})

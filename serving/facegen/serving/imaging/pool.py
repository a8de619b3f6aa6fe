"""Runs the coders off the event loop; they release the GIL."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from facegen.serving.imaging.coding import RAW, PictureFormat, encode_pictures
from facegen.serving.imaging.cropping import CropSquare
from facegen.serving.imaging.origin import Origin
from facegen.serving.imaging.reading import PictureLimits, Upload, read_view

__all__ = ["ImagingPool"]

T = TypeVar("T")

# Coding this many small pictures costs about as much as handing them to a thread twenty times.
_PICTURES_PER_JOB = 16


class ImagingPool:
    """Threads that read and code pictures, shared by all calls.

    Args:
        threads: How many; about the number of CPUs.
        limits: What is refused before decoding.
    """

    def __init__(self, threads: int, limits: PictureLimits) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="imaging")
        self._limits = limits

    async def read(
        self, uploads: Sequence[Upload], crop: CropSquare, *, shape: tuple[int, int, int]
    ) -> NDArray[np.uint8]:
        """Give what a model sees of pictures.

        Args:
            uploads: At least one picture.
            crop: Which square of each.
            shape: (H, W, C) of the model's pictures.

        Returns:
            (B, H, W, C).

        Raises:
            InputError: As `read_view` does, for one of the pictures.
        """
        views = await self._run(
            [
                partial(read_view, upload, crop, shape=shape, limits=self._limits)
                for upload in uploads
            ]
        )
        return np.stack(views)

    async def encode(
        self,
        pixels: NDArray[np.uint8],
        picture_format: PictureFormat,
        *,
        origins: Sequence[Origin] | None = None,
    ) -> list[bytes]:
        """Code pictures; see `encode_pictures`."""
        if picture_format.mime_type == RAW:
            return encode_pictures(pixels, picture_format)
        jobs = []
        for first in range(0, len(pixels), _PICTURES_PER_JOB):
            part = slice(first, first + _PICTURES_PER_JOB)
            some = None if origins is None else origins[part]
            jobs.append(partial(encode_pictures, pixels[part], picture_format, origins=some))
        return [file for files in await self._run(jobs) for file in files]

    async def _run(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Run jobs side by side; when one fails or the caller is cancelled, drop the rest."""
        loop = asyncio.get_running_loop()
        futures = [loop.run_in_executor(self._executor, job) for job in jobs]
        try:
            return await asyncio.gather(*futures)
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Finish the jobs that run and drop the others."""
        self._executor.shutdown(wait=True, cancel_futures=True)

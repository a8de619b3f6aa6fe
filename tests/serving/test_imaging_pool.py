import io
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facegen.serving.call_context import CallContext
from facegen.serving.errors import (
    CallCancelledError,
    PictureError,
    PictureSizeError,
    RequestSizeError,
)
from facegen.serving.imaging import (
    JPEG,
    PNG,
    RAW,
    CenterCrop,
    ImagingPool,
    Origin,
    PictureFormat,
    PictureLimits,
    Upload,
    encode_pictures,
    read_view,
)

_LIMITS = PictureLimits(max_pixels=10_000, max_request_pixels=20_000)
_SHAPE = (64, 64, 3)


class Stages:
    """Keeps the stages of a call."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, int, dict[str, str | int] | None]] = []

    def add(
        self, name: str, start_ns: int, end_ns: int, attributes: dict[str, str | int] | None = None
    ) -> None:
        self.stages.append((name, start_ns, end_ns, attributes))


@pytest.fixture(params=[1, 2, 4])
def pool(request: pytest.FixtureRequest) -> Iterator[ImagingPool]:
    pool = ImagingPool(request.param, PictureLimits())
    yield pool
    pool.close()


@pytest.fixture
def narrow() -> Iterator[ImagingPool]:
    pool = ImagingPool(2, _LIMITS)
    yield pool
    pool.close()


def _pixels(count: int, side: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def _uploads(pixels: NDArray[np.uint8], kind: str = "PNG") -> list[Upload]:
    uploads = []
    for index, picture in enumerate(pixels):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, kind)
        uploads.append(Upload(file.getvalue(), f"images[{index}].data"))
    return uploads


@pytest.mark.parametrize("count", [1, 15, 16, 50])
def test_pictures_are_read_in_their_order_by_any_number_of_threads(
    pool: ImagingPool, count: int
) -> None:
    uploads = _uploads(_pixels(count, 90))

    views = pool.read(uploads, CenterCrop(), shape=_SHAPE)

    alone = [
        read_view(upload, CenterCrop(), shape=_SHAPE, limits=PictureLimits()) for upload in uploads
    ]
    assert (views == np.stack(alone)).all()


@pytest.mark.parametrize("mime_type", [PNG, JPEG, RAW])
@pytest.mark.parametrize("count", [1, 15, 16, 50])
def test_pictures_are_coded_in_their_order_by_any_number_of_threads(
    pool: ImagingPool, count: int, mime_type: str
) -> None:
    pixels, picture_format = _pixels(count), PictureFormat(mime_type)
    origins = [Origin("face", "1", 5, index) for index in range(count)]

    files = pool.encode(pixels, picture_format, origins=origins)

    assert files == encode_pictures(pixels, picture_format, origins=origins)


def test_calls_at_a_time_get_their_own_pictures(pool: ImagingPool) -> None:
    pixels = _pixels(24)
    files: dict[int, list[bytes]] = {}

    def encode(index: int) -> None:
        files[index] = pool.encode(np.roll(pixels, index, axis=0), PictureFormat(PNG))

    threads = [threading.Thread(target=encode, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expected = encode_pictures(pixels, PictureFormat(PNG))
    assert files == {i: [*expected[-i or 24 :], *expected[: -i or 24]] for i in range(6)}


def test_broken_picture_among_many_is_named(pool: ImagingPool) -> None:
    uploads = _uploads(_pixels(40))
    uploads[17] = Upload(uploads[17].data[:200], "images[17].data")

    with pytest.raises(PictureError, match="truncated") as caught:
        pool.read(uploads, CenterCrop(), shape=_SHAPE)

    assert caught.value.field == "images[17].data"
    assert pool.read(uploads[:17], CenterCrop(), shape=_SHAPE).shape == (17, *_SHAPE)


def test_large_picture_is_refused_with_size_limit_and_flag(narrow: ImagingPool) -> None:
    uploads = [*_uploads(_pixels(1)), *_uploads(_pixels(1, 101))]

    with pytest.raises(PictureSizeError, match=r"101 x 101.*10000.*--max-picture-pixels"):
        narrow.read(uploads, CenterCrop(), shape=_SHAPE)


def test_raw_pixels_count_as_others_do(narrow: ImagingPool) -> None:
    upload = Upload(bytes(101 * 100), "images[0].data", (101, 100, 1))

    with pytest.raises(PictureSizeError, match="100 x 101"):
        narrow.read([upload], CenterCrop(), shape=_SHAPE)


def test_pictures_of_too_many_pixels_together_are_refused_before_one_is_decoded(
    narrow: ImagingPool,
) -> None:
    broken = Upload(_uploads(_pixels(1, 90))[0].data[:200], "images[0].data")
    uploads = [broken, *_uploads(_pixels(3, 90))[1:]]

    with pytest.raises(RequestSizeError, match=r"24300 pixels.*20000.*--max-request-pix") as caught:
        narrow.read(uploads, CenterCrop(), shape=_SHAPE)

    assert caught.value.field == "images[2].data"


@pytest.mark.parametrize(
    "work",
    [
        lambda pool, context: pool.read(
            _uploads(_pixels(3)), CenterCrop(), shape=_SHAPE, context=context
        ),
        lambda pool, context: pool.encode(_pixels(3), PictureFormat(PNG), context=context),
    ],
    ids=["read", "encode"],
)
def test_pictures_of_a_cancelled_call_are_left(
    pool: ImagingPool, work: Callable[[ImagingPool, CallContext], object]
) -> None:
    context = CallContext()
    context.cancel()

    with pytest.raises(CallCancelledError):
        work(pool, context)


def test_stage_is_recorded_for_the_calls_trace(pool: ImagingPool) -> None:
    stages = Stages()
    context = CallContext(spans=stages)

    pool.read(_uploads(_pixels(2)), CenterCrop(), shape=_SHAPE, context=context)
    pool.encode(_pixels(3), PictureFormat(PNG), context=context)

    assert [(name, attributes) for name, _, _, attributes in stages.stages] == [
        ("image coding", {"pictures": 2}),
        ("image coding", {"pictures": 3}),
    ]
    assert all(0 < end_ns - start_ns < 60e9 for _, start_ns, end_ns, _ in stages.stages)

import contextlib
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from facegen.serving.errors import InputError, PictureError, PictureSizeError
from facegen.serving.imaging import (
    JPEG,
    PNG,
    RAW,
    WEBP,
    CenterCrop,
    Origin,
    PictureFormat,
    PictureLimits,
    PixelSquare,
    Upload,
    encode_pictures,
    open_pictures,
    read_view,
)

_LIMITS = PictureLimits()
_ORIGIN = Origin(family='face"s & <co>', version="2", seed=2**64 - 1, index=7)
_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def _gradient(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    planes = [x * 255 / width, y * 255 / height, (x + y) * 255 / (height + width)]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def _file(pixels: NDArray[np.uint8], kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.save(file, kind, **options)
    return file.getvalue()


def _read(
    data: bytes,
    crop: CenterCrop | PixelSquare = CenterCrop(),  # noqa: B008 - immutable
    *,
    shape: tuple[int, int, int] = (64, 64, 3),
    raw_shape: tuple[int, int, int] | None = None,
) -> NDArray[np.uint8]:
    return read_view(Upload(data, "images[3].data", raw_shape), crop, shape=shape, limits=_LIMITS)


def _png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000)))):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        chunks += struct.pack(">I", len(data)) + kind + data + checksum
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("channels", [1, 3])
def test_png_and_raw_pixels_come_back_as_they_were(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 30, channels)).astype(np.uint8)

    files = encode_pictures(pixels, PictureFormat(PNG), origins=[_ORIGIN] * 3)
    raw = encode_pictures(pixels, PictureFormat(RAW))

    for file, data, original in zip(files, raw, pixels, strict=True):
        picture = Image.open(io.BytesIO(file))
        picture.verify()
        assert Image.open(io.BytesIO(file)).mode == ("L" if channels == 1 else "RGB")
        decoded = np.asarray(Image.open(io.BytesIO(file))).reshape(original.shape)
        assert (decoded == original).all()
        assert data == original.tobytes()


def test_a_picture_has_the_same_bytes_in_any_thread() -> None:
    levels = np.arange(256, dtype=np.uint8)[:, None, None, None] + np.zeros(
        (1, 48, 48, 1), np.uint8
    )
    coded = encode_pictures(levels, PictureFormat(PNG))

    for _ in range(32):  # pools, so that each has threads and buffers of its own
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(encode_pictures, levels, PictureFormat(PNG)) for _ in range(4)]
            assert all(job.result() == coded for job in jobs)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mime_type", [JPEG, WEBP])
def test_lossy_pictures_come_back_nearly_and_better_with_quality(
    mime_type: str, channels: int
) -> None:
    pixels = _gradient(64, 64, channels)[None]

    def error(quality: int) -> float:
        (file,) = encode_pictures(pixels, PictureFormat(mime_type, quality))
        picture = Image.open(io.BytesIO(file)).convert("L" if channels == 1 else "RGB")
        decoded = np.asarray(picture, np.float64).reshape(pixels.shape[1:])
        return float(np.abs(decoded - pixels[0]).mean())

    assert error(95) < 2
    assert error(95) < error(5)


@pytest.mark.parametrize("mime_type", [PNG, JPEG, WEBP])
def test_encoded_pictures_carry_their_origin(mime_type: str) -> None:
    (file,) = encode_pictures(_gradient(64, 64)[None], PictureFormat(mime_type), origins=[_ORIGIN])

    info = Image.open(io.BytesIO(file)).info
    packet = info.get("xmp") or info["XML:com.adobe.xmp"]
    facts = next(
        ElementTree.fromstring(packet).iter(
            "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
        )
    ).attrib
    iptc = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
    own = "{urn:facegen:xmp:1#}"
    assert facts[f"{iptc}DigitalSourceType"] == _SOURCE_TYPE
    assert facts[f"{own}family"] == 'face"s & <co>'
    assert facts[f"{own}version"] == "2"
    assert facts[f"{own}seed"] == str(2**64 - 1)
    assert facts[f"{own}index"] == "7"


@pytest.mark.parametrize("mime_type", [PNG, JPEG, WEBP])
def test_pictures_that_no_model_made_carry_no_origin(mime_type: str) -> None:
    (file,) = encode_pictures(_gradient(64, 64)[None], PictureFormat(mime_type))

    assert b"trainedAlgorithmicMedia" not in file


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_pictures_are_recognised_by_their_content(kind: str) -> None:
    view = _read(_file(_gradient(64, 64), kind))

    assert np.abs(view.astype(int) - _gradient(64, 64)).mean() < 12


def test_picture_of_the_models_size_is_left_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)

    assert (_read(_file(pixels)) == pixels).all()
    assert (_read(pixels.tobytes(), raw_shape=(64, 64, 3)) == pixels).all()


def test_reduction_is_antialiased() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255

    view = _read(_file(stripes))

    assert np.abs(view[:, 2:-2].astype(int) - 127).max() <= 1


def test_large_jpeg_gives_the_same_view_as_its_pixels() -> None:
    pixels = _gradient(1600, 1200)
    square = PixelSquare(left_px=301, top_px=203, side_px=777)

    view = _read(_file(pixels, "JPEG", quality=100), square)

    exact = _read(_file(pixels), square)
    assert np.abs(view.astype(int) - exact).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_before_the_crop(orientation: int) -> None:
    upright = _gradient(80, 60)
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(upright)
    if orientation in back:
        stored = stored.transpose(back[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    stored.save(file, "PNG", exif=exif)
    square = PixelSquare(left_px=3, top_px=20, side_px=48)

    view = _read(file.getvalue(), square, shape=(48, 48, 3))

    assert (view == upright[20:68, 3:51]).all()


def test_transparency_is_laid_over_white() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:32, :, 3] = 255

    view = _read(_file(pixels))

    assert (view[:30] == 0).all()
    assert (view[34:] == 255).all()


def test_grey_and_colour_become_what_the_model_needs() -> None:
    grey = _gradient(64, 64, 1)

    assert (_read(_file(grey)) == grey).all()
    assert _read(_file(_gradient(64, 64)), shape=(64, 64, 1)).shape == (64, 64, 1)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    levels = np.tile(np.arange(64, dtype=np.uint16) * 1024, (64, 1))
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")

    view = _read(file.getvalue(), shape=(64, 64, 1))

    assert (view[0, :, 0] == np.arange(64) * 4).all()


@pytest.mark.parametrize("mode", ["1", "P", "LA", "CMYK"])
def test_every_mode_is_read(mode: str) -> None:
    file = io.BytesIO()
    Image.fromarray(_gradient(64, 64)).convert(mode).save(file, "JPEG" if mode == "CMYK" else "PNG")

    assert _read(file.getvalue()).shape == (64, 64, 3)


def test_center_fraction_takes_the_central_square() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[25:75, 75:125] = 200

    view = _read(_file(pixels), CenterCrop(0.5))

    assert (view == 200).all()


def test_square_outside_the_picture_is_refused() -> None:
    with pytest.raises(InputError, match=r"100 pixels at \(1, 0\) does not lie inside") as caught:
        _read(_file(_gradient(100, 100)), PixelSquare(left_px=1, top_px=0, side_px=100))

    assert caught.value.field == "crop.square_px"


@pytest.mark.parametrize("side", [20_000, 30_000, 2**31 - 1])
def test_pixel_bomb_is_refused_from_its_header(side: int) -> None:
    with pytest.raises(PictureSizeError, match="limit of 50000000 pixels") as caught:
        _read(_png_header(side, side))

    assert caught.value.field == "images[3].data"


def test_picture_just_above_the_limit_is_refused_with_its_size() -> None:
    with pytest.raises(PictureSizeError, match="8000 x 6251"):
        _read(_png_header(8000, 6251))


def test_limit_can_be_raised_above_pillows_own() -> None:
    upload = Upload(_png_header(20_000, 10_000), "images[3].data")

    (picture,) = open_pictures([upload], PictureLimits(max_pixels=200_000_000))

    assert picture.pixel_count == 200_000_000


def test_jpeg_that_goes_over_its_pixels_again_and_again_is_refused() -> None:
    data = _file(_gradient(64, 64), "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]

    assert _read(data[:-2] + last_scan * 30 + data[-2:]).shape == (64, 64, 3)
    with pytest.raises(PictureError, match="more than 50 scans"):
        _read(data[:-2] + last_scan * 50 + data[-2:])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (_file(_gradient(64, 64), "GIF"), "is not a picture"),
        (b"no picture at all", "is not a picture"),
        (b"%PDF-1.7 and more", "is not a picture"),
        (_file(_gradient(64, 64))[:150], "truncated"),
        (_file(_gradient(64, 64), "JPEG")[:600], "truncated"),
        (_file(_gradient(64, 64), "WEBP")[:100], "truncated"),
        (_png_header(64, 64), "broken or truncated PNG"),
    ],
    ids=["empty", "gif", "text", "pdf", "png", "jpeg", "webp", "short"],
)
def test_broken_pictures_are_refused_with_their_field(data: bytes, said: str) -> None:
    with pytest.raises(PictureError, match=said) as caught:
        _read(data)

    assert caught.value.field == "images[3].data"


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of some broken metadata
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP"]),
    damage=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    kept=st.floats(0.1, 1),
)
def test_damaged_files_give_a_picture_or_a_picture_error(
    kind: str, damage: list[tuple[float, int]], kept: float
) -> None:
    data = bytearray(_file(_gradient(70, 66), kind))
    for place, value in damage:
        data[int(place * (len(data) - 1))] = value
    data = data[: int(len(data) * kept)]

    with contextlib.suppress(PictureError, PictureSizeError):
        assert _read(bytes(data)).shape == (64, 64, 3)

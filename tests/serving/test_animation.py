import io
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facegen.serving.imaging import GIF, WEBP, AnimationFormat, Origin, encode_animation

_ORIGIN = Origin("face's", "2", moves="Smiling=-2..2", edited=True)


def _frames(count: int = 4, channels: int = 3) -> list[NDArray[np.uint8]]:
    """Smooth pictures, each brighter than the last, that no palette of one holds."""
    y, x = np.mgrid[:48, :64]
    planes = np.stack([2 * x, 2 * y, x + y], -1)[..., :channels]
    return [(planes + 30 * step).astype(np.uint8) for step in range(count)]


def _open(data: bytes) -> Any:
    return Image.open(io.BytesIO(data))


def _shown(data: bytes, frame: int) -> NDArray[np.int64]:
    picture = _open(data)
    picture.seek(frame)
    return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize("mime_type", [GIF, WEBP])
@pytest.mark.parametrize("channels", [1, 3])
def test_animation_shows_its_pictures_in_a_row(mime_type: str, channels: int) -> None:
    frames = _frames(channels=channels)

    data = encode_animation(frames, AnimationFormat(mime_type, frame_ms=120))

    picture = _open(data)
    assert picture.get_format_mimetype() == mime_type
    assert (picture.n_frames, picture.size, picture.info["loop"]) == (4, (64, 48), 0)
    for number, frame in enumerate(frames):
        shown = _shown(data, number)
        assert np.abs(shown - frame).mean() < 5
    picture.load()
    assert picture.info["duration"] == 120


@pytest.mark.parametrize("mime_type", [GIF, WEBP])
def test_there_and_back_shows_the_ends_once(mime_type: str) -> None:
    frames = _frames()

    data = encode_animation(frames, AnimationFormat(mime_type, there_and_back=True))

    assert _open(data).n_frames == 6
    for number, frame in ((4, 2), (5, 1)):
        assert np.abs(_shown(data, number) - frames[frame]).mean() < 5


def test_two_pictures_go_there_and_back() -> None:
    assert (
        _open(encode_animation(_frames(2), AnimationFormat(GIF, there_and_back=True))).n_frames == 2
    )


def test_still_parts_of_a_gif_do_not_flicker() -> None:
    frames = _frames(3)
    for frame in frames:
        frame[:, :32] = frames[0][:, :32]

    data = encode_animation(frames, AnimationFormat(GIF))

    assert (_shown(data, 0)[:, :32] == _shown(data, 2)[:, :32]).all()


def test_lower_quality_makes_smaller_webp() -> None:
    random = np.random.default_rng(0)
    frames = list(random.integers(0, 256, (3, 64, 64, 3)).astype(np.uint8))

    fine, coarse = (
        encode_animation(frames, AnimationFormat(WEBP, quality)) for quality in (95, 30)
    )

    assert len(coarse) < len(fine) / 2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mime_type", [GIF, WEBP])
def test_animation_carries_its_origin_and_still_opens(mime_type: str, channels: int) -> None:
    frames = _frames(channels=channels)

    data = encode_animation(frames, AnimationFormat(mime_type), origin=_ORIGIN)

    packet = data[data.index(b"<?xpacket begin") : data.index(b'<?xpacket end="r"?>') + 19]
    root = ElementTree.fromstring(packet.decode())
    said = {key: value for node in root.iter() for key, value in node.attrib.items()}
    assert said["{urn:facegen:xmp:1#}moves"] == "Smiling=-2..2"
    assert any("compositeWithTrained" in value for value in said.values())
    assert _open(data).n_frames == 4
    assert np.abs(_shown(data, 3) - frames[3]).mean() < 5


def test_origin_of_a_gif_is_where_readers_look_for_it() -> None:
    data = encode_animation(_frames(), AnimationFormat(GIF), origin=_ORIGIN)

    start = data.index(b"\x21\xff\x0bXMP DataXMP")
    end = data.index(b'<?xpacket end="r"?>') + 19
    # A reader that knows no XMP takes the packet's characters for block lengths; wherever it
    # lands, the trailer leads it to the end of the extension (XMP part 3, 1.1.2).
    position = start + 14
    while data[position]:
        position += 1 + data[position]
    assert position == end + 257
    plain = encode_animation(_frames(), AnimationFormat(GIF))
    assert data == plain[:start] + data[start : position + 1] + plain[start:]

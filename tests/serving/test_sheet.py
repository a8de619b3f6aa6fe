import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facegen.serving.imaging import SheetPicture, contact_sheet

_COLOURS = [(200, 0, 0), (0, 160, 0), (0, 0, 220), (200, 200, 0), (0, 180, 180), (180, 0, 180)]


def _plain(colour: tuple[int, int, int], height: int = 30, width: int = 40) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


def _place(sheet: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[slice, slice]:
    """Find the rows and columns that a plain picture takes."""
    rows, columns = np.nonzero((sheet == colour).all(-1))
    assert rows.size > 0, f"no {colour} on the sheet"
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


def _ink(sheet: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where captions are written: dark grey is in no picture of these tests."""
    low, high = sheet.min(-1).astype(int), sheet.max(-1).astype(int)
    dark: NDArray[np.bool_] = (high < 140) & (high - low < 10)
    return dark


def test_pictures_lie_in_the_order_of_reading() -> None:
    pictures = [SheetPicture(_plain(colour), "face") for colour in _COLOURS]

    sheet = contact_sheet(pictures, tile_px=200, columns=3)

    places = [_place(sheet, colour) for colour in _COLOURS]
    assert [place[0].start for place in places] == sorted(place[0].start for place in places)
    assert places[0][0] == places[2][0] != places[3][0]
    assert places[0][1] == places[3][1]
    assert places[0][1].stop < places[1][1].start


def test_each_picture_has_its_caption_below_it_and_within_its_width() -> None:
    captions = ["original", "happiness", "", "a caption of far more words than fit below a face"]
    pictures = [
        SheetPicture(_plain(colour), caption)
        for colour, caption in zip(_COLOURS, captions, strict=False)
    ]

    sheet = contact_sheet(pictures, tile_px=200, columns=2)

    ink = _ink(sheet)
    places = [_place(sheet, colour) for colour in _COLOURS[:4]]
    below = [ink[rows.stop : rows.stop + 24, columns] for rows, columns in places]
    assert [bool(caption.any()) for caption in below] == [True, True, False, True]
    assert ink.sum() == sum(caption.sum() for caption in below)
    assert np.ptp(np.nonzero(below[3])[1]) > 0.9 * 200


def test_captions_say_different_things_legibly() -> None:
    sheets = [
        contact_sheet([SheetPicture(_plain(_COLOURS[0]), caption)], tile_px=300)
        for caption in ("anger", "sadness")
    ]

    first, second = (_ink(sheet) for sheet in sheets)
    assert first.any(axis=1).sum() >= 12  # Letters of 12 pixels and more can be read.
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("channels", [(), (1,)])
def test_grey_pictures_stay_grey_beside_coloured_ones(channels: tuple[int, ...]) -> None:
    grey = np.full((30, 30, *channels), 170, np.uint8)

    sheet = contact_sheet(
        [SheetPicture(grey, "crop"), SheetPicture(_plain(_COLOURS[1]), "photo")], tile_px=100
    )

    rows, columns = _place(sheet, (170, 170, 170))
    assert (rows.stop - rows.start, columns.stop - columns.start) == (100, 100)


@settings(max_examples=20, deadline=None)
@example(sizes=[(4, 1)], tile_px=74)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=9),
    st.integers(40, 200),
)
def test_any_pictures_fit_and_none_is_distorted(sizes: list[tuple[int, int]], tile_px: int) -> None:
    pictures = [SheetPicture(_plain(_COLOURS[0], *size), "") for size in sizes[1:]]
    pictures.append(SheetPicture(_plain(_COLOURS[2], *sizes[0]), ""))

    sheet = contact_sheet(pictures, tile_px=tile_px)

    rows, columns = _place(sheet, _COLOURS[2])
    height, width = sizes[0]
    scale = tile_px / max(sizes[0])
    assert abs(rows.stop - rows.start - max(1, height * scale)) <= 1
    assert abs(columns.stop - columns.start - max(1, width * scale)) <= 1


def test_six_faces_lie_in_three_columns_and_one_alone() -> None:
    def shape(count: int) -> tuple[int, ...]:
        pictures = [SheetPicture(_plain(colour, 40, 40), "") for colour in _COLOURS[:count]]
        return contact_sheet(pictures, tile_px=100).shape

    assert shape(1)[1] < 1.5 * 100
    assert shape(6)[1] > 3 * 100 > 2 * 100 < shape(6)[0] < 3 * 100

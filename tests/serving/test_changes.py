import numpy as np
import pytest
from numpy.typing import NDArray

from facegen.serving.imaging import add_change, reduced

Pixels = NDArray[np.uint8]


def _photo(height: int, width: int, channels: int = 3) -> Pixels:
    random = np.random.default_rng(0)
    return random.integers(60, 190, (height, width, channels)).astype(np.uint8)


def _hill(side: int, channels: int = 1, *, levels: float = 50) -> NDArray[np.int16]:
    """A smooth hill that is 0 at the edges."""
    wave = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    rounded: NDArray[np.int16] = np.rint(
        levels * wave[:, None, None] * wave[:, None] * np.ones(channels)
    ).astype(np.int16)
    return rounded


def test_nothing_changes_where_the_change_is_0() -> None:
    photo = _photo(50, 70)

    edited = add_change(photo, np.zeros((16, 16, 3), np.int16), (10, 5, 50, 45))

    assert (edited == photo).all()
    assert edited is not photo


@pytest.mark.parametrize("side_px", [200, 64, 33])
def test_change_is_scaled_to_its_square(side_px: int) -> None:
    photo = np.full((260, 240, 3), 100, np.uint8)
    left, top = 17, 31

    edited = add_change(photo, _hill(64, 3), (left, top, left + side_px, top + side_px))

    change = edited.astype(int) - 100
    wanted = _hill(side_px)
    inside = change[top : top + side_px, left : left + side_px]
    # The hill fades at the edges of its own, so that the border takes little of it.
    middle = slice(side_px // 8, -side_px // 8)
    assert np.abs(inside - wanted)[middle, middle].max() <= 1
    change[top : top + side_px, left : left + side_px] = 0
    assert not change.any()


def test_large_squares_show_no_steps() -> None:
    photo = np.full((900, 900, 1), 100, np.uint8)

    edited = add_change(photo, _hill(32, levels=60), (0, 0, 900, 900)).astype(int)[450, :, 0]

    assert np.abs(np.diff(edited)).max() <= 1


def test_change_fades_at_the_edges_inside_of_the_photo_alone() -> None:
    photo = np.full((60, 60, 1), 100, np.uint8)

    edited = add_change(photo, np.full((8, 8, 1), 40, np.int16), (0, 12, 48, 60)).astype(int)

    row, column = edited[40, :, 0] - 100, edited[:, 20, 0] - 100
    assert (row[:40] == 40).all()
    assert (np.diff(row[40:]) <= 0).all()
    assert row[47] < 4
    assert (column[:12] == 0).all()
    assert column[12] < 4
    assert (column[20:] == 40).all()


def test_result_stops_at_black_and_white() -> None:
    photo = _photo(32, 32)

    assert (add_change(photo, np.full((8, 8, 3), 300, np.int16), (0, 0, 32, 32)) == 255).all()
    assert (add_change(photo, np.full((8, 8, 3), -300, np.int16), (0, 0, 32, 32)) == 0).all()


def test_grey_photo_gets_the_luminance_and_stays_grey() -> None:
    photo = np.full((32, 32, 1), 100, np.uint8)
    change = np.zeros((8, 8, 3), np.int16) + np.array([100, 0, -100], np.int16)

    assert (add_change(photo, change, (0, 0, 32, 32)) == round(100 + 29.9 - 11.4)).all()


def test_grey_change_is_that_of_all_colours() -> None:
    photo = _photo(32, 32)

    edited = add_change(photo, np.full((8, 8, 1), 7, np.int16), (0, 0, 32, 32))

    assert (edited == photo + 7).all()


def test_square_between_pixels_keeps_its_place() -> None:
    photo = np.full((40, 40, 1), 100, np.uint8)

    whole = add_change(photo, _hill(16), (4, 4, 36, 36)).astype(int)
    shifted = add_change(photo, _hill(16), (4.5, 4, 36.5, 36)).astype(int)

    between = (whole[:, 9:31] + whole[:, 8:30]) / 2
    assert np.abs(shifted[:, 9:31] - between).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_photo_is_reduced_with_its_square(channels: int) -> None:
    photo = np.repeat(np.repeat(_photo(50, 100, channels), 8, axis=0), 8, axis=1)

    small, square = reduced(photo, (80, 0, 480, 400), most_px=100)

    assert (small == _photo(50, 100, channels)).all()
    assert square == (10, 0, 60, 50)


def test_small_photo_is_not_reduced() -> None:
    photo = _photo(40, 100)

    assert reduced(photo, (1, 2, 3, 4), most_px=100) == (photo, (1, 2, 3, 4))

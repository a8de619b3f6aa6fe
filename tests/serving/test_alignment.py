import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facegen.serving.imaging import align, central_square, grey, similarity, square_of_points
from facegen.serving.imaging.alignment import square_at, to_square
from facegen.training.data import alignment as training

_TEMPLATE = training.TEMPLATE
_SETTINGS = settings(max_examples=50, deadline=None)


def _noise(height: int, width: int, *channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, *channels)).astype(np.uint8)


@st.composite
def _squares(draw: st.DrawFn) -> NDArray[np.float64]:
    center = draw(st.floats(-500, 1500)), draw(st.floats(-500, 1500))
    side_px = draw(st.floats(1, 2000))
    return square_at(center, side_px, rotation_degrees=draw(st.floats(-180, 180)))


@st.composite
def _points(draw: st.DrawFn) -> NDArray[np.float64]:
    """A face's points that no similarity fits exactly."""
    off = draw(st.lists(st.floats(-0.05, 0.05), min_size=10, max_size=10))
    return _mapped(draw(_squares()), _TEMPLATE + np.reshape(off, (5, 2)))


def _mapped(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points @ matrix[:, :2].T + matrix[:, 2]


@_SETTINGS
@given(_points())
def test_similarity_is_that_of_training_bit_for_bit(points: NDArray[np.float64]) -> None:
    for exact in (points, points.astype(np.float32)):
        ours = similarity(exact, _TEMPLATE)

        assert ours.tobytes() == training.square_to_picture(exact).tobytes()


@_SETTINGS
@given(_squares(), st.sampled_from([(1, 1), (7, 300), (90, 60, 1), (120, 200, 3)]))
def test_cut_squares_are_those_of_training_bit_for_bit(
    square: NDArray[np.float64], shape: tuple[int, ...]
) -> None:
    picture = _noise(*shape)

    for size_px in (48, 64):
        ours = align(picture, square, size_px=size_px)

        np.testing.assert_array_equal(ours, training.align(picture, square, size_px=size_px))


@_SETTINGS
@given(_squares())
def test_points_of_a_square_give_that_square(square: NDArray[np.float64]) -> None:
    found = similarity(_mapped(square, _TEMPLATE), _TEMPLATE)

    np.testing.assert_allclose(found, square, atol=1e-6)


@_SETTINGS
@given(_points(), _squares())
def test_moved_points_move_the_square_with_them(
    points: NDArray[np.float64], move: NDArray[np.float64]
) -> None:
    before = np.vstack([similarity(points, _TEMPLATE), (0, 0, 1)])

    after = similarity(_mapped(move, points), _TEMPLATE)

    np.testing.assert_allclose(after, move @ before, rtol=1e-6, atol=1e-3)


@_SETTINGS
@given(_squares())
def test_a_square_and_its_inverse_undo_each_other(square: NDArray[np.float64]) -> None:
    inverse = to_square(square)

    np.testing.assert_allclose(_mapped(inverse, _mapped(square, _TEMPLATE)), _TEMPLATE, atol=1e-6)


@_SETTINGS
@given(_squares())
def test_the_second_square_has_the_faces_middle_and_turn_and_more_room(
    square: NDArray[np.float64],
) -> None:
    second = square_of_points(_mapped(square, _TEMPLATE), _TEMPLATE)

    np.testing.assert_allclose(second @ (0.5, 0.5, 1), square @ (0.5, 0.5, 1), atol=1e-6)
    np.testing.assert_allclose(second[:, :2], 1.4 * square[:, :2], atol=1e-6)


@pytest.mark.parametrize(
    ("width_px", "height_px", "corner"), [(100, 60, (20, 0)), (60, 100, (0, 20)), (7, 4, (1.5, 0))]
)
def test_the_central_square_touches_the_nearer_edges(
    width_px: int, height_px: int, corner: tuple[float, float]
) -> None:
    square = central_square(width_px, height_px)

    side_px = min(width_px, height_px)
    np.testing.assert_allclose(square @ (0, 0, 1), corner)
    np.testing.assert_allclose(square @ (1, 1, 1), np.add(corner, side_px))


def test_a_square_on_whole_pixels_is_cut_out_as_it_is() -> None:
    picture = _noise(100, 120, 3)

    cut = align(picture, square_at((40 + 24, 30 + 24), 48), size_px=48)

    np.testing.assert_array_equal(cut, picture[30:78, 40:88])


def test_grey_weighs_colours_as_eyes_do() -> None:
    picture = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77]]], np.uint8)

    assert grey(picture).tolist() == [[76, 150, 29, 77]]
    assert grey(picture[..., :1]).tolist() == [[255, 0, 0, 77]]
    assert grey(picture[..., 0]).tolist() == [[255, 0, 0, 77]]

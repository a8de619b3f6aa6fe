"""The square around a face that the detector finds."""

from hypothesis import given
from hypothesis import strategies as st

from facegen.serving.imaging import DetectedFace, FaceCrop
from facegen.serving.imaging.cropping import square_around_face


def face(left: float, top: float, side: float) -> DetectedFace:
    return DetectedFace(left, top, left + side, top + side, score=1.0)


def test_box_lies_in_the_square_where_the_family_has_it() -> None:
    square = square_around_face(FaceCrop(0.5, 0.65, 0.5), face(100, 130, 60), (400, 300))

    # 60 pixels are half a side; the box's middle (130, 160) is at (0.5, 0.65) of the square.
    assert (square.left_px, square.top_px, square.side_px) == (70, 82, 120)


def test_square_beyond_an_edge_is_moved_inside() -> None:
    square = square_around_face(FaceCrop(0.5, 0.65, 0.5), face(2, 5, 60), (400, 300))

    assert (square.left_px, square.top_px, square.side_px) == (0, 0, 120)


@given(
    st.tuples(st.integers(1, 500), st.integers(1, 500)),
    st.tuples(st.floats(-50, 550), st.floats(-50, 550), st.floats(1, 900)),
    st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.05, 2)),
)
def test_square_always_lies_inside(
    size: tuple[int, int], box: tuple[float, float, float], frame: tuple[float, float, float]
) -> None:
    square = square_around_face(FaceCrop(*frame), face(*box), size)

    assert square.side_px >= 1
    assert 0 <= square.left_px <= size[0] - square.side_px
    assert 0 <= square.top_px <= size[1] - square.side_px

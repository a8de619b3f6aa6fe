import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from facegen.serving.faces.slerp import lerp, slerp

_LATENTS = arrays(np.float32, 6, elements=st.floats(-100, 100, width=32))


def _point(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def test_quarter_circle_is_walked_evenly() -> None:
    path = slerp(_point(1, 0), _point(0, 1), count=3)

    assert path == pytest.approx(np.array([[1, 0], [2**-0.5, 2**-0.5], [0, 1]]), abs=1e-6)


def test_norm_goes_evenly_from_one_ends_to_the_others() -> None:
    path = slerp(_point(2, 0, 0), _point(0, 0, 6), count=5)

    assert np.linalg.norm(path, axis=1) == pytest.approx([2, 3, 4, 5, 6], rel=1e-6)


def test_angle_goes_evenly() -> None:
    path = slerp(_point(1, 0), _point(np.cos(3.0), np.sin(3.0)), count=4)

    assert np.arctan2(path[:, 1], path[:, 0]) == pytest.approx([0, 1, 2, 3], abs=1e-5)


@pytest.mark.parametrize("other", [0.0, 1.0, 2.5, 1 + 1e-7, -1.0, -2.5])
def test_zero_parallel_and_opposite_ends_go_straight(other: float) -> None:
    start = _point(0.3, -0.4, 1.2)

    path = slerp(start, start * np.float32(other), count=5)

    assert path == pytest.approx(lerp(start, start * np.float32(other), count=5), abs=1e-6)


def test_two_zeros_stay_zero() -> None:
    assert not slerp(_point(0, 0), _point(0, 0), count=3).any()


@given(start=_LATENTS, end=_LATENTS, count=st.integers(2, 9))
def test_ends_are_kept_bit_for_bit_and_all_is_finite(
    start: NDArray[np.float32], end: NDArray[np.float32], count: int
) -> None:
    for path in (slerp(start, end, count=count), lerp(start, end, count=count)):
        assert path.shape == (count, 6)
        assert path.dtype == np.float32
        assert (path[0] == start).all()
        assert (path[-1] == end).all()
        assert np.isfinite(path).all()

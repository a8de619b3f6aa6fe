"""Meshes are drawn where they are, lit from one side, the nearer before the farther."""

import numpy as np
import pytest
from numpy.typing import NDArray

from facegen.serving.meshes.mesh_file import MeshFile
from facegen.serving.rendering.mesh_drawing import draw_meshes

_SIDE_PX = 120
_SQUARE = [(0, 1, 2), (0, 2, 3)]


def _square(
    *, x: float = 0, y: float = 0, z: float = 0, side: float = 100
) -> list[tuple[float, float, float]]:
    """The corners of a square that looks at the viewer, counter-clockwise."""
    half = side / 2
    return [(x + i * half, y + j * half, z) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]


def _mesh(*squares: list[tuple[float, float, float]], turned: tuple[int, ...] = ()) -> MeshFile:
    """Squares in their order; those that are turned show their insides."""
    faces = [
        tuple(4 * number + corner for corner in (face[::-1] if number in turned else face))
        for number in range(len(squares))
        for face in _SQUARE
    ]
    return MeshFile.of(np.array(squares, np.float32).reshape(-1, 3), np.array(faces, np.int32))


def _levels(mesh: MeshFile) -> NDArray[np.float64]:
    (picture,) = draw_meshes([mesh], side_px=_SIDE_PX)
    assert max(picture.shape[:2]) == _SIDE_PX
    levels: NDArray[np.float64] = picture.mean(axis=-1)
    return levels


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("inside_is_near", [False, True])
def test_nearer_triangles_hide_farther_ones(order: int, inside_is_near: bool) -> None:
    near, far = _square(z=20), _square(z=-20, side=200)
    squares = [near, far][::order]
    turned = squares.index(near if inside_is_near else far)

    levels = _levels(_mesh(*squares, turned=(turned,)))

    middle, rim = levels[60, 60], levels[60, 12]
    assert (middle < 150 < rim) if inside_is_near else (rim < 150 < middle)


def test_right_is_right_and_up_is_up() -> None:
    mesh = _mesh(_square(side=10), _square(x=60, y=60, side=10))

    levels = _levels(mesh)

    rows, columns = np.nonzero(levels < 250)
    low_left, high_right = rows[columns < 60], rows[columns >= 60]
    assert low_left.min() > 60 > high_right.max()


def test_surfaces_turned_to_the_lamp_are_brighter() -> None:
    def level(x: float) -> float:
        corners = [(0, 0, 0), (50, 0, x * 50), (50, 100, x * 50), (0, 100, 0)]
        levels = _levels(_mesh([(float(a), float(b), float(c)) for a, b, c in corners]))
        return float(levels[levels < 250].mean())

    to_the_left, to_the_right = level(1), level(-1)

    assert to_the_left > to_the_right + 30


def test_holes_are_dark_and_what_is_around_a_mesh_is_paper() -> None:
    outer, inner = _square(), _square(side=40)
    ring = [
        face
        for a, b in ((0, 1), (1, 2), (2, 3), (3, 0))
        for face in ((a, b, 4 + b), (a, 4 + b, 4 + a))
    ]
    mesh = MeshFile.of(np.array([*outer, *inner], np.float32), np.array(ring, np.int32))

    levels = _levels(mesh)

    assert levels[60, 60] < 70
    assert levels[60, 25] > 150
    assert levels[0, 0] == 255


def test_meshes_are_drawn_at_one_scale() -> None:
    small, large = draw_meshes(
        [_mesh(_square(side=50)), _mesh(_square(side=100))], side_px=_SIDE_PX
    )

    areas = [(picture.mean(axis=-1) < 250).sum() for picture in (small, large)]
    assert small.shape == large.shape
    assert areas[1] / areas[0] == pytest.approx(4, rel=0.1)

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from facegen.training.mesh.simplification import simplify


def _sheet(side: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """A flat square of side x side vertices."""
    y, x = np.mgrid[:side, :side]
    vertices = np.stack([x.ravel(), y.ravel(), np.zeros(side * side)], 1).astype(np.float64)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    lower = np.stack([corner, corner + 1, corner + side + 1], 1)
    upper = np.stack([corner, corner + side + 1, corner + side], 1)
    return vertices, np.concatenate([lower, upper]).astype(np.int32)


def test_so_many_vertices_are_left_and_all_are_used() -> None:
    ball = trimesh.creation.icosphere(subdivisions=3)

    coarse = simplify(ball.vertices, ball.faces, 100)

    assert len(coarse.kept) == 100
    assert set(np.unique(coarse.faces)) == set(range(100))
    assert coarse.faces.dtype == np.int32
    assert (np.diff(coarse.kept) > 0).all()


def test_a_closed_surface_stays_closed_and_near() -> None:
    ball = trimesh.creation.icosphere(subdivisions=3)

    coarse = simplify(ball.vertices, ball.faces, 100)

    mesh = trimesh.Trimesh(ball.vertices[coarse.kept], coarse.faces, process=False)
    assert mesh.is_watertight
    assert mesh.euler_number == 2
    assert mesh.volume > 0.85 * ball.volume  # inside out it would be negative


def test_a_flat_sheet_keeps_its_outline() -> None:
    vertices, faces = _sheet(12)

    coarse = simplify(vertices, faces, 12)

    mesh = trimesh.Trimesh(vertices[coarse.kept], coarse.faces, process=False)
    assert mesh.area == pytest.approx(11 * 11)
    assert {(0, 0), (11, 0), (0, 11), (11, 11)} <= set(map(tuple, mesh.vertices[:, :2]))


def test_a_ridge_keeps_more_vertices_than_the_plain_beside_it() -> None:
    vertices, faces = _sheet(15)
    ridge = np.exp(-np.square(vertices[:, 0] - 10))
    vertices[:, 2] = 3 * ridge * np.sin(2 * vertices[:, 1])

    kept = simplify(vertices, faces, 70).kept

    near = np.abs(vertices[kept, 0] - 10) <= 2
    assert near.sum() > 1.5 * (5 / 15) * 70  # five of fifteen columns


def test_vertices_of_no_triangle_go_first() -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    vertices = np.concatenate([ball.vertices, [[9, 9, 9], [8, 8, 8]]])

    coarse = simplify(vertices, ball.faces, len(ball.vertices))

    assert list(coarse.kept) == list(range(len(ball.vertices)))
    assert len(coarse.faces) == len(ball.faces)


def test_even_a_surface_full_of_holes_gets_as_small_as_asked() -> None:
    vertices, faces = _sheet(10)
    torn = faces[np.arange(len(faces)) % 3 > 0]

    assert len(simplify(vertices, torn, 5).kept) == 5


@pytest.mark.parametrize("count", [2, 101])
def test_an_impossible_count_is_refused(count: int) -> None:
    vertices, faces = _sheet(10)

    with pytest.raises(ValueError, match=rf"cannot simplify to {count} vertices: 3 to 100"):
        simplify(vertices, faces, count)

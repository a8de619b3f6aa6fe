import sys

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from facegen.training.errors import RenderingError
from facegen.training.mesh.colours import colour_bar, error_colours
from facegen.training.mesh.holes import holes
from facegen.training.mesh.rendering import View, render

Reals = NDArray[np.float32]
Faces = NDArray[np.int32]
Picture = NDArray[np.uint8]

_BALL = trimesh.creation.icosphere(subdivisions=3, radius=50)
BALL: Reals = np.asarray(_BALL.vertices, np.float32)
BALL_FACES: Faces = np.asarray(_BALL.faces, np.int32)
WHITE = 255


def sheet(count: int, *, side_mm: float = 100, z: float = 0) -> tuple[Reals, Faces]:
    """A flat grid of count x count squares that faces the viewer."""
    steps = np.linspace(-side_mm / 2, side_mm / 2, count + 1)
    x, y = np.meshgrid(steps, steps)
    vertices = np.stack([x, y, np.full_like(x, z)], axis=-1).reshape(-1, 3).astype(np.float32)
    corner = (np.arange(count)[:, None] * (count + 1) + np.arange(count)).reshape(-1)
    up, right = count + 1, 1
    quads = np.stack([corner, corner + right, corner + up + right, corner + up], axis=1)
    return vertices, quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)


def drawn(picture: Picture) -> NDArray[np.bool_]:
    return np.asarray((picture != WHITE).any(axis=2))


def brightness(picture: Picture) -> NDArray[np.float64]:
    return np.asarray(picture.mean(axis=2))


def test_ball_is_drawn_as_a_disc_on_white() -> None:
    picture = render(BALL, BALL_FACES, height_px=100)

    assert picture.shape == (100, 100, 3)
    assert picture.dtype == np.uint8
    rows, columns = np.mgrid[:100, :100] - 49.5
    disc = np.hypot(rows, columns)
    assert drawn(picture)[disc < 45].all()
    assert not drawn(picture)[disc > 50].any()


def test_ball_is_brightest_at_its_upper_left_where_the_lamp_is() -> None:
    picture = brightness(render(BALL, BALL_FACES, height_px=100))

    assert picture[32, 36] > picture[50, 50] + 5
    assert picture[50, 50] > picture[68, 68] + 20


def test_same_mesh_gives_the_same_bytes() -> None:
    first = render(BALL, BALL_FACES, height_px=64)

    assert first.tobytes() == render(BALL, BALL_FACES, height_px=64).tobytes()


def test_right_is_right_and_up_is_up() -> None:
    view = View((0, 0, 0), half_mm=60)
    vertices = np.array([[20, 20, 0], [50, 20, 0], [20, 50, 0]], np.float32)
    faces = np.array([[0, 1, 2]], np.int32)

    rows, columns = np.nonzero(drawn(render(vertices, faces, view=view, height_px=60)))

    assert 4 <= rows.min() < rows.max() <= 20
    assert 40 <= columns.min() < columns.max() <= 56


def test_colours_of_vertices_land_on_their_pixels() -> None:
    colours = np.where(BALL[:, :1] < 0, (230, 20, 20), (20, 20, 230)).astype(np.uint8)

    picture = render(BALL, BALL_FACES, height_px=80, colours=colours).astype(int)

    red_over_blue = picture[40, :, 0] - picture[40, :, 2]
    assert (red_over_blue[8:34] > 50).all()
    assert (red_over_blue[46:72] < -50).all()


def test_camera_goes_round_to_the_right_and_up() -> None:
    side = np.where(BALL[:, :1] > 0, (230, 20, 20), (20, 20, 230)).astype(np.uint8)
    top = np.where(BALL[:, 1:2] > 0, (230, 20, 20), (20, 20, 230)).astype(np.uint8)

    from_the_right = render(
        BALL, BALL_FACES, view=View.around(BALL, yaw_degrees=80), height_px=60, colours=side
    )
    from_above = render(
        BALL, BALL_FACES, view=View.around(BALL, pitch_degrees=80), height_px=60, colours=top
    )

    for picture in (from_the_right, from_above):
        assert int(picture[30, 30, 0]) > int(picture[30, 30, 2]) + 50


def test_inside_of_an_open_mesh_is_darker() -> None:
    vertices, faces = sheet(8)

    outside = brightness(render(vertices, faces, height_px=50))
    inside = brightness(render(vertices, faces[:, ::-1], height_px=50))

    assert inside[25, 25] < 0.8 * outside[25, 25]


def test_hole_is_dark_but_the_ground_outside_stays_white() -> None:
    vertices, faces = sheet(8)
    middle = np.abs(vertices[faces].mean(axis=1)[:, :2]).max(axis=1) < 25
    view = View((0, 0, 0), half_mm=60)

    picture = brightness(render(vertices, faces[~middle], view=view, height_px=60))

    assert picture[30, 30] < 0.8 * picture[30, 10]
    assert picture[30, 2] == WHITE
    (loop,) = holes(vertices, faces[~middle])
    assert np.abs(vertices[loop]).max() == 25
    assert len(loop) == 16


def test_closed_and_whole_meshes_have_no_holes() -> None:
    assert holes(BALL, BALL_FACES) == ()
    assert holes(*sheet(4)) == ()


def test_surface_in_the_shade_of_another_is_darker() -> None:
    vertices, faces = sheet(20)
    roof, roof_faces = sheet(1, side_mm=40, z=30)
    both = np.concatenate([vertices, roof])
    view = View.around(vertices)

    free = brightness(render(vertices, faces, view=view, height_px=60))
    shaded = brightness(
        render(both, np.concatenate([faces, roof_faces + len(vertices)]), view=view, height_px=60)
    )

    # The lamp is at the upper left, so the shadow falls to the lower right.
    assert shaded[48, 46] < 0.85 * free[48, 46]
    assert shaded[5, 5] > 0.9 * free[5, 5]


def test_one_view_keeps_the_scale_of_a_series() -> None:
    view = View.around(BALL)

    large = render(BALL, BALL_FACES, view=view, height_px=60)
    small = render(0.5 * BALL, BALL_FACES, view=view, height_px=60)

    assert 0.2 < drawn(small).sum() / drawn(large).sum() < 0.3


def test_view_fits_width_and_height_of_all_its_meshes() -> None:
    tall = BALL * np.array([1, 2, 1], np.float32)
    wide = BALL * np.array([3, 1, 1], np.float32)

    view = View.around(np.stack([tall, wide]))

    assert view.aspect == pytest.approx(1.5)
    assert view.width_px(100) == 150
    for mesh in (tall, wide):
        rows, columns = np.nonzero(drawn(render(mesh, BALL_FACES, view=view, height_px=60)))
        assert 0 < rows.min() <= rows.max() < 59
        assert 0 < columns.min() <= columns.max() < 89


def test_machine_without_the_ray_caster_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embreex.mesh_construction", None)

    with pytest.raises(RenderingError, match="pictures of meshes need embreex"):
        render(BALL, BALL_FACES, height_px=10)


def test_larger_errors_are_darker_up_to_the_limit() -> None:
    colours = error_colours(np.linspace(0, 2, 41), 2).astype(float)
    luminance = colours @ (0.2126, 0.7152, 0.0722)

    assert (np.diff(luminance) < 0).all()
    np.testing.assert_array_equal(error_colours(np.array([3.0]), 2), colours[-1:])


def test_colour_bar_has_the_limit_at_its_top() -> None:
    bar = colour_bar(height_px=50, width_px=7)

    assert bar.shape == (50, 7, 3)
    np.testing.assert_array_equal(bar[0, 0], error_colours(np.array(1.0), 1))
    np.testing.assert_array_equal(bar[-1, 6], error_colours(np.array(0.0), 1))

import io

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from PIL import Image

from facegen.training.mesh.colours import error_colours
from facegen.training.mesh.pictures import (
    comparison_sheet,
    error_limit_mm,
    sample_sheet,
    swing,
    traversal_gif,
    traversal_sheet,
)
from facegen.training.mesh.rendering import View, render
from facegen.training.mesh.sheets import lay_out, png

_BALL = trimesh.creation.icosphere(subdivisions=2, radius=50)
BALL: NDArray[np.float32] = np.asarray(_BALL.vertices, np.float32)
FACES: NDArray[np.int32] = np.asarray(_BALL.faces, np.int32)
VIEW = View((0, 0, 0), half_mm=70)


def walk(count: int) -> NDArray[np.float32]:
    """Two axes in some steps: one swells, the other stays."""
    steps = swing(count, 0.3)
    return np.stack([np.stack([BALL * (1 + it), BALL]) for it in steps]).astype(np.float32)


def test_comparison_shows_input_output_and_where_the_error_is() -> None:
    outputs = np.where(BALL[:, :1] > 0, BALL * 1.04, BALL)[None]

    sheet = comparison_sheet(BALL[None], outputs, FACES, view=VIEW, limit_mm=2, height_px=80)

    picture = render(BALL, FACES, view=VIEW, height_px=80)
    top = int(np.nonzero((sheet[:, :80] == picture[40]).all(axis=(1, 2)))[0][0]) - 40
    np.testing.assert_array_equal(sheet[top : top + 80, :80], picture)
    errors = sheet[top : top + 80, 2 * 84 : 2 * 84 + 80].astype(int)
    assert errors[40, 20:35].mean() > errors[40, 45:60].mean() + 50  # darker where it errs
    assert (sheet == error_colours(np.array(2.0), 2)).all(axis=2).any()  # the scale's end


def test_comparisons_stand_side_by_side_in_columns() -> None:
    meshes = np.stack([BALL] * 3)

    sheet = comparison_sheet(
        meshes, meshes * 1.01, FACES, view=VIEW, columns=2, titles="abc", height_px=60
    )

    assert sheet.shape[0] < 2 * 100
    assert sheet.shape[1] > 6 * 60
    blank = sheet[110:150, 3 * 64 : 6 * 64 - 4]  # after the third, where a fourth would be
    assert (blank == 255).all()


@pytest.mark.parametrize(("error", "limit"), [(0.7, 1), (1.0, 1), (1.3, 2), (0.03, 0.05), (6, 10)])
def test_scale_of_errors_ends_at_a_round_number(error: float, limit: float) -> None:
    errors = np.full(1000, error)
    errors[:5] = 100  # a few that are far off

    assert error_limit_mm(errors) == pytest.approx(limit)


def test_perfect_output_has_a_scale_too() -> None:
    assert error_limit_mm(np.zeros(5)) > 0


def test_samples_fill_a_grid_row_by_row() -> None:
    meshes = np.stack([BALL * it for it in (1, 0.5, 0.75)]).astype(np.float32)

    sheet = sample_sheet(meshes, FACES, view=VIEW, columns=2, height_px=50)

    assert sheet.shape == (104, 104, 3)
    np.testing.assert_array_equal(
        sheet[54:, :50], render(meshes[2], FACES, view=VIEW, height_px=50)
    )
    assert (sheet[54:, 54:] == 255).all()


def test_walk_along_an_axis_is_a_row_with_its_name() -> None:
    meshes = walk(3).swapaxes(0, 1)

    plain = traversal_sheet(meshes, FACES, view=VIEW, height_px=50)
    named = traversal_sheet(
        meshes, FACES, view=VIEW, rows=["first", "second"], columns=["−σ", "0", "σ"], height_px=50
    )

    assert plain.shape == (104, 158, 3)
    np.testing.assert_array_equal(named[-104:, -158:], plain)
    assert (named[:-104] < 100).any()
    assert (named[:, :-158] < 100).any()


def test_gif_goes_there_and_back_for_ever_at_the_promised_size() -> None:
    content = traversal_gif(walk(5), FACES, view=VIEW, height_px=50, frame_ms=70)

    with Image.open(io.BytesIO(content)) as gif:
        assert gif.format == "GIF"
        assert getattr(gif, "n_frames") == 8  # noqa: B009 mypy knows it of GIF files alone
        assert gif.size == (104, 50)
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == 70
        frames = []
        for index in range(8):
            gif.seek(index)
            frames.append(np.asarray(gif.convert("RGB")))
    sizes = [int((it[:, :50] != 255).any(axis=2).sum()) for it in frames[:5]]
    assert sizes == sorted(sizes)
    assert 0 < sizes[0] < 0.5 * sizes[4]
    np.testing.assert_array_equal(frames[3], frames[5])
    for frame in frames[1:]:  # what stands still does not flicker
        np.testing.assert_array_equal(frame[:, 54:], frames[0][:, 54:])
    assert len(content) < 8 * 104 * 50


def test_gif_wraps_axes_into_rows_with_captions() -> None:
    content = traversal_gif(
        walk(2), FACES, view=VIEW, height_px=50, columns=1, captions=["swells", "stays"]
    )

    with Image.open(io.BytesIO(content)) as gif:
        assert gif.size[0] == 50
        assert gif.size[1] > 2 * 60


def test_swing_is_slower_at_its_ends() -> None:
    steps = swing(7, 2)

    np.testing.assert_allclose(steps[[0, 3, 6]], [-2, 0, 2], atol=1e-9)
    assert np.diff(steps)[0] < 0.3 * np.diff(steps)[3]


def test_words_stand_above_beside_and_below_their_pictures() -> None:
    grey = np.full((40, 60, 3), 128, np.uint8)

    sheet = lay_out([[grey, grey]], above=["left", "right"], beside=["σ"], below=[["a", ""]])

    top, left = (int(it.min()) for it in np.nonzero((sheet == 128).all(axis=2)))
    ink = np.asarray((sheet < 110).any(axis=2))
    assert ink[:top, left : left + 60].any()
    assert ink[top : top + 40, :left].any()
    assert ink[top + 40 :, left : left + 60].any()
    assert not ink[top + 40 :, left + 64 :].any()


def test_png_reads_back_as_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)

    with Image.open(io.BytesIO(png(picture))) as read:
        assert read.format == "PNG"
        np.testing.assert_array_equal(np.asarray(read), picture)

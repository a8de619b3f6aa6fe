from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from facegen.serving.imaging import FaceEdit, composite, grey
from facegen.serving.imaging.alignment import square_at, to_square
from facegen.training.expression.model import Edit, apply_edit

_STRENGTHS = st.floats(0, 1.5)
_SETTINGS = settings(max_examples=50, deadline=None)


def _smooth_noise(height: int, width: int, *channels: int, seed: int = 0) -> NDArray[np.uint8]:
    """Waves of any direction and phase, about as sharp as a face of 48 pixels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 48
    waves = np.zeros((height, width, *channels))
    for _ in range(12):
        u, v = random.normal(0, 20, 2)
        phase = random.uniform(0, 2 * np.pi, channels or (1,))
        wave = np.cos((u * x + v * y)[..., None] + phase)
        waves += wave if channels else wave[..., 0]
    return np.clip(128 + 25 * waves, 0, 255).astype(np.uint8)


def _edit(seed: int = 0) -> FaceEdit:
    random = np.random.default_rng(seed)
    return FaceEdit(
        content=_smooth_noise(48, 48, seed=seed + 1),
        mask=random.random((24, 24), np.float32),
        flow=random.uniform(-0.05, 0.05, (24, 24, 2)).astype(np.float32),
    )


def _zeros() -> FaceEdit:
    return FaceEdit(
        content=np.full((48, 48), 255, np.uint8),
        mask=np.zeros((24, 24), np.float32),
        flow=np.zeros((24, 24, 2), np.float32),
    )


@st.composite
def _photos(draw: st.DrawFn) -> NDArray[np.uint8]:
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    channels = draw(st.sampled_from([(), (1,), (3,)]))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    return random.integers(0, 256, (height, width, *channels)).astype(np.uint8)


@st.composite
def _squares(draw: st.DrawFn, *, most_px: float = 150) -> NDArray[np.float64]:
    center = draw(st.floats(-20, 110)), draw(st.floats(-20, 110))
    side_px = draw(st.floats(2, most_px))
    return square_at(center, side_px, rotation_degrees=draw(st.floats(-180, 180)))


@st.composite
def _edits(draw: st.DrawFn) -> FaceEdit:
    cells = st.floats(0, 1, width=32)
    mask = draw(arrays(np.float32, (24, 24), elements=cells))
    flow = draw(arrays(np.float32, (24, 24, 2), elements=st.floats(-0.0625, 0.0625, width=32)))
    return FaceEdit(_edit(draw(st.integers(0, 9))).content, mask, flow)


@_SETTINGS
@given(_photos(), _squares(), _edits())
def test_strength_zero_gives_the_photo_back(
    photo: NDArray[np.uint8], square: NDArray[np.float64], edit: FaceEdit
) -> None:
    result = composite(photo, square, edit, 0)

    np.testing.assert_array_equal(result, photo)
    assert not np.shares_memory(result, photo)


@_SETTINGS
@given(_photos(), _squares(), _STRENGTHS)
def test_an_edit_of_nothing_gives_the_photo_back(
    photo: NDArray[np.uint8], square: NDArray[np.float64], strength: float
) -> None:
    np.testing.assert_array_equal(composite(photo, square, _zeros(), strength), photo)


@_SETTINGS
@given(_photos(), _squares(), _edits(), _STRENGTHS)
def test_pixels_outside_of_the_square_stay_as_they_are(
    photo: NDArray[np.uint8], square: NDArray[np.float64], edit: FaceEdit, strength: float
) -> None:
    before = photo.copy()

    result = composite(photo, square, edit, strength)

    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]] + 0.5
    u, v = np.einsum("ij,jhw->ihw", to_square(square), np.stack([x, y, np.ones_like(x)]))
    outside = (u < 0) | (u > 1) | (v < 0) | (v > 1)
    assert result.shape == photo.shape
    np.testing.assert_array_equal(result[outside], photo[outside])
    np.testing.assert_array_equal(photo, before)


@_SETTINGS
@given(_photos(), _squares(), _edits(), _STRENGTHS)
def test_pixels_that_mask_and_flow_leave_alone_stay_as_they_are(
    photo: NDArray[np.uint8], square: NDArray[np.float64], edit: FaceEdit, strength: float
) -> None:
    mask, flow = edit.mask.copy(), edit.flow.copy()
    mask[:, 8:] = 0
    flow[:, 8:] = 0

    result = composite(photo, square, replace(edit, mask=mask, flow=flow), strength)

    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]] + 0.5
    u = np.einsum("j,jhw->hw", to_square(square)[0], np.stack([x, y, np.ones_like(x)]))
    # A spline's cell reaches two cells past its own middle, 7.5 / 24; the raster one node further.
    alone = u > 9.5 / 24 + 1 / 96
    np.testing.assert_array_equal(result[alone], photo[alone])


@_SETTINGS
@given(st.integers(0, 99), st.floats(0, 1.5))
def test_an_aligned_face_is_edited_as_in_training(seed: int, strength: float) -> None:
    face, edit = _smooth_noise(48, 48, seed=seed), _edit(seed)

    ours = composite(face, square_at((24, 24), 48), edit, strength)

    theirs = _as_in_training(face, edit.content, edit, strength)
    assert np.abs(ours - theirs)[2:-2, 2:-2].max() <= 2


@pytest.mark.parametrize("side_px", [200, 700])
def test_a_large_face_is_edited_by_the_same_functions(side_px: int) -> None:
    face = _smooth_noise(48, 48, seed=3).repeat(side_px // 48 + 1, 0).repeat(side_px // 48 + 1, 1)
    face = np.ascontiguousarray(face[:side_px, :side_px])
    edit = replace(_edit(3), content=np.full((48, 48), 180, np.uint8))

    ours = composite(face, square_at((side_px / 2, side_px / 2), side_px), edit)

    theirs = _as_in_training(face, np.full_like(face, 180), edit, 1)
    off = np.abs(ours - theirs)[2:-2, 2:-2]
    assert off.mean() < 0.5
    # The photo's hard edges are where a hundredth of a pixel shows.
    assert np.quantile(off, 0.99) <= 2


def _as_in_training(
    face: NDArray[np.uint8], content: NDArray[np.uint8], edit: FaceEdit, strength: float
) -> NDArray[np.float64]:
    def batch(picture: NDArray[np.uint8]) -> torch.Tensor:
        return torch.tensor(picture)[None, None] / 255

    flow = torch.tensor(edit.flow.transpose(2, 0, 1))[None]
    drawn = Edit(batch(content), torch.tensor(edit.mask)[None, None], flow)
    edited = apply_edit(batch(face), drawn, strength)[0, 0].clamp(0, 1).double()
    return edited.numpy() * 255


@pytest.mark.parametrize("rotation_degrees", [0, 25])
@pytest.mark.parametrize("side_px", [24, 100, 333])
def test_a_face_partly_outside_is_edited_as_if_the_photo_went_on(
    side_px: int, rotation_degrees: float
) -> None:
    whole = _smooth_noise(400, 400)[..., None].repeat(3, 2)
    edit = replace(_edit(), flow=np.zeros((24, 24, 2), np.float32))
    square = square_at((180.3, 190.6), side_px, rotation_degrees=rotation_degrees)

    cut = composite(whole[180:, 185:], square - [[0, 0, 185], [0, 0, 180]], edit)

    expected = composite(whole, square, edit)[180:, 185:]
    assert np.abs(cut.astype(int) - expected).max() <= 1


def test_a_square_beside_the_photo_changes_nothing() -> None:
    photo = _smooth_noise(50, 60, 3)

    result = composite(photo, square_at((500, -300), 80), _edit())

    np.testing.assert_array_equal(result, photo)


def test_colours_keep_their_distances_where_content_is_darker() -> None:
    photo = np.full((100, 100, 3), (150, 110, 90), np.uint8)
    edit = replace(_edit(), content=np.full((48, 48), 100, np.uint8))

    result = composite(photo, square_at((50, 50), 80), edit).astype(int)

    np.testing.assert_array_equal(result[..., 0] - result[..., 1], np.full((100, 100), 40))
    np.testing.assert_array_equal(result[..., 1] - result[..., 2], np.full((100, 100), 20))
    assert grey(result.astype(np.uint8))[50, 50] < grey(photo)[50, 50]


def test_teeth_have_the_colour_of_the_light_whatever_they_are_painted_on() -> None:
    edit = FaceEdit(
        content=np.full((48, 48), 180, np.uint8),
        mask=np.pad(np.ones((8, 8), np.float32), 8),
        flow=np.zeros((24, 24, 2), np.float32),
    )

    def teeth(lips: tuple[int, int, int]) -> NDArray[np.int_]:
        photo = np.full((100, 100, 3), (150, 110, 90), np.uint8)
        photo[46:54, 46:54] = lips
        seen: NDArray[np.int_] = composite(photo, square_at((50, 50), 80), edit)[50, 50].astype(int)
        return seen

    red, green, blue = teeth((110, 40, 40))
    assert red > green > blue
    assert red / blue < 150 / 90  # skin has a colour of its own besides
    assert np.abs(teeth((30, 50, 90)) - (red, green, blue)).max() <= 4


@pytest.mark.parametrize("side_px", [24, 31, 48, 100, 400, 1500])
def test_content_shows_smoothly_and_in_its_place_at_any_size(side_px: int) -> None:
    ramp = np.linspace(40, 210, 48)
    content = np.rint(np.tile(ramp, (48, 1))).astype(np.uint8)
    edit = FaceEdit(content, np.ones((24, 24), np.float32), np.zeros((24, 24, 2), np.float32))
    photo = np.full((side_px, side_px), 125, np.uint8)

    result = composite(photo, square_at((side_px / 2, side_px / 2), side_px), edit).astype(float)

    places = (np.arange(side_px) + 0.5) / side_px * 48 - 0.5
    inside = slice(side_px // 6, -(side_px // 6))
    off = np.abs(result - (40 + 170 / 47 * places))[inside, inside]
    assert off.max() <= 1.5
    steps = np.abs(np.diff(result[inside, inside], axis=1))
    assert steps.max() <= 170 / side_px + 2  # Blocks would be steps of 170 / 48.


def test_edits_of_full_strength_never_leave_what_pixels_can_hold() -> None:
    photo = np.full((90, 90, 3), (255, 0, 128), np.uint8)
    edit = replace(_edit(), content=np.full((48, 48), 255, np.uint8))

    result = composite(photo, square_at((45, 45), 90), edit, 1.5)

    assert result[45, 45, 0] == 255
    assert 0 < result[45, 45, 1] < 255

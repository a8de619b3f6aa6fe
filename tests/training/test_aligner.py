"""The aligner on drawn faces: squares, examples, training, errors."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facegen.training.data.alignment import TEMPLATE, square_to_picture
from facegen.training.expression.aligner import (
    SQUARE_PX,
    Aligner,
    AlignerConfig,
    box_square,
    corner_errors,
    find_points,
    point_errors,
    points_square,
)
from facegen.training.expression.aligner_training import (
    WIDE_PX,
    AlignerEpoch,
    AlignerRecipe,
    draw_example,
    train_aligner,
    wide_square,
    wide_squares,
)

_SMALL = AlignerConfig(widths=(8, 12, 16, 24))
_SHADES = (40, 200, 40, 200, 250)
"""Of the points that `_draw_face` draws: outer corners dark, inner ones and the nose bright."""


def _face(index: int) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """A picture of 160 x 120 with a drawn face somewhere, its box and its points in pixels."""
    random = np.random.default_rng(index)
    k = random.uniform(35, 55) * np.exp(1j * random.uniform(-0.2, 0.2))
    centre = complex(random.uniform(60, 100), random.uniform(45, 75))
    places = centre + k * (TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1] - (0.5 + 0.5j))
    points = np.stack([places.real, places.imag], 1)
    half = 0.42 * abs(k)
    box = np.array([centre.real - half, centre.imag - half, centre.real + half, centre.imag + half])
    return _draw_face(points, (120, 160), radius_px=0.045 * abs(k)), box, points


def _draw_face(
    points: NDArray[np.floating], shape: tuple[int, int], *, radius_px: float
) -> NDArray[np.uint8]:
    down, right = np.mgrid[: shape[0], : shape[1]] + 0.5
    picture = np.full(shape, 120.0)
    for (x, y), shade in zip(points, _SHADES, strict=True):
        near = np.exp(-((right - x) ** 2 + (down - y) ** 2) / (2 * radius_px**2))
        picture += (shade - 120) * near
    return np.asarray(np.rint(picture), dtype=np.uint8)


def _shade_at(picture: NDArray[np.uint8], point: Sequence[float]) -> float:
    x, y = (np.array([[value * SQUARE_PX - 0.5]], np.float32) for value in point)
    return float(cv2.remap(picture, x, y, cv2.INTER_LINEAR)[0, 0])


@pytest.fixture(scope="module")
def wide() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    return wide_squares(*zip(*(_face(index) for index in range(192)), strict=True))


@pytest.fixture(scope="module")
def trained(wide: tuple[NDArray[np.uint8], NDArray[np.float32]]) -> Aligner:
    recipe = AlignerRecipe(
        epochs=16, batch_size=24, learning_rate=8e-3, average_decay=0.95, turn_degrees=(15, 8)
    )
    return train_aligner(*wide, seed=1, config=_SMALL, recipe=recipe)


def test_a_fresh_aligner_gives_five_points_inside_the_square_and_is_small() -> None:
    aligner = Aligner(AlignerConfig()).eval()

    points = aligner(torch.rand(3, 1, SQUARE_PX, SQUARE_PX))

    assert points.shape == (3, 5, 2)
    assert ((points > 0) & (points < 1)).all()
    assert sum(4 * value.numel() for value in aligner.state_dict().values()) < 1.5e6


def test_the_first_square_is_upright_around_the_box_with_a_margin() -> None:
    matrix = box_square((10, 20, 50, 64))

    corners = matrix @ np.array([[0, 1], [0, 1], [1, 1]])
    side = 1.4 * 42
    np.testing.assert_allclose(corners.mean(1), (30, 42))
    np.testing.assert_allclose(corners[:, 1] - corners[:, 0], (side, side))


def test_the_second_square_holds_the_template_with_a_margin_whatever_its_turn() -> None:
    turn = 30 * np.exp(0.4j)
    places = (5 + 8j) + turn * (TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1])
    points = np.stack([places.real, places.imag], 1)

    matrix = points_square(points)

    inside = (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    np.testing.assert_allclose(inside, 0.5 + (TEMPLATE - 0.5) / 1.4)


def test_a_wide_square_shows_the_face_where_its_points_say() -> None:
    picture, box, points = _face(3)

    square, inside = wide_square(picture, box, points)

    radius_px = 0.045 * np.hypot(*square_to_picture(inside)[:, 0]) * WIDE_PX
    expected = _draw_face(inside * WIDE_PX, (WIDE_PX, WIDE_PX), radius_px=radius_px)
    assert np.abs(square.astype(float) - expected).max() < 12


def test_examples_keep_the_points_on_the_face_turned_and_mirrored(
    wide: tuple[NDArray[np.uint8], NDArray[np.float32]],
) -> None:
    squares, points = wide
    random = np.random.default_rng(0)
    recipe = AlignerRecipe()

    examples = [draw_example(squares[i], points[i], random, recipe) for i in range(len(squares))]

    correct = 0
    for picture, inside in examples:
        assert picture.shape == (SQUARE_PX, SQUARE_PX)
        assert inside[0, 0] > inside[1, 0] > inside[3, 0] > inside[2, 0]
        background = float(np.median(picture))
        shades = [_shade_at(picture, point) for point in inside]
        correct += all((s > background) == (w > 120) for s, w in zip(shades, _SHADES, strict=True))
    assert correct > 0.9 * len(examples)  # noise and blur hide a few
    turns = [np.arctan2(p[0, 1] - p[2, 1], p[0, 0] - p[2, 0]) for _, p in examples]
    assert min(turns) < -0.3
    assert max(turns) > 0.3


def test_training_finds_the_points_of_faces_not_seen(trained: Aligner) -> None:
    pictures, boxes, points = zip(*(_face(index) for index in range(1000, 1040)), strict=True)
    squares = [box_square(box) for box in boxes]

    fresh, found = (
        point_errors(find_points(aligner, pictures, squares), np.stack(points)).mean()
        for aligner in (Aligner(_SMALL).eval(), trained)
    )

    assert found < 0.12
    assert found < 0.3 * fresh


def test_the_second_look_is_at_the_square_that_the_first_found(trained: Aligner) -> None:
    pictures, boxes, _ = zip(*(_face(index) for index in range(3)), strict=True)
    squares = [box_square(box) for box in boxes]

    twice = find_points(trained, pictures, squares)

    once = find_points(trained, pictures, squares, passes=1)
    again = find_points(trained, pictures, [points_square(p) for p in once], passes=1)
    np.testing.assert_array_equal(twice, again)
    assert np.abs(twice - once).max() > 0.01


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_numbers_alone(
    wide: tuple[NDArray[np.uint8], NDArray[np.float32]],
) -> None:
    squares, points = wide[0][:48], wide[1][:48]
    recipe = AlignerRecipe(epochs=2, batch_size=16)
    state = torch.get_rng_state()

    first, again, other = (
        train_aligner(squares, points, seed=seed, config=_SMALL, recipe=recipe).state_dict()
        for seed in (5, 5, 6)
    )

    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["votes.weight"], other["votes.weight"])


def test_every_epoch_is_told_with_its_loss(
    wide: tuple[NDArray[np.uint8], NDArray[np.float32]],
) -> None:
    told: list[AlignerEpoch] = []
    recipe = AlignerRecipe(epochs=3, batch_size=16)

    last = train_aligner(
        wide[0][:32], wide[1][:32], seed=0, config=_SMALL, recipe=recipe, on_epoch=told.append
    )

    assert [epoch.epoch for epoch in told] == [0, 1, 2]
    assert all(0 < epoch.loss < 1 for epoch in told)
    assert told[-1].aligner is last
    assert not last.training


def test_errors_are_measured_by_the_eyes_distance_and_the_squares_side() -> None:
    points = 100 * TEMPLATE[None]

    moved = points + np.array([3, 4])

    between_eyes = 100 * (0.7476 - 0.2524)
    assert point_errors(points, points) == pytest.approx([0])
    assert point_errors(moved, points) == pytest.approx([5 / between_eyes])
    assert corner_errors(points, points) == pytest.approx([0])
    assert corner_errors(moved, points) == pytest.approx([0.05])

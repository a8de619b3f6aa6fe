"""Shapes of faces: mirrored, cut out with their pictures, and moved between expressions."""

import numpy as np
import torch
from numpy.typing import NDArray

from facegen.training.expression.alignment import TEMPLATE, square_to_picture
from facegen.training.expression.shapes import (
    MIRRORED,
    SHAPE_POINTS,
    ShapeTransport,
    mirror_shapes,
    shape_in_square,
)


def _expressions(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Shapes (2 · count, 68, 2): faces of any width, the second half with wider lower lips."""
    base = random.uniform(0.3, 0.7, (1, SHAPE_POINTS, 2))
    base = (base + base[:, MIRRORED] * (-1, 1) + (1, 0)) / 2
    widths = random.normal(1, 0.1, (2 * count, 1, 1))
    shapes: NDArray[np.float64] = 0.5 + (base - 0.5) * np.concatenate(
        [widths, np.ones_like(widths)], 2
    )
    shapes[count:, 55:60, 1] += 0.05 + random.normal(0, 0.005, (count, 1))
    shapes[:count, 55:60, 1] += random.normal(0, 0.02, (count, 1))
    return shapes


def test_mirroring_twice_changes_nothing() -> None:
    shapes = torch.rand(3, SHAPE_POINTS, 2)

    assert sorted(MIRRORED) == list(range(SHAPE_POINTS))
    assert torch.allclose(mirror_shapes(mirror_shapes(shapes)), shapes, atol=1e-6)


def test_template_points_of_a_picture_are_the_template_in_the_square() -> None:
    there = TEMPLATE @ np.array([[30.0, 8.0], [-8.0, 30.0]]) + (11, 7)

    assert np.allclose(shape_in_square(there, square_to_picture(there)), TEMPLATE, atol=1e-6)


def test_transport_gives_one_expression_the_mean_and_spread_of_the_other() -> None:
    shapes = _expressions(np.random.default_rng(0), 400)
    transport = ShapeTransport(shapes, np.arange(2).repeat(400), 2)
    zero = torch.zeros(400, dtype=torch.long)

    moved = transport(torch.from_numpy(shapes[:400]).float(), zero, zero + 1).numpy()

    lip, wanted = moved[:, 57, 1], shapes[400:, 57, 1]
    assert abs(lip.mean() - wanted.mean()) < 0.002
    assert lip.std() < 0.6 * shapes[:400, 57, 1].std()  # four times too wide, but for a tenth
    assert np.abs(moved[:, 0] - shapes[:400, 0]).max() < 0.01  # the jaw is the person's


def test_transport_to_the_same_expression_changes_nothing() -> None:
    shapes = _expressions(np.random.default_rng(1), 50)
    transport = ShapeTransport(shapes, np.arange(2).repeat(50), 2)
    labels = torch.arange(2).repeat_interleave(50)
    some = torch.from_numpy(shapes).float()

    assert torch.allclose(transport(some, labels, labels), some, atol=1e-4)

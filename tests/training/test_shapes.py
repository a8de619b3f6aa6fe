"""Shapes of faces: mirrored, and cut out with their pictures."""

import numpy as np
import torch

from facegen.training.data.alignment import TEMPLATE, square_to_picture
from facegen.training.expression.shapes import (
    MIRRORED,
    SHAPE_POINTS,
    mirror_shapes,
    shape_in_square,
)


def test_mirroring_twice_changes_nothing() -> None:
    shapes = torch.rand(3, SHAPE_POINTS, 2)

    assert sorted(MIRRORED) == list(range(SHAPE_POINTS))
    assert torch.allclose(mirror_shapes(mirror_shapes(shapes)), shapes, atol=1e-6)


def test_template_points_of_a_picture_are_the_template_in_the_square() -> None:
    there = TEMPLATE @ np.array([[30.0, 8.0], [-8.0, 30.0]]) + (11, 7)

    assert np.allclose(shape_in_square(there, square_to_picture(there)), TEMPLATE, atol=1e-6)

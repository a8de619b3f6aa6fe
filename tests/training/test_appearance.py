"""The teacher of edits, on drawn faces whose expressions are known."""

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from facegen.training.expression.appearance import AppearanceTransport, ShapedFaces, Taught

_EXPRESSIONS = ("neutral", "surprise", "boredom")
_PER_CLASS = 40


def _shape(opening: float, brow: float, width: float) -> NDArray[np.float64]:
    """68 points of a face from the front, distances in its square's sides."""
    turns = np.linspace(np.pi, 0, 17)
    jaw = np.stack([0.5 + 0.38 * np.cos(turns), 0.4 + 0.5 * np.sin(turns)], 1)
    brow_x = np.linspace(0.2, 0.42, 5)
    left_brow = np.stack([brow_x, np.full(5, brow)], 1)
    nose = [(0.5, 0.36 + 0.06 * i) for i in range(4)] + [(0.44 + 0.03 * i, 0.6) for i in range(5)]
    eye = np.array(
        [(0.24, 0.36), (0.28, 0.34), (0.33, 0.34), (0.38, 0.36), (0.33, 0.38), (0.28, 0.38)]
    )
    right_eye = (eye * (-1, 1) + (1, 0))[[3, 2, 1, 0, 5, 4]]
    middle = 0.74
    outer_x = np.array([-1, -0.66, -0.33, 0, 0.33, 0.66, 1, 0.66, 0.33, 0, -0.33, -0.66])
    outer_y = np.array([0, -1, -1, -1, -1, -1, 0, 1, 1, 1, 1, 1]) * (0.03 + opening / 2)
    inner_x = np.array([-0.8, -0.4, 0, 0.4, 0.8, 0.4, 0, -0.4])
    inner_y = np.array([0, -1, -1, -1, 0, 1, 1, 1]) * opening / 2
    mouth = [
        np.stack([0.5 + width * x, middle + y], 1)
        for x, y in ((outer_x, outer_y), (inner_x, inner_y))
    ]
    right_brow = (left_brow * (-1, 1) + (1, 0))[::-1]
    return np.concatenate([jaw, left_brow, right_brow, np.array(nose), eye, right_eye, *mouth])


def _drawn(shape: NDArray[np.float64], skin: int) -> NDArray[np.uint8]:
    picture = np.full((48, 48), skin, np.uint8)
    for part, shade in ((slice(48, 60), skin - 40), (slice(60, 68), 10), (slice(36, 42), 20)):
        cv2.fillPoly(picture, [np.rint(shape[part] * 48 * 16 - 8).astype(np.int32)], shade, 8, 4)
    return picture


@pytest.fixture(scope="module")
def faces() -> ShapedFaces:
    """Neutral faces, surprised ones with open mouths and raised brows, and bored ones."""
    random = np.random.default_rng(0)
    labels = np.arange(3).repeat(_PER_CLASS)
    shapes = np.stack(
        [
            _shape(
                (0.0, 0.12, 0.03)[label] + 0.004 * random.random(),
                (0.28, 0.22, 0.3)[label] + 0.01 * random.normal(),
                0.12 + 0.01 * random.normal(),
            )
            for label in labels
        ]
    )
    images = np.stack([_drawn(s, int(random.integers(120, 200))) for s in shapes])
    shares = np.full(len(labels), 0.9, np.float32)
    return ShapedFaces(images[..., None], shapes.astype(np.float32), labels, shares)


@pytest.fixture(scope="module")
def teacher(faces: ShapedFaces) -> AppearanceTransport:
    """Learned from all of them."""
    return AppearanceTransport(faces, _EXPRESSIONS)


def _taught(
    teacher: AppearanceTransport, faces: ShapedFaces, source: int, target: int
) -> tuple[Tensor, Taught]:
    some = slice(source * _PER_CLASS, source * _PER_CLASS + 10)
    x = torch.from_numpy(faces.images[some]).permute(0, 3, 1, 2).float() / 255
    sources = torch.from_numpy(faces.labels[some])
    shapes = torch.from_numpy(faces.shapes[some])
    return x, teacher(x, shapes, sources, torch.full_like(sources, target))


def test_surprise_opens_a_mouth_and_paints_it_dark(
    teacher: AppearanceTransport, faces: ShapedFaces
) -> None:
    x, taught = _taught(teacher, faces, 0, 1)

    middle = (slice(None), 0, slice(37, 39), slice(23, 25))
    assert x[middle].mean() > 0.3
    assert taught.picture[middle].mean() < 0.15
    assert taught.lips[middle].mean() > 0.8


def test_neutral_closes_it_again(teacher: AppearanceTransport, faces: ShapedFaces) -> None:
    x, taught = _taught(teacher, faces, 1, 0)

    dark = [(some < 0.2)[:, :, 30:42, 18:30].float().mean() for some in (x, taught.picture)]
    assert dark[1] < 0.4 * dark[0]
    assert taught.picture.max() <= 1
    assert taught.picture.min() >= 0


def test_flow_takes_brows_where_they_belong(
    teacher: AppearanceTransport, faces: ShapedFaces
) -> None:
    _, taught = _taught(teacher, faces, 0, 1)

    risen = taught.flow[:, 1, round(0.22 * 48), round(0.3 * 48)]
    assert risen.mean() == pytest.approx(0.28 - 0.22, abs=0.02)  # from farther down


def test_pictures_stay_what_they_are_beside_the_face(
    teacher: AppearanceTransport, faces: ShapedFaces
) -> None:
    x, taught = _taught(teacher, faces, 0, 1)

    corner = (slice(None), slice(None), slice(None, 2), slice(None, 4))
    assert torch.allclose(taught.picture[corner], x[corner], atol=0.02)
    assert taught.flow[corner].abs().max() < 0.02
    assert not taught.lips[corner].any()


def test_an_expression_without_a_prototype_is_shown_as_most_show_it(
    teacher: AppearanceTransport, faces: ShapedFaces
) -> None:
    x, taught = _taught(teacher, faces, 0, 2)

    assert 0.003 < (taught.picture - x).abs().mean() < 0.1

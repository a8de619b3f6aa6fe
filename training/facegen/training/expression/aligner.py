"""The aligner: a small network that finds five points in a grey square around a face.

It is distilled from dlib's predictor of five points, so that serving downloads no predictor. It
looks twice: at the square around the detector's box, then at one placed and turned by what it
found.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from facegen.training.data.alignment import TEMPLATE, align, square_to_picture

__all__ = [
    "SQUARE_PX",
    "Aligner",
    "AlignerConfig",
    "box_square",
    "corner_errors",
    "find_points",
    "point_errors",
    "point_loss",
    "points_square",
]

SQUARE_PX = 64
"""Height and width of the squares that the aligner sees."""

_CELLS = 8
"""Cells a side of the grid whose votes make the points."""

_MARGIN = 1.4
"""A square's side as a multiple of the box's, and of the template's square in the second pass."""

_LOSS_KNEE = 0.005
"""Errors of half a percent of the square cost linearly: about the rounding of dlib's points."""


class AlignerConfig(BaseModel):
    """What an aligner is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["aligner"] = "aligner"
    """Five points of a face."""
    widths: tuple[int, int, int, int] = (16, 32, 64, 96)
    """Channels of the stages, each at half the size of the one before."""


class Aligner(nn.Module):
    """Grey squares around faces to the template's points.

    Each cell of an 8 x 8 grid says for each point where it would be, seen from the cell, and how
    sure it is; the point is the mean of what the cells say. Moved faces so move what is found,
    which one linear layer for all coordinates would have to learn place by place.

    Args:
        config: The model's configuration.
    """

    places: Tensor

    def __init__(self, config: AlignerConfig) -> None:
        super().__init__()
        self.config = config
        *_, fine, coarse = config.widths
        self.stages = nn.Sequential(
            *(_convolution(a, b, stride=2) for a, b in pairwise((1, *config.widths[:-1])))
        )
        self.context = nn.Sequential(
            _convolution(fine, coarse, stride=2),
            _convolution(coarse, coarse, stride=1),
            nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2),
        )
        self.mix = nn.Sequential(nn.ReLU(), nn.Conv2d(fine, fine, kernel_size=1), nn.ReLU())
        self.votes = nn.Conv2d(fine, 3 * len(TEMPLATE), kernel_size=1)
        centres = (torch.arange(_CELLS) + 0.5) / _CELLS
        down, right = torch.meshgrid(centres, centres, indexing="ij")
        self.register_buffer("places", torch.stack([right, down]).flatten(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Find the points.

        Args:
            x: (B, 1, 64, 64) in [0, 1].

        Returns:
            (B, 5, 2): right and down from the square's top left corner, in [0, 1] inside it.
        """
        x = self.stages(x - 0.5)  # (B, C, 8, 8)
        votes = self.votes(self.mix(x + self.context(x)))  # (B, 15, 8, 8)
        votes = votes.flatten(2).unflatten(1, (len(TEMPLATE), 3))  # (B, 5, 3, 64)
        weight = torch.softmax(votes[:, :, :1], dim=3)
        return torch.sum(weight * (self.places + votes[:, :, 1:]), dim=3)


def _convolution(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def point_loss(predicted: Tensor, points: Tensor) -> Tensor:
    """Huber's loss of every coordinate, its mean over points and faces, in squares' sides.

    Args:
        predicted: (B, 5, 2), fractions of the square's side.
        points: What the teacher says, likewise.

    Returns:
        A scalar.
    """
    return functional.smooth_l1_loss(predicted, points, beta=_LOSS_KNEE)


def box_square(box: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """The square of the first pass: upright, around a detector's box.

    Args:
        box: Left, top, right, bottom in pixels from the picture's top left corner.

    Returns:
        (2, 3): picture = M @ (x, y, 1) for (x, y) in the unit square, as `align` takes it.
    """
    left, top, right, bottom = (float(value) for value in box)
    side = _MARGIN * ((right - left) + (bottom - top)) / 2
    x, y = ((left + right) - side) / 2, ((top + bottom) - side) / 2
    return np.array([[side, 0, x], [0, side, y]])


def points_square(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """The square of the second pass: the template's square and a margin around it.

    Args:
        points: The template's points in the picture, (5, 2) in pixels from its top left corner.

    Returns:
        (2, 3), as `box_square`.
    """
    matrix = square_to_picture(points)
    outset = (1 - _MARGIN) / 2
    square: NDArray[np.float64] = matrix @ np.array(
        [[_MARGIN, 0, outset], [0, _MARGIN, outset], [0, 0, 1]]
    )
    return square


def find_points(
    aligner: Aligner,
    pictures: Sequence[NDArray[np.uint8]],
    squares: Sequence[NDArray[np.float64]],
    *,
    passes: int = 2,
) -> NDArray[np.float64]:
    """Find the points of one face in each picture.

    Args:
        aligner: Trained, in evaluation mode.
        pictures: Grey, (H, W) uint8 each.
        squares: From `box_square`, one a picture.
        passes: How often to look; every time but the first in `points_square` of what was found.

    Returns:
        (N, 5, 2) in pixels from the pictures' top left corners.
    """
    for _ in range(passes):
        cut = [align(p, m, size_px=SQUARE_PX) for p, m in zip(pictures, squares, strict=True)]
        with torch.inference_mode():
            found = aligner(torch.from_numpy(np.stack(cut))[:, None].float() / 255)
        places = found.double().numpy()
        points = np.stack([p @ m[:, :2].T + m[:, 2] for p, m in zip(places, squares, strict=True)])
        squares = [points_square(p) for p in points]
    return points


def point_errors(found: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """How far points lie from the teacher's, as fractions of the distance of the outer eye corners.

    Args:
        found: (N, 5, 2) in pixels.
        points: The teacher's, likewise.

    Returns:
        (N,): means over a face's points.
    """
    distances = np.linalg.norm(found - points, axis=2).mean(1)
    between_eyes = np.linalg.norm(points[:, 0] - points[:, 2], axis=1)
    return np.asarray(distances / between_eyes, dtype=np.float64)


def corner_errors(found: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """How far the aligned square's corners lie from where the teacher's points put them.

    Args:
        found: (N, 5, 2) in pixels.
        points: The teacher's, likewise.

    Returns:
        (N,): means over the four corners, as fractions of the teacher's square's side.
    """
    corners = np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]])
    there = np.stack([square_to_picture(p) @ corners for p in found])
    wanted = np.stack([square_to_picture(p) @ corners for p in points])  # (N, 2, 4)
    side = np.linalg.norm(wanted[:, :, 1] - wanted[:, :, 0], axis=1)
    distances = np.linalg.norm(there - wanted, axis=1).mean(1)
    return np.asarray(distances / side, dtype=np.float64)

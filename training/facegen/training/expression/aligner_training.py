"""Trains the aligner on squares cut around faces whose points a teacher has found."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from facegen.training.data.alignment import align
from facegen.training.expression.aligner import (
    SQUARE_PX,
    Aligner,
    AlignerConfig,
    box_square,
    point_loss,
    points_square,
)

__all__ = [
    "WIDE_PX",
    "AlignerEpoch",
    "AlignerRecipe",
    "draw_example",
    "train_aligner",
    "wide_square",
    "wide_squares",
]

WIDE_PX = 2 * SQUARE_PX
"""Side of the wide squares that examples are cut out of: twice the first pass's, box in the middle,
so that turned, moved and larger squares still find picture there."""

_MIRRORED = np.array([2, 3, 0, 1, 4])
"""The points' order in a mirrored picture: the eyes change places."""

_FIRST_PASS = np.array([[0.5, 0, 0.25], [0, 0.5, 0.25]])
"""The first pass's square in the wide one."""

_LEVELS = np.arange(256) / 255

_Random = np.random.Generator


class AlignerRecipe(BaseModel):
    """How an aligner is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=20, ge=1)
    """Times that every face is seen."""
    batch_size: int = Field(default=64, ge=2)
    """Faces in a batch, cut to the number there are."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """AdamW's highest, after a warm-up and before a cosine to zero."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """AdamW's, on matrices and kernels."""
    average_decay: float = Field(default=0.998, ge=0, lt=1)
    """Of the moving average of the weights that is handed back."""
    shift: float = Field(default=0.12, ge=0, le=0.5)
    """The farthest that a square is moved along an axis, as a fraction of its side."""
    scale: tuple[float, float] = (0.75, 1.35)
    """A square's smallest and largest side, as multiples of the side it should have."""
    turn_degrees: tuple[float, float] = (30.0, 15.0)
    """The farthest that squares of the first and of the second pass are turned."""


class AlignerEpoch(NamedTuple):
    """What `train_aligner` tells after each epoch, counted from 0: `aligner` holds the average."""

    epoch: int
    loss: float
    aligner: Aligner


def wide_square(
    picture: NDArray[np.uint8], box: NDArray[np.floating], points: NDArray[np.floating]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cut what training needs of a picture.

    Args:
        picture: Grey, (H, W) uint8.
        box: The detector's, left, top, right, bottom in pixels.
        points: The teacher's, (5, 2) in pixels from the picture's top left corner.

    Returns:
        The wide square, (128, 128) uint8, and the points in [0, 1]² of it, (5, 2).
    """
    matrix = box_square(box) @ np.array([[2, 0, -0.5], [0, 2, -0.5], [0, 0, 1]])
    return align(picture, matrix, size_px=WIDE_PX), _inside(matrix, points)


def wide_squares(
    pictures: Iterable[NDArray[np.uint8]],
    boxes: Iterable[NDArray[np.floating]],
    points: Iterable[NDArray[np.floating]],
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cut what training needs of many pictures, which may differ in size.

    Args:
        pictures: As `wide_square` takes them; at least one, read one after the other.
        boxes: One a picture.
        points: Likewise.

    Returns:
        What `train_aligner` takes: (N, 128, 128) uint8 and (N, 5, 2).
    """
    cut = [wide_square(*face) for face in zip(pictures, boxes, points, strict=True)]
    return np.stack([square for square, _ in cut]), np.stack([inside for _, inside in cut])


def draw_example(
    square: NDArray[np.uint8], points: NDArray[np.floating], random: _Random, recipe: AlignerRecipe
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cut one training example out of a wide square, as either pass might see it.

    Args:
        square: (128, 128) uint8.
        points: In [0, 1]² of it, (5, 2).
        random: Decides.
        recipe: How far squares are moved, scaled and turned.

    Returns:
        The picture, (64, 64) uint8, and the points in [0, 1]² of it, (5, 2).
    """
    second = random.random() < 0.5
    base = points_square(points) if second else _FIRST_PASS
    matrix = base @ _jitter(random, recipe, turn_degrees=recipe.turn_degrees[second])
    if random.random() < 0.5:
        matrix = matrix @ np.array([[-1, 0, 1], [0, 1, 0], [0, 0, 1]])
        points = points[_MIRRORED]
    return _degrade(_cut(square, matrix), random), _inside(matrix, points)


def train_aligner(
    squares: NDArray[np.uint8],
    points: NDArray[np.floating],
    *,
    seed: int,
    config: AlignerConfig | None = None,
    recipe: AlignerRecipe | None = None,
    on_epoch: Callable[[AlignerEpoch], None] | None = None,
) -> Aligner:
    """Train an aligner, on the CPU; the same arguments give the same weights.

    Args:
        squares: From `wide_square`, (N, 128, 128) uint8.
        points: The teacher's in [0, 1]² of them, (N, 5, 2).
        seed: Of the first weights, the order and the examples.
        config: The model's; None takes the defaults.
        recipe: How to train; None takes the defaults.
        on_epoch: Called after every epoch.

    Returns:
        The moving average, in evaluation mode.
    """
    config, recipe = config or AlignerConfig(), recipe or AlignerRecipe()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        aligner, average = Aligner(config), Aligner(config).eval()
    average.load_state_dict(aligner.state_dict())
    aligner.to(memory_format=torch.channels_last)  # a fifth faster
    batch_size = min(recipe.batch_size, len(squares))
    batch_count = len(squares) // batch_size
    optimizer, schedule = _optimizer(aligner, recipe, step_count=batch_count * recipe.epochs)
    for epoch in range(recipe.epochs):
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(squares))[: batch_count * batch_size]
        total = 0.0
        for number, rows in enumerate(np.split(order, batch_count)):
            examples = [draw_example(squares[i], points[i], random, recipe) for i in rows]
            loss = point_loss(aligner(_pictures(examples)), _points(examples))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
            optimizer.step()
            schedule.step()
            step = epoch * batch_count + number
            _blend(average, aligner, decay=min(recipe.average_decay, (1 + step) / (10 + step)))
            total += loss.item()
        if on_epoch is not None:
            on_epoch(AlignerEpoch(epoch, total / batch_count, average))
    return average


def _inside(matrix: NDArray[np.float64], points: NDArray[np.floating]) -> NDArray[np.float32]:
    inverse = cv2.invertAffineTransform(matrix)
    return (points @ inverse[:, :2].T + inverse[:, 2]).astype(np.float32)


def _jitter(random: _Random, recipe: AlignerRecipe, *, turn_degrees: float) -> NDArray[np.float64]:
    low, high = np.log(recipe.scale)
    turn = math.radians(random.uniform(-turn_degrees, turn_degrees))
    k = math.exp(random.uniform(low, high)) * complex(math.cos(turn), math.sin(turn))
    centre = 0.5 + 0.5j + complex(*random.uniform(-recipe.shift, recipe.shift, 2))
    o = centre - k * (0.5 + 0.5j)
    return np.array([[k.real, -k.imag, o.real], [k.imag, k.real, o.imag], [0, 0, 1]])


def _cut(square: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    # Between the unit squares' coordinates and OpenCV's, which are those of pixel centres.
    pixels = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, SQUARE_PX]]) / SQUARE_PX
    whole = WIDE_PX * (matrix @ pixels) - np.array([[0, 0, 0.5], [0, 0, 0.5]])
    cut = cv2.warpAffine(
        square,
        whole,
        (SQUARE_PX, SQUARE_PX),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(cut, dtype=np.uint8)


def _degrade(picture: NDArray[np.uint8], random: _Random) -> NDArray[np.uint8]:
    """Make a picture darker, paler, blurred, coarse or noisy, as photos are."""
    coarse, blurred, noisy = random.random(3) < (0.25, 0.2, 0.25)
    if coarse:
        side = int(random.integers(20, 48))
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, (SQUARE_PX, SQUARE_PX), interpolation=cv2.INTER_CUBIC)  # type: ignore[assignment]  # uint8 stays uint8
    if blurred:
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.5, 1.8))  # type: ignore[assignment]  # likewise
    gamma = math.exp(random.uniform(-0.5, 0.5))
    contrast, brightness = math.exp(random.uniform(-0.6, 0.3)), random.uniform(-0.15, 0.15)
    levels = contrast * (_LEVELS**gamma - 0.5) + 0.5 + brightness
    picture = cv2.LUT(picture, np.clip(255 * levels + 0.5, 0, 255).astype(np.uint8))  # type: ignore[assignment]  # likewise
    if noisy:
        noise = random.standard_normal(picture.shape, dtype=np.float32)
        noise = picture + np.float32(random.uniform(1, 12)) * noise
        picture = np.clip(noise + 0.5, 0, 255).astype(np.uint8)
    return picture


def _pictures(examples: list[tuple[NDArray[np.uint8], NDArray[np.float32]]]) -> Tensor:
    return torch.from_numpy(np.stack([picture for picture, _ in examples]))[:, None].float() / 255


def _points(examples: list[tuple[NDArray[np.uint8], NDArray[np.float32]]]) -> Tensor:
    return torch.from_numpy(np.stack([points for _, points in examples]))


def _optimizer(
    aligner: Aligner, recipe: AlignerRecipe, *, step_count: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.OneCycleLR]:
    decayed = [p for p in aligner.parameters() if p.ndim > 1]
    plain = [p for p in aligner.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=recipe.learning_rate,
        total_steps=step_count + 1,
        pct_start=0.05,
        cycle_momentum=False,
    )
    return optimizer, schedule


@torch.no_grad()
def _blend(average: Aligner, aligner: Aligner, *, decay: float) -> None:
    current = aligner.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[name], 1 - decay)
        else:
            value.copy_(current[name])

"""The training pictures nearest to samples: does a model draw, or does it remember?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from facegen.training.data import FaceArrays
from facegen.training.evaluation.networks import Judge
from facegen.training.latents import decode_latents, encode_pictures
from facegen.training.prior import MixturePrior
from facegen.training.run import Run

__all__ = [
    "NearestPictures",
    "Neighbours",
    "draw_latents",
    "find_nearest",
    "nearest_neighbours",
    "nearest_sheet",
]

Pixels = NDArray[np.uint8]

_BLOCK = 1024
_SHOWN = 4
_GAP_PX = 4
_CAPTION_PX = 16


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest points of each query.

    Attributes:
        rows: Of the points, the nearest first, (Q, K).
        distances: Theirs, Euclidean, (Q, K).
    """

    rows: NDArray[np.intp]
    distances: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NearestPictures:
    """Samples and the training pictures nearest to them.

    Attributes:
        samples: (N, H, W, C) uint8.
        by_features: In a frozen network's features.
        by_pixels: In pixels, each in [0, 1].
        statistics: JSON values; see `find_nearest`.
    """

    samples: Pixels
    by_features: Neighbours
    by_pixels: Neighbours
    statistics: Mapping[str, Any]


def nearest_neighbours(
    queries: NDArray[np.float32], points: NDArray[Any], count: int, *, scale: float = 1.0
) -> Neighbours:
    """Find the points nearest to each query, a block of points at a time.

    Args:
        queries: (Q, F).
        points: (P, F), of any type of number; may be mapped from disk.
        count: K, at most P.
        scale: What points, not queries, are multiplied by.
    """
    count = min(count, len(points))
    best: NDArray[Any] = np.full((len(queries), count), np.inf)
    rows: NDArray[Any] = np.zeros((len(queries), count), np.intp)
    for start in range(0, len(points), _BLOCK):
        block = np.asarray(points[start : start + _BLOCK], np.float32) * np.float32(scale)
        # |q - p|² without |q|², which changes no order.
        nearness = np.square(block, dtype=np.float64).sum(1) - 2.0 * (queries @ block.T)
        here = np.broadcast_to(np.arange(start, start + len(block)), nearness.shape)
        best, rows = np.hstack([best, nearness]), np.hstack([rows, here])
        order = np.argsort(best, axis=1, kind="stable")[:, :count]
        best, rows = (np.take_along_axis(it, order, axis=1) for it in (best, rows))
    distances = [
        np.linalg.norm(np.asarray(points[near], np.float32) * np.float32(scale) - query, axis=1)
        for query, near in zip(queries, rows, strict=True)
    ]
    return Neighbours(rows, np.array(distances, np.float32).reshape(rows.shape))


def draw_latents(prior: MixturePrior, *, seed: int, count: int) -> NDArray[np.float32]:
    """Latents of faces 0 to `count` of a seed, (count, Z): the same faces as a server's."""
    generators = [np.random.Generator(np.random.Philox(key=[seed, i])) for i in range(count)]
    size = prior.means.shape[1]
    noise = np.stack([g.standard_normal(size, dtype=np.float32) for g in generators])
    uniform = np.array([g.random(dtype=np.float32) for g in generators], dtype=np.float32)
    return prior.sample(noise, uniform)


def find_nearest(
    run: Run, faces: FaceArrays, *, judge: Judge, seed: int, count: int
) -> NearestPictures:
    """Draw samples, and find the training pictures nearest to them.

    The statistics compare the median distance from samples to their nearest training pictures with
    that of validation pictures, which cannot be remembered: `features` and `pixels` each hold
    `sample`, `validation`, `reconstruction` (of the same validation pictures, which are as soft as
    samples are), and the `ratio` and `ratio_to_reconstruction` of the first to the others. Below 1
    samples are nearer to the training pictures than new faces are: the model remembers. Soft
    pictures are nearer in pixels to everything; there only the second ratio is fair.

    Args:
        run: A finished run.
        faces: Its data set.
        judge: Its network gives the features.
        seed: Of the samples.
        count: Samples, and validation pictures at most.
    """
    train = np.asarray(faces.pixels["train"])
    validation = np.asarray(faces.pixels["validation"][:count])
    samples = decode_latents(run.model, draw_latents(run.prior, seed=seed, count=count))
    rebuilt = decode_latents(run.model, encode_pictures(run.model, validation))
    sets = {"sample": samples, "validation": validation, "reconstruction": rebuilt}
    by_features = _search(
        {name: _features(judge, images, name) for name, images in sets.items()},
        _features(judge, train, "training pictures", kept=True),
    )
    by_pixels = _search(
        {name: _flat(images) for name, images in sets.items()},
        train.reshape(len(train), -1),
        scale=1 / 255.0,
    )
    statistics = {
        "seed": seed,
        "samples": len(samples),
        "validation_pictures": len(validation),
        "training_pictures": len(train),
        "network": judge.network.description,
        "network_sha256": judge.network.sha256,
        "features": _statistics(by_features),
        "pixels": _statistics(by_pixels),
    }
    return NearestPictures(samples, by_features["sample"], by_pixels["sample"], statistics)


def nearest_sheet(found: NearestPictures, train: Pixels, *, row_count: int) -> Image.Image:
    """Draw samples, each with its nearest training pictures by features and by pixels.

    Args:
        found: Samples and neighbours; the first are drawn.
        train: The training pictures, (P, H, W, C) uint8.
        row_count: Samples at most.
    """
    captions = ("sample", "nearest by features", "nearest by pixels")
    groups = [
        found.samples[:row_count, None],
        train[found.by_features.rows[:row_count]],
        train[found.by_pixels.rows[:row_count]],
    ]
    height, width = found.samples.shape[1:3]
    widths = [group.shape[1] * width + 2 * _GAP_PX for group in groups]
    rows = len(groups[0])
    size = (sum(widths), _CAPTION_PX + rows * (height + _GAP_PX))
    sheet = Image.new("RGB", size, "white")
    left = _GAP_PX
    for caption, group, group_width in zip(captions, groups, widths, strict=True):
        ImageDraw.Draw(sheet).text((left, 1), caption, fill="black")
        for row, column in np.ndindex(*group.shape[:2]):
            picture = Image.fromarray(group[row, column].squeeze())
            top = _CAPTION_PX + row * (height + _GAP_PX)
            sheet.paste(picture, (left + column * width, top))
        left += group_width
    return sheet


def _features(
    judge: Judge, images: Pixels, what: str, *, kept: bool = False
) -> NDArray[np.float32]:
    return judge.features(images, what, kept=kept).astype(np.float32)


def _flat(images: Pixels) -> NDArray[np.float32]:
    return (images.reshape(len(images), -1) / 255.0).astype(np.float32)


def _search(
    queries: Mapping[str, NDArray[np.float32]], points: NDArray[Any], *, scale: float = 1.0
) -> dict[str, Neighbours]:
    return {
        name: nearest_neighbours(them, points, _SHOWN, scale=scale)
        for name, them in queries.items()
    }


def _statistics(neighbours: Mapping[str, Neighbours]) -> dict[str, float]:
    medians = {name: float(np.median(it.distances[:, 0])) for name, it in neighbours.items()}
    least = float(np.finfo(np.float32).tiny)
    return medians | {
        "ratio": medians["sample"] / max(medians["validation"], least),
        "ratio_to_reconstruction": medians["sample"] / max(medians["reconstruction"], least),
    }

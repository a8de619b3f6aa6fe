"""The training faces nearest to a sample: does the model draw, or does it remember?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from facegen.training.evaluation.measuring import Measured
from facegen.training.evaluation.subject import Pixels, Subject

__all__ = ["Nearest", "nearest_faces"]

_SEARCHED_PICTURES = 20_000
_CANDIDATES = 16
_SMALL_PX = 16

Features = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Nearest:
    """Samples and the training faces that are most like them.

    Attributes:
        samples: (N, H, W, C) uint8.
        faces: The nearest first, (N, K, H, W, C) uint8.
        distances: Theirs in the main network's features, (N, K).
        usual: The distance from unseen real faces to their nearest, found alike: the median.
        searched: Training faces that were searched.
    """

    samples: Pixels
    faces: Pixels
    distances: Features
    usual: float
    searched: int


def nearest_faces(
    subject: Subject, measured: Measured, *, count: int = 8, kept: int = 3
) -> Nearest:
    """Find the training faces nearest to samples of the main prior.

    All training faces are searched by their reduced pixels, and those whose latents are known by
    their latents; of the best of both the network's features choose.

    Args:
        subject: The model.
        measured: Its samples and what is known of them.
        count: Samples.
        kept: Faces for each.
    """
    sets = measured.sets
    samples, unseen = sets.fake[sets.main][:count], sets.real[:count]
    train = np.asarray(sets.train[:_SEARCHED_PICTURES])
    queries = np.concatenate([samples, unseen])
    rows = _candidates(subject, measured, queries, train)
    used, places = np.unique(rows, return_inverse=True)
    features = measured.judges[0].network.of_images(train[used])
    of_queries = np.concatenate(
        [measured.features[sets.main][:count], measured.features["real"][:count]]
    )
    distances = np.linalg.norm(features[places.reshape(rows.shape)] - of_queries[:, None], axis=2)
    # A face may be a candidate by both searches.
    distances[:, 1:][np.diff(rows, axis=1) == 0] = np.inf
    order = np.argsort(distances, axis=1)[:, :kept]
    best = np.take_along_axis(distances, order, axis=1)
    chosen = np.take_along_axis(rows, order, axis=1)
    return Nearest(
        samples,
        train[chosen[: len(samples)]],
        best[: len(samples)],
        float(np.median(best[len(samples) :, 0])),
        len(train),
    )


def _candidates(
    subject: Subject, measured: Measured, queries: Pixels, train: Pixels
) -> NDArray[np.intp]:
    """Rows of training faces for each query, (Q, K) in rising order."""
    by_pixels = cdist(_reduced(queries), _reduced(train))
    by_latents = cdist(subject.encode(queries).mean, measured.latents.mean)
    count = min(_CANDIDATES, by_pixels.shape[1], by_latents.shape[1])
    found = [np.argsort(it, axis=1)[:, :count] for it in (by_pixels, by_latents)]
    return np.sort(np.concatenate(found, axis=1), axis=1)


def _reduced(images: Pixels) -> NDArray[np.float32]:
    """Pictures as vectors of means of their blocks, (N, F)."""
    count, height, _, channels = images.shape
    block = max(height // _SMALL_PX, 1)
    side = height // block
    cut = images[:, : side * block, : side * block].reshape(
        count, side, block, side, block, channels
    )
    means: NDArray[np.float32] = cut.mean(axis=(2, 4), dtype=np.float32).reshape(count, -1)
    return means

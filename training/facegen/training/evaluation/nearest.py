"""The training faces nearest to a sample: does the model draw, or does it remember?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from facegen.training.evaluation.comparing import Comparison
from facegen.training.evaluation.subject import Pixels

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
    measured: Comparison,
    *,
    distances: Callable[[Pixels], Features] | None = None,
    count: int = 8,
    kept: int = 3,
) -> Nearest:
    """Find the training faces nearest to pictures of the set that is judged.

    All training faces are searched by their reduced pixels, and some by other distances where there
    are any; of the best of both the network's features choose.

    Args:
        measured: The pictures and what is known of them.
        distances: Of pictures (N, H, W, C) from the first training faces, (N, K): of latents, say.
        count: Pictures to find faces for.
        kept: Faces for each.
    """
    sets = measured.sets
    samples, unseen = sets.fake[sets.main][:count], sets.real[:count]
    train = np.asarray(sets.train[:_SEARCHED_PICTURES])
    queries = np.concatenate([samples, unseen])
    rows = _candidates(queries, train, distances)
    used, places = np.unique(rows, return_inverse=True)
    features = measured.judges[0].network.of_images(train[used])
    of_queries = np.concatenate(
        [measured.features[sets.main][:count], measured.features["real"][:count]]
    )
    gaps = np.linalg.norm(features[places.reshape(rows.shape)] - of_queries[:, None], axis=2)
    # A face may be a candidate by both searches.
    gaps[:, 1:][np.diff(rows, axis=1) == 0] = np.inf
    order = np.argsort(gaps, axis=1)[:, :kept]
    best = np.take_along_axis(gaps, order, axis=1)
    chosen = np.take_along_axis(rows, order, axis=1)
    return Nearest(
        samples,
        train[chosen[: len(samples)]],
        best[: len(samples)],
        float(np.median(best[len(samples) :, 0])),
        len(train),
    )


def _candidates(
    queries: Pixels, train: Pixels, distances: Callable[[Pixels], Features] | None
) -> NDArray[np.intp]:
    """Rows of training faces for each query, (Q, K) in rising order."""
    searches = [cdist(_reduced(queries), _reduced(train))]
    if distances is not None:
        searches.append(distances(queries))
    count = min(_CANDIDATES, *(it.shape[1] for it in searches))
    found = [np.argsort(it, axis=1)[:, :count] for it in searches]
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

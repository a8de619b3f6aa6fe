"""How much edited faces look like real ones of their new expression, by features of a network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.training.distances import frechet_distance, kernel_distance
from facegen.training.expression.sources import LabelledFaces, Pixels
from facegen.training.features import FeatureNetwork

__all__ = ["measure_realism"]

_LEAST = 8  # fewer than these say nothing of a distribution

Features = NDArray[np.float64]


def measure_realism(
    network: FeatureNetwork,
    edited: Mapping[str, Pixels],
    sources: LabelledFaces,
    real: LabelledFaces,
    *,
    limit: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Compare edited faces of each expression with real ones that have it.

    Every distance is between as many faces: real ones of the expression, and as many edited, real
    others of the expression (`floor`) or unchanged sources of other expressions (`unchanged`).

    Args:
        network: Gives the features.
        edited: By target, (N, H, W, C).
        sources: What they were made from and others.
        real: Held-out faces.
        limit: The most faces of a set.
        seed: Decides which.

    Returns:
        By target `count` and `frechet`, `kernel` with their `…_floor` and `…_unchanged`; nothing
        for a target of which there are too few faces.
    """
    random = np.random.default_rng(seed)
    found: dict[str, dict[str, Any]] = {}
    for target, images in edited.items():
        faces = real.showing(target).pixels
        others = sources.take(sources.expressions != target).pixels
        count = min(limit, len(faces) // 2, len(images), len(others))
        if count < _LEAST:
            continue
        halves = random.permutation(len(faces))[: 2 * count]
        reference = network.of_images(faces[halves[:count]])
        rivals = {
            "": images[random.permutation(len(images))[:count]],
            "_floor": faces[halves[count:]],
            "_unchanged": others[random.permutation(len(others))[:count]],
        }
        found[target] = {"count": count}
        for suffix, rival in rivals.items():
            features: Features = network.of_images(rival)
            found[target][f"frechet{suffix}"] = frechet_distance(reference, features)
            found[target][f"kernel{suffix}"] = kernel_distance(reference, features)
    return found

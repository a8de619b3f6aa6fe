"""The random numbers of an evaluation, the same for every model of a latent size."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facegen.training.evaluation.subject import Latents

__all__ = ["SEED", "Draws", "draw"]

SEED = 20_140_501
"""Of every draw: noise, the training pictures that are compared with, posteriors."""


class Draws(NamedTuple):
    """Noise for samples and rows of training pictures.

    Attributes:
        noise: Standard normal, (N, Z).
        uniform: In [0, 1), (N,).
        rows: Of training pictures, N or as many as there are.
    """

    noise: Latents
    uniform: Latents
    rows: NDArray[np.intp]


def draw(count: int, latent_size: int, train_count: int) -> Draws:
    """Draw everything.

    Args:
        count: Samples and training pictures.
        latent_size: Values of a latent.
        train_count: Training pictures to choose from.
    """
    random = np.random.default_rng(SEED)
    noise = random.standard_normal((count, latent_size), dtype=np.float32)
    uniform = random.random(count, dtype=np.float32)
    return Draws(noise, uniform, random.permutation(train_count)[:count])

"""What is measured: a model that encodes, decodes and samples, in this process or on a server."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Encoded", "Latents", "Pixels", "Subject", "SubjectFacts"]

Pixels = NDArray[np.uint8]
Latents = NDArray[np.float32]


class Encoded(NamedTuple):
    """What an encoder says of pictures: means and logarithms of variances, (N, Z) each.

    An autoencoder has no variances.
    """

    mean: Latents
    logvar: Latents | None


@dataclass(frozen=True, slots=True)
class SubjectFacts:
    """What is known of a model before it is measured.

    Attributes:
        title: Its name, for people.
        source: Whether it is a "run" or "served".
        kind: "vae" or "autoencoder".
        reader: The data set that it was trained on.
        image_size: Side of its pictures in pixels.
        channels: 3 for RGB, 1 for grey.
        latent_size: Values of a latent.
        priors: Names of its priors, the main one first.
        details: More that the protocol keeps: commit, seed, versions, address.
    """

    title: str
    source: str
    kind: str
    reader: str
    image_size: int
    channels: int
    latent_size: int
    priors: tuple[str, ...]
    details: Mapping[str, Any] = field(default_factory=dict)


class Subject(Protocol):
    """A model as an evaluation sees it: arrays in, arrays out."""

    @property
    def facts(self) -> SubjectFacts:
        """What it is."""
        ...

    @property
    def directions(self) -> Mapping[str, Latents]:
        """Directions (Z,) that change one property of a face, by its name; perhaps none."""
        ...

    def encode(self, pixels: Pixels) -> Encoded:
        """Encode pictures (N, H, W, C) uint8 of the model's own size."""
        ...

    def decode(self, latents: Latents) -> Pixels:
        """Decode latents (N, Z) to (N, H, W, C) uint8."""
        ...

    def sample(self, prior: str, count: int, *, temperature: float = 1.0) -> Pixels:
        """Draw pictures (N, H, W, C) uint8 from a prior, the same whenever it is called.

        Args:
            prior: One of `facts.priors`.
            count: How many; the first of more are the same.
            temperature: Standard deviation of the noise.
        """
        ...

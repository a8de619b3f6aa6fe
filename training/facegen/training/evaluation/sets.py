"""The sets of pictures that are compared with real ones: a model's, and those of cheap rivals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from facegen.training.evaluation.draws import SEED, Draws
from facegen.training.evaluation.subject import Pixels, Subject

__all__ = ["KEPT_SETS", "PCA_PICTURES", "RENDERED", "PictureSets", "beside_rivals", "make_sets"]

PCA_PICTURES = 20_000
"""The most training pictures that PCA is fitted to: more than 100 a component, within memory."""

KEPT_SETS = frozenset({"floor", "pca_reconstruction", "pca_gaussian"})
"""Those that depend on the data set alone."""

RENDERED = "rendered"
"""The set of pictures that were not made here."""


@dataclass(frozen=True, slots=True)
class PictureSets:
    """Pictures to compare with real ones.

    Attributes:
        real: Validation pictures, (N, H, W, C) uint8.
        train: All training pictures.
        fake: By name, as many each: `floor` are training pictures.
        main: The name of the set that is judged: samples of the main prior, say.
        pca_components: Values that PCA keeps of a picture.
    """

    real: Pixels
    train: Pixels
    fake: Mapping[str, Pixels]
    main: str
    pca_components: int

    @property
    def judged(self) -> tuple[str, ...]:
        """The sets that every network judges."""
        names = ("floor", "reconstruction", self.main, "normal", "pca_gaussian")
        return tuple(dict.fromkeys(it for it in names if it in self.fake))

    @property
    def drawn(self) -> tuple[str, ...]:
        """Those of them that do not follow the real pictures one by one."""
        return tuple(it for it in self.judged if it != "reconstruction")


def make_sets(subject: Subject, real: Pixels, train: Pixels, *, draws: Draws) -> PictureSets:
    """Reconstruct and sample, with the model and with PCA at its latent size.

    Args:
        subject: The model.
        real: Validation pictures, (N, H, W, C) uint8.
        train: Training pictures.
        draws: Noise, and the rows of the floor's pictures.
    """
    count, main = len(real), subject.facts.priors[0]
    made = {
        "reconstruction": subject.decode(subject.encode(real).mean),
        **{it: subject.sample(it, count) for it in dict.fromkeys((main, "normal"))},
    }
    return beside_rivals(made, real, train, main=main, draws=draws)


def beside_rivals(
    made: Mapping[str, Pixels], real: Pixels, train: Pixels, *, main: str, draws: Draws
) -> PictureSets:
    """Put sets of pictures beside those of PCA, and beside training pictures.

    Args:
        made: The sets by name, as many pictures each as there are real ones.
        real: Validation pictures, (N, H, W, C) uint8.
        train: Training pictures.
        main: The name of the set that is judged.
        draws: Noise with as many values as PCA keeps, and the rows of the floor's pictures.
    """
    fake = {"floor": np.asarray(train[draws.rows]), **made}
    pca = _fitted(train, draws.noise.shape[1])
    components = len(pca.components_)
    if "reconstruction" in made:
        flat = real.reshape(len(real), -1).astype(np.float32)
        again = pca.inverse_transform(pca.transform(flat))
        fake["pca_reconstruction"] = _to_pixels(again, real.shape)
    gaussian = draws.noise[:, :components] * np.sqrt(pca.explained_variance_)
    fake["pca_gaussian"] = _to_pixels(pca.inverse_transform(gaussian), real.shape)
    return PictureSets(real, train, fake, main, components)


def _fitted(train: Pixels, latent_size: int) -> PCA:
    rows = np.arange(len(train))
    if len(train) > PCA_PICTURES:
        rows = np.sort(np.random.default_rng(SEED).choice(len(train), PCA_PICTURES, replace=False))
    flat = np.asarray(train[rows]).reshape(len(rows), -1).astype(np.float32)
    components = min(latent_size, *flat.shape)
    return PCA(components, svd_solver="randomized", random_state=SEED).fit(flat)


def _to_pixels(values: NDArray[Any], shape: tuple[int, ...]) -> Pixels:
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels.reshape(-1, *shape[1:])

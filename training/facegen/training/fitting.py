"""What is fitted to the latents of a trained model: priors of its pictures, and directions."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facegen.training.autoencoder import Autoencoder
from facegen.training.data.labels import Labels, label_slug
from facegen.training.directions import Directions, fit_directions
from facegen.training.errors import ConfigurationError
from facegen.training.expression.model import ExpressionModel
from facegen.training.latents import encode_pictures
from facegen.training.mesh.latents import encode_meshes
from facegen.training.mesh.model import MeshAutoencoder
from facegen.training.prior import MixturePrior, fit_mixture
from facegen.training.recipes import (
    ExpressionRecipe,
    MeshRecipe,
    MixtureConfig,
    PriorConfig,
    TrainConfig,
)
from facegen.training.run import RunPaths

__all__ = [
    "Fitted",
    "check_labels",
    "fit_autoencoder",
    "fit_label_priors",
    "fit_mesh_prior",
    "fit_prior",
]

_LEAST_PICTURES = 10
"""Fewer would be a portrait of somebody, not a kind of face."""

_LATENTS_A_VALUE = 8
"""Latents that a label's component has for each latent value, where no candidates are given: with
128 values, two components for 2,332 latents of blond people gained 2 nats over one, five lost."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was fitted to a model's latents.

    Attributes:
        prior: The mixture of all pictures.
        label_priors: The mixtures of pictures with one label, by their exported names.
        directions: Of an autoencoder's latents.
    """

    prior: MixturePrior
    label_priors: Mapping[str, MixturePrior]
    directions: Directions | None

    def save(self, paths: RunPaths) -> None:
        """Write each into its run folder in one move, in place of what was fitted before.

        What was measured of earlier directions goes: it is no longer true.
        """
        self.prior.save(paths.prior)
        paths.effects.unlink(missing_ok=True)
        if self.directions is not None:
            self.directions.save(paths.directions)
        if self.label_priors:
            paths.label_priors.mkdir(exist_ok=True)
        for name, prior in self.label_priors.items():
            prior.save(paths.label_priors / f"{name}.npz")
        for path in paths.label_priors.glob("*.npz"):
            if path.stem not in self.label_priors:
                path.unlink()


def check_labels(labels: Labels, config: PriorConfig) -> None:
    """Refuse labels that no prior can be fitted to, before any work.

    Args:
        labels: Of the training pictures.
        config: Says of which a prior is wanted.

    Raises:
        ConfigurationError: The data set has no such label, or too few pictures with it.
    """
    for label in config.labels:
        count = int(labels.having(label).sum())
        if count < _LEAST_PICTURES:
            raise ConfigurationError(
                "prior.labels",
                f'"{label}": {count} training pictures have it, {_LEAST_PICTURES} are needed; '
                "leave it out",
            )


def fit_autoencoder(
    model: Autoencoder,
    pixels: NDArray[np.uint8],
    *,
    labels: Labels,
    config: TrainConfig,
    prior: MixturePrior | None = None,
) -> Fitted:
    """Fit priors and directions to an autoencoder's latents of its training pictures.

    Args:
        model: The trained model.
        pixels: Training pictures, (N, H, W, C) uint8.
        labels: Theirs; there may be none.
        config: The recipe.
        prior: The mixture of all pictures, if that is known.

    Raises:
        ConfigurationError: As for `check_labels`.
    """
    check_labels(labels, config.prior)
    latents = _latents(model, pixels, config)
    if prior is None:
        prior = _fit(latents, config.prior, seed=config.seed)
    label_priors = fit_label_priors(latents, labels, config.prior, seed=config.seed)
    drawn = config.prior.latents == "samples" and config.model.kind == "vae"
    means = encode_pictures(model, pixels, flip=config.prior.flip) if drawn else latents
    return Fitted(prior, label_priors, fit_directions(means, labels))


def fit_prior(
    model: ExpressionModel, pixels: NDArray[np.uint8], config: ExpressionRecipe
) -> Fitted:
    """Fit the mixture to an expression model's latents of pictures (N, H, W, C)."""
    latents = _latents(model, pixels, config)
    return Fitted(_fit(latents, config.prior, seed=config.seed), {}, None)


def fit_mesh_prior(
    model: MeshAutoencoder, vertices: NDArray[np.float32], config: MeshRecipe
) -> Fitted:
    """Fit the mixture to a mesh autoencoder's latents of meshes (N, V, 3)."""
    seed = config.seed if config.prior.latents == "samples" else None
    latents = encode_meshes(model, vertices, seed=seed)
    return Fitted(_fit(latents, config.prior, seed=config.seed), {}, None)


def fit_label_priors(
    latents: NDArray[np.float32], labels: Labels, config: PriorConfig, *, seed: int
) -> dict[str, MixturePrior]:
    """Fit a mixture to the latents of the pictures with each label that has a prior.

    The covariances are shrunk towards that of all latents, so that few pictures are enough.

    Args:
        latents: (N, Z) of pictures, or (2N, Z) with those of the mirrored pictures last.
        labels: Of the N pictures.
        config: Which labels, and how many components; without candidates as many as `components`
            and eight latents for each of the Z values of each component allow.
        seed: Of the initialisation.

    Returns:
        Mixtures by their exported names.
    """
    found = {}
    for label in config.labels:
        chosen = labels.having(label)
        own = latents[np.resize(chosen, len(latents))]
        most = max(1, len(own) // (_LATENTS_A_VALUE * latents.shape[1]))
        _log.info("fitting a prior label=%s pictures=%d", label, chosen.sum())
        found[label_slug(label)] = fit_mixture(
            own,
            min(config.components, most),
            candidates=config.candidates,
            seed=seed,
            reference=latents,
        )
    return found


def _latents(
    model: Autoencoder | ExpressionModel,
    pixels: NDArray[np.uint8],
    config: TrainConfig | ExpressionRecipe,
) -> NDArray[np.float32]:
    seed = config.seed if config.prior.latents == "samples" else None
    return encode_pictures(model, pixels, seed=seed, flip=config.prior.flip)


def _fit(latents: NDArray[np.float32], config: MixtureConfig, *, seed: int) -> MixturePrior:
    _log.info("fitting the prior latents=%d", len(latents))
    return fit_mixture(latents, config.components, candidates=config.candidates, seed=seed)

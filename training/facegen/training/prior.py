"""The mixture of Gaussians that is fitted to a model's latents after training."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

__all__ = ["MixturePrior", "fit_mixture"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MixturePrior:
    """A Gaussian mixture over latents.

    Ghosh et al. (2020), From Variational to Deterministic Autoencoders,
    https://arxiv.org/abs/1903.12436, section 4: ex-post density estimation.

    Attributes:
        weights: (K,), sum 1.
        means: (K, Z).
        scale_trils: (K, Z, Z), lower triangular roots of the covariances.
    """

    weights: NDArray[np.float32]
    means: NDArray[np.float32]
    scale_trils: NDArray[np.float32]

    def sample(
        self, noise: NDArray[np.float32], uniform: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Turn noise into latents.

        Args:
            noise: Standard normal, (B, Z).
            uniform: In [0, 1), (B,) or (B, 1): chooses the component.

        Returns:
            (B, Z) float32.
        """
        edges = np.cumsum(self.weights, dtype=np.float64)[:-1]
        component = np.searchsorted(edges, uniform.reshape(-1), side="right")
        moved = np.einsum("bij,bj->bi", self.scale_trils[component], noise)
        latents: NDArray[np.float32] = (self.means[component] + moved).astype(np.float32)
        return latents

    def save(self, path: Path) -> None:
        """Write the mixture as .npz."""
        np.savez(path, weights=self.weights, means=self.means, scale_trils=self.scale_trils)

    @classmethod
    def load(cls, path: Path) -> "MixturePrior":
        """Read a mixture that `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["weights"], file["means"], file["scale_trils"])


def fit_mixture(
    latents: NDArray[np.float32],
    components: int,
    *,
    candidates: Sequence[int] = (),
    seed: int = 0,
) -> MixturePrior:
    """Fit a full-covariance mixture by expectation maximisation.

    Latents are standardised first, so that regularisation means the same for any model.

    Args:
        latents: (N, Z).
        components: Gaussians, at most N.
        candidates: Component counts to choose from by the Bayesian information criterion instead.
        seed: Of the k-means initialisation.

    Returns:
        The mixture, in the latents' own scale.
    """
    center, scale = latents.mean(0), latents.std(0) + 1e-6
    normal = ((latents - center) / scale).astype(np.float64)
    best: tuple[float, GaussianMixture] | None = None
    for count in candidates or (components,):
        mixture = GaussianMixture(
            min(count, len(latents)), covariance_type="full", reg_covar=1e-4, random_state=seed
        )
        mixture.fit(normal)
        criterion = mixture.bic(normal) if candidates else 0.0
        if candidates:
            _log.info("mixture fitted components=%d bic=%.0f", count, criterion)
        if best is None or criterion < best[0]:
            best = criterion, mixture
    assert best is not None
    mixture = best[1]
    return MixturePrior(
        mixture.weights_.astype(np.float32),
        (mixture.means_ * scale + center).astype(np.float32),
        (np.linalg.cholesky(mixture.covariances_) * scale[:, None]).astype(np.float32),
    )

"""Measures a finished run on pictures it has not seen, beside cheap rivals and the floor."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torchmetrics.functional.image import structural_similarity_index_measure

from facegen.training.distances import frechet_distance, kernel_distance
from facegen.training.errors import DatasetError
from facegen.training.features import FEATURE_NETWORK, FeatureNetwork
from facegen.training.latents import decode_latents, encode_pictures
from facegen.training.run import Run, load_run

__all__ = ["evaluate_run"]

Pixels = NDArray[np.uint8]

_SEED = 20_140_501

_log = logging.getLogger(__name__)


def evaluate_run(folder: Path, data: Path, *, count: int = 1000) -> dict[str, float | str]:
    """Measure reconstruction and generation, and write `metrics.json` into the run folder.

    Names say what they measure: `psnr_db` and `ssim` of reconstructions; `frechet_…` and
    `kernel_…` of the reconstructions, of samples from the mixture and from N(0, I), and for
    comparison of training pictures (`floor`, the least that any model can reach), of PCA's
    reconstructions and of Gaussian samples in PCA space at the same latent size.

    Args:
        folder: A finished run folder.
        data: The folder that holds its data set.
        count: Validation pictures and samples, at least 2; fewer where the split has fewer.

    Returns:
        What was written: numbers by name, and their `protocol`.

    Raises:
        RunError: The run is missing or not finished.
        DatasetError: Its data is missing, or has fewer than two validation pictures.
    """
    run = load_run(folder)
    pixels = run.faces(data).pixels
    real, train = pixels["validation"][:count], pixels["train"]
    if len(real) < 2:
        raise DatasetError(
            run.config.data.reader,
            looked_for="at least 2 validation pictures",
            where=data,
            remedy="Give a data set with more pictures.",
        )
    pictures = _pictures(run, real, np.asarray(train))
    metrics: dict[str, float | str] = {
        **_fidelity(real, pictures["reconstruction"]),
        **_fidelity(real, pictures["pca_reconstruction"], prefix="pca_"),
        **_distances(real, pictures),
        "protocol": _protocol(run, len(real)),
    }
    temporary = run.paths.metrics.with_suffix(".tmp")
    temporary.write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
    temporary.replace(run.paths.metrics)
    return metrics


def _pictures(run: Run, real: Pixels, train: Pixels) -> dict[str, Pixels]:
    """The sets to compare with the real pictures, as many each, (N, H, W, C) uint8."""
    count, latent_size = len(real), run.config.model.latent_size
    random = np.random.default_rng(_SEED)
    noise = random.standard_normal((count, latent_size), dtype=np.float32)
    uniform = random.random(count, dtype=np.float32)
    others = random.permutation(len(train))[:count]
    flat = train.reshape(len(train), -1).astype(np.float32)
    components = min(latent_size, *flat.shape)
    pca = PCA(components, svd_solver="randomized", random_state=_SEED).fit(flat)
    gaussian = noise[:, :components] * np.sqrt(pca.explained_variance_)
    rebuilt = pca.inverse_transform(pca.transform(real.reshape(count, -1).astype(np.float32)))
    return {
        "floor": train[others],
        "reconstruction": decode_latents(run.model, encode_pictures(run.model, real)),
        "mixture": decode_latents(run.model, run.prior.sample(noise, uniform)),
        "normal": decode_latents(run.model, noise),
        "pca_reconstruction": _to_pixels(rebuilt, real.shape),
        "pca_gaussian": _to_pixels(pca.inverse_transform(gaussian), real.shape),
    }


def _to_pixels(values: NDArray[Any], shape: tuple[int, ...]) -> Pixels:
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels.reshape(-1, *shape[1:])


def _fidelity(real: Pixels, rebuilt: Pixels, *, prefix: str = "") -> dict[str, float]:
    error = np.square(real.astype(np.float64) - rebuilt).mean(axis=(1, 2, 3)) / 255**2
    x, y = (torch.from_numpy(p).permute(0, 3, 1, 2) / 255.0 for p in (real, rebuilt))
    ssim = structural_similarity_index_measure(y, x, data_range=1.0)
    return {
        f"{prefix}psnr_db": float(-10 * np.log10(np.maximum(error, 1e-10)).mean()),
        f"{prefix}ssim": float(ssim),  # type: ignore[arg-type]  # a tensor unless full images are asked for
    }


def _distances(real: Pixels, pictures: Mapping[str, Pixels]) -> dict[str, float]:
    network = FeatureNetwork()
    reference = network.of_images(real)
    found = {}
    for name, fake in pictures.items():
        features = network.of_images(fake)
        found[f"frechet_{name}"] = frechet_distance(reference, features)
        found[f"kernel_{name}"] = kernel_distance(reference, features)
        _log.info("measured set=%s frechet=%.1f", name, found[f"frechet_{name}"])
    return found


def _protocol(run: Run, count: int) -> str:
    size = run.config.model.image_size
    return (
        f"{count} validation pictures of {run.config.data.reader}, central square of "
        f"{run.facts['crop']:.4g} of the shorter side, {size} × {size}, 8 bits. "
        "PSNR: mean over pictures; SSIM: Gaussian window of 11. Fréchet and kernel distance "
        f"(× 1000): against {count} samples, seed {_SEED}, features of {FEATURE_NETWORK}; "
        f"floor: {count} training pictures. PCA: fitted to the training pictures, "
        f"{run.config.model.latent_size} components."
    )

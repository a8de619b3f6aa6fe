"""Grids of reconstructions and samples after every epoch."""

from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image

from facegen.training.latents import decode_latents, encode_pictures
from facegen.training.module import AutoencoderModule
from facegen.training.prior import fit_mixture

__all__ = ["Pictures", "picture_grid"]

_PAIRS_ACROSS = 4
_FITTED_COUNT = 2000


class Pictures(Callback):
    """Writes reconstructions-EEE.png (originals on the left of each pair) and samples-EEE.png.

    Samples come from the prior of the run that this one refines. Without one, a VAE's are decoded
    from N(0, I), an autoencoder's from one Gaussian fitted to the latents of training pictures.
    Pictures and noise are the same every epoch, so that epochs can be compared.

    Args:
        folder: Where the PNGs go.
        train: Training pictures, (N, H, W, C) uint8.
        validation: Validation pictures, likewise; the first ones are reconstructed.
        count: Faces in a grid of samples.
        seed: Decides the noise.
    """

    def __init__(
        self,
        folder: Path,
        train: NDArray[np.uint8],
        *,
        validation: NDArray[np.uint8],
        count: int,
        seed: int,
    ) -> None:
        self.folder = folder
        self.train = train[:_FITTED_COUNT]
        self.originals = validation[: max(1, count // 2)]
        self.count = count
        self.seed = seed

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw with the averaged weights, which validation has swapped in."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, AutoencoderModule)
        model = pl_module.model
        reconstructions = decode_latents(model, encode_pictures(model, self.originals))
        pairs = np.stack([self.originals, reconstructions], 1)
        pairs = pairs.reshape(-1, *self.originals.shape[1:])
        samples = decode_latents(model, self._latents(pl_module))
        self.folder.mkdir(parents=True, exist_ok=True)
        epoch = trainer.current_epoch + 1
        across = round(self.count**0.5) or 1
        for name, pictures, columns in (
            ("reconstructions", pairs, 2 * _PAIRS_ACROSS),
            ("samples", samples, across),
        ):
            grid = picture_grid(pictures, columns)
            Image.fromarray(grid).save(self.folder / f"{name}-{epoch:03d}.png")

    def _latents(self, module: AutoencoderModule) -> NDArray[np.float32]:
        latent_size = module.config.model.latent_size
        random = np.random.default_rng(self.seed)
        noise = random.standard_normal((self.count, latent_size), dtype=np.float32)
        if module.prior is not None:
            return module.prior.sample(noise, random.random(self.count, dtype=np.float32))
        if module.config.model.kind == "vae":
            return noise
        gaussian = fit_mixture(encode_pictures(module.model, self.train), 1)
        return gaussian.sample(noise, np.zeros(self.count, dtype=np.float32))


def picture_grid(pictures: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Lay pictures out in rows, left to right.

    Args:
        pictures: (N, H, W, C) uint8.
        columns: Pictures in a row.

    Returns:
        (rows · H, columns · W[, 3]) uint8, black where there is no picture; grey ones lose their
        last axis.
    """
    count, height, width, channels = pictures.shape
    rows = -(-count // columns)
    canvas = np.zeros((rows * columns, height, width, channels), np.uint8)
    canvas[:count] = pictures
    grid = canvas.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    grid = grid.reshape(rows * height, columns * width, channels)
    return grid[..., 0] if channels == 1 else grid

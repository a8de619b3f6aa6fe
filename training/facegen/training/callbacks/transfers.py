"""Sheets of transferred expressions after every epoch."""

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from facegen.training.callbacks.pictures import picture_grid
from facegen.training.expression.model import ExpressionModel, apply_edit
from facegen.training.module import to_input

__all__ = ["Transfers"]


class Transfers(Callback):
    """Writes transfers-EEE.png and samples-EEE.png.

    A row of transfers is a validation face and what every decoder makes of it; the faces' own
    expressions take turns. A row of samples is one expression, its contents decoded from the same
    draws of N(0, I) as in the other rows. Faces and draws are the same every epoch.

    Args:
        folder: Where the PNGs go.
        images: Validation faces, (N, H, W, 1) uint8.
        labels: Their expressions, (N,).
        count: Rows of transfers, and samples in a row.
        seed: Decides the draws.
    """

    def __init__(
        self,
        folder: Path,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        *,
        count: int,
        seed: int,
    ) -> None:
        self.folder = folder
        turns = np.empty(len(labels), dtype=np.int64)
        for label in np.unique(labels):
            turns[labels == label] = np.arange((labels == label).sum())
        self.originals = images[np.lexsort((labels, turns))[:count]]
        self.count = count
        self.seed = seed

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw with the averaged weights, which validation has swapped in."""
        if not trainer.is_global_zero:
            return
        model = pl_module.model
        assert isinstance(model, ExpressionModel)
        self.folder.mkdir(parents=True, exist_ok=True)
        epoch = trainer.current_epoch + 1
        for name, pictures, columns in (
            ("transfers", self._transfers(model, pl_module.device), 1 + len(model.decoders)),
            ("samples", self._samples(model, pl_module.device), self.count),
        ):
            grid = picture_grid(pictures, columns)
            Image.fromarray(grid).save(self.folder / f"{name}-{epoch:03d}.png")

    @torch.no_grad()
    def _transfers(self, model: ExpressionModel, device: torch.device) -> NDArray[np.uint8]:
        x = to_input(torch.from_numpy(self.originals).to(device))
        posterior, features = model.encoder(x)
        edited = [
            apply_edit(x, decoder(posterior.mu, features)) for decoder in model.decoders.values()
        ]
        return _pixels(torch.stack([x, *edited], 1).flatten(0, 1))

    @torch.no_grad()
    def _samples(self, model: ExpressionModel, device: torch.device) -> NDArray[np.uint8]:
        random = np.random.default_rng(self.seed)
        noise = random.standard_normal((self.count, model.config.latent_size), dtype=np.float32)
        z = torch.from_numpy(noise).to(device)
        contents = [d(z, model.no_features(z)).content for d in model.decoders.values()]
        return _pixels(torch.cat(contents))


def _pixels(x: Tensor) -> NDArray[np.uint8]:
    pixels = x.float().clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    found: NDArray[np.uint8] = pixels.cpu().numpy()
    return found

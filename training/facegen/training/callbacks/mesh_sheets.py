"""Sheets of reconstructed meshes after every epoch."""

from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from facegen.training.mesh.latents import decode_meshes, encode_meshes
from facegen.training.mesh.model import MeshAutoencoder
from facegen.training.mesh.pictures import comparison_sheet
from facegen.training.mesh.sheets import png
from facegen.training.storage import write_atomically

__all__ = ["MeshSheets"]

_LIMIT_MM = 5.0
"""The same every epoch, so that sheets can be compared."""


class MeshSheets(Callback):
    """Writes reconstructions-EEE.png: the same validation meshes, what comes back, the error.

    Args:
        folder: Where the PNGs go.
        validation: Validation meshes, (N, V, 3) in millimetres.
        faces: Triangles, (F, 3).
        count: Meshes on a sheet.
    """

    def __init__(
        self,
        folder: Path,
        validation: NDArray[np.float32],
        faces: NDArray[np.int32],
        *,
        count: int,
    ) -> None:
        self.folder = folder
        self.originals = validation[:count]
        self.faces = faces

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw with the averaged weights, which validation has swapped in."""
        if not trainer.is_global_zero:
            return
        model = pl_module.model
        assert isinstance(model, MeshAutoencoder)
        self.folder.mkdir(parents=True, exist_ok=True)
        sheet = comparison_sheet(
            self.originals,
            decode_meshes(model, encode_meshes(model, self.originals)),
            self.faces,
            limit_mm=_LIMIT_MM,
            columns=2,
            height_px=160,
        )
        name = f"reconstructions-{trainer.current_epoch + 1:03d}.png"
        write_atomically(self.folder / name, png(sheet))

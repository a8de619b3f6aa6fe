"""Sheets of reconstructed meshes after every epoch."""

import logging
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from facegen.training.errors import RenderingError
from facegen.training.mesh.latents import decode_meshes, encode_meshes
from facegen.training.mesh.model import MeshAutoencoder
from facegen.training.mesh.pictures import comparison_sheet
from facegen.training.mesh.sheets import png
from facegen.training.storage import write_atomically

__all__ = ["MeshSheets"]

_LIMIT_MM = 5.0
"""The same every epoch, so that sheets can be compared."""

_log = logging.getLogger(__name__)


class MeshSheets(Callback):
    """Writes reconstructions-EEE.png: the same validation meshes, what comes back, the error.

    On a machine that cannot draw meshes a warning says so, and training goes on.

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
        name = f"reconstructions-{trainer.current_epoch + 1:03d}.png"
        try:
            self._draw(model, self.folder / name)
        except RenderingError as error:
            if trainer.current_epoch == 0:
                _log.warning("no pictures error=%s", error)

    def _draw(self, model: MeshAutoencoder, path: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        sheet = comparison_sheet(
            self.originals,
            decode_meshes(model, encode_meshes(model, self.originals)),
            self.faces,
            limit_mm=_LIMIT_MM,
            columns=2,
            height_px=160,
        )
        write_atomically(path, png(sheet))

"""Edits of many faces, in batches, with what is needed to look into them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from facegen.training.expression.model import ExpressionModel, apply_edit, fields
from facegen.training.expression.sources import Pixels
from facegen.training.module import to_input

__all__ = ["Transfer", "Transferred", "transfer_with"]

_BATCH_SIZE = 100


class Transferred(NamedTuple):
    """Edited faces.

    Attributes:
        images: (N, H, W, C) uint8.
        mask: (N, H, W) in [0, 1]: how much of the content shows, as applied.
        flow: (N, H, W, 2): where the pixel comes from, as applied, to the right and down, as
            fractions of the side.
    """

    images: Pixels
    mask: NDArray[np.float32]
    flow: NDArray[np.float32]


Transfer = Callable[[Pixels, str, float], Transferred]
"""Faces (N, H, W, C), the expression to give them and the strength."""


def transfer_with(model: ExpressionModel) -> Transfer:
    """The transfer of a model in evaluation mode, on its own device, from the posteriors' means."""

    @torch.no_grad()
    def transfer(images: Pixels, expression: str, strength: float) -> Transferred:
        device = next(model.parameters()).device
        parts = []
        for start in range(0, len(images), _BATCH_SIZE):
            x = to_input(torch.tensor(images[start : start + _BATCH_SIZE], device=device))
            encoding = model.encoder(x)
            edit = model.decoders[expression](encoding.posterior.mu, encoding.features)
            y = apply_edit(x, edit, strength).clamp(0, 1).mul(255).round().to(torch.uint8)
            mask, flow = fields(edit, x.shape[-1], strength)
            rows = (y.permute(0, 2, 3, 1), mask[:, 0], flow.permute(0, 2, 3, 1))
            parts.append([it.cpu().numpy() for it in rows])
        if not parts:
            shape = images.shape[:3]
            return Transferred(images, np.zeros(shape, "f4"), np.zeros((*shape, 2), "f4"))
        return Transferred(*(np.concatenate(it) for it in zip(*parts, strict=True)))

    return transfer

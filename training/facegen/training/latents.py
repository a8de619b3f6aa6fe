"""Latents of many pictures, and pictures of many latents, in batches."""

import numpy as np
import torch
from numpy.typing import NDArray

from facegen.training.autoencoder import Autoencoder, Posterior, reparameterize
from facegen.training.expression.model import ExpressionModel
from facegen.training.module import to_input
from facegen.training.randomness import generator

__all__ = ["decode_latents", "encode_pictures"]

_BATCH_SIZE = 128


@torch.no_grad()
def encode_pictures(
    model: Autoencoder | ExpressionModel,
    pixels: NDArray[np.uint8],
    *,
    seed: int | None = None,
    flip: bool = False,
) -> NDArray[np.float32]:
    """Encode pictures with a model in evaluation mode.

    Args:
        model: The model, on any device.
        pixels: (N, H, W, C) uint8.
        seed: Draws from the posteriors; None takes their means.
        flip: Encode the mirrored pictures too.

    Returns:
        (N, Z), or (2N, Z) with the mirrored ones last.
    """
    device = next(model.parameters()).device
    found = []
    for mirrored in (False, True) if flip else (False,):
        for start in range(0, len(pixels), _BATCH_SIZE):
            batch = torch.tensor(pixels[start : start + _BATCH_SIZE], device=device)
            encoded = model.encoder(to_input(batch.flip(2) if mirrored else batch))
            posterior = encoded if isinstance(encoded, Posterior) else encoded.posterior
            noise = None
            if seed is not None:
                random = generator(seed, f"posterior-{mirrored}", start)
                noise = torch.randn(posterior.mu.shape, generator=random).to(device)
            found.append(reparameterize(posterior, noise).float().cpu().numpy())
    return np.concatenate(found)


@torch.no_grad()
def decode_latents(model: Autoencoder, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Decode latents with a model in evaluation mode.

    Args:
        model: The model, on any device.
        latents: (N, Z).

    Returns:
        (N, H, W, C) uint8: clamped, rounded half to even.
    """
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(latents), _BATCH_SIZE):
        z = torch.from_numpy(latents[start : start + _BATCH_SIZE]).to(device)
        x = model.decoder(z).float().clamp(0, 1).mul(255).round().to(torch.uint8)
        found.append(x.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(found)

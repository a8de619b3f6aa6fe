"""Between arrays of meshes and arrays of latents, batch by batch."""

import numpy as np
import torch
from numpy.typing import NDArray

from facegen.training.mesh.model import MeshAutoencoder
from facegen.training.randomness import generator, normal

__all__ = ["decode_meshes", "encode_meshes"]

_BATCH_SIZE = 32


@torch.no_grad()
def encode_meshes(
    model: MeshAutoencoder, vertices: NDArray[np.float32], *, seed: int | None = None
) -> NDArray[np.float32]:
    """Encode meshes.

    Args:
        model: In evaluation mode.
        vertices: (N, V, 3) in millimetres.
        seed: Draws from a VAE's posteriors; None takes their means.

    Returns:
        (N, Z).
    """
    device = model.encoder.mean.device
    random = None if seed is None else generator(seed, "posterior", 0, device=device)
    parts = []
    for start in range(0, len(vertices), _BATCH_SIZE):
        batch = torch.from_numpy(vertices[start : start + _BATCH_SIZE]).to(device)
        mu, logvar = model.encoder(batch)
        if random is not None and logvar is not None:
            mu = mu + normal(*mu.shape, random=random) * torch.exp(logvar / 2)
        parts.append(mu.cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def decode_meshes(model: MeshAutoencoder, latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Decode latents (N, Z) to meshes (N, V, 3) in millimetres."""
    device = model.encoder.mean.device
    parts = [
        model.decoder(torch.from_numpy(latents[start : start + _BATCH_SIZE]).to(device))
        for start in range(0, len(latents), _BATCH_SIZE)
    ]
    return torch.cat(parts).cpu().numpy()

"""Encoder and decoder with the pictures' pre- and post-processing inside, as torch modules.

Each is a pure function of its inputs, row by row: no random operator, no state.
"""

import torch
from torch import Tensor, nn

__all__ = ["DecoderGraph", "EncoderGraph"]


class EncoderGraph(nn.Module):
    """`image` uint8 (B, H, W, C) to `mu` and, for a VAE, `logvar`, float32 (B, Z).

    Args:
        encoder: Takes float32 (B, C, H, W) in [0, 1] and returns a posterior (mu, logvar or None).
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Encode pictures (B, H, W, C)."""
        x = image.permute(0, 3, 1, 2).to(torch.float32) / 255.0  # (B, C, H, W)
        mu, logvar = self.encoder(x)
        return mu if logvar is None else (mu, logvar)


class DecoderGraph(nn.Module):
    """`latent` float32 (B, Z) to `image` uint8 (B, H, W, C).

    Args:
        decoder: Returns float32 (B, C, H, W), black at 0 and white at 1, not clamped.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: Tensor) -> Tensor:
        """Decode latents (B, Z); values half-way between two levels go to the even one."""
        x: Tensor = self.decoder(latent).clamp(0.0, 1.0) * 255.0  # (B, C, H, W)
        return x.round().to(torch.uint8).permute(0, 2, 3, 1)  # (B, H, W, C)

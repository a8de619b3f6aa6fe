"""The graphs with the pictures' pre- and post-processing inside, as torch modules.

Each is a pure function of its inputs, row by row: no random operator, no state.
"""

import torch
from torch import Tensor, nn

__all__ = [
    "AlignerGraph",
    "DecoderGraph",
    "EncoderGraph",
    "ExpressionDecoderGraph",
    "ExpressionEncoderGraph",
]


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
        mu, logvar = self.encoder(_from_pixels(image))
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
        """Decode latents (B, Z)."""
        return _to_pixels(self.decoder(latent))


class ExpressionEncoderGraph(nn.Module):
    """`image` uint8 (B, H, W, 1) to `mu`, `logvar` (B, Z) and `features` (B, F, 12, 12), float32.

    Args:
        encoder: Takes float32 (B, 1, H, W) in [0, 1] and returns an `Encoding`.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode pictures (B, H, W, 1)."""
        (mu, logvar), features = self.encoder(_from_pixels(image))
        return mu, logvar, features


class ExpressionDecoderGraph(nn.Module):
    """`latent` (B, Z) and `features` (B, F, 12, 12) to the parts of an edit.

    These are `image` uint8 (B, H, W, 1), the content; `mask` float32 (B, 24, 24, 1) in [0, 1]; and
    `flow` float32 (B, 24, 24, 2), to the right and down, as fractions of the side.

    Args:
        decoder: Takes latents and features, float32, and returns an `Edit`.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decode latents (B, Z) with the features of the picture to edit, or zeros."""
        content, mask, flow = self.decoder(latent, features)
        return _to_pixels(content), mask.permute(0, 2, 3, 1), flow.permute(0, 2, 3, 1)


class AlignerGraph(nn.Module):
    """`image` uint8 (B, 64, 64, 1) to `points` float32 (B, 5, 2), right and down in [0, 1].

    Args:
        aligner: Takes float32 (B, 1, 64, 64) in [0, 1].
    """

    def __init__(self, aligner: nn.Module) -> None:
        super().__init__()
        self.aligner = aligner

    def forward(self, image: Tensor) -> Tensor:
        """Find the points of faces in squares (B, 64, 64, 1)."""
        points: Tensor = self.aligner(_from_pixels(image))
        return points


def _from_pixels(image: Tensor) -> Tensor:
    return image.permute(0, 3, 1, 2).to(torch.float32) / 255.0  # (B, C, H, W)


def _to_pixels(x: Tensor) -> Tensor:
    """To uint8 (B, H, W, C); values half-way between two levels go to the even one."""
    x = x.clamp(0.0, 1.0) * 255.0  # (B, C, H, W)
    return x.round().to(torch.uint8).permute(0, 2, 3, 1)

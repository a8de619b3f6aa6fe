"""A plain VAE after PyTorch-VAE's description, trained as it says there.

Subramanian (2020), PyTorch-VAE, https://github.com/AntixK/PyTorch-VAE, `configs/vae.yaml`: strided
convolutions 32 to 512 with batch normalisation and LeakyReLU both ways, a latent of 128, tanh on
pictures in [-1, 1], mean squared error + 0.00025 · KL, Adam at 0.005, decay 0.95 an epoch, batches
of 64, pictures mirrored.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PlainTraining", "PlainVAE", "train_plain_vae"]

Pixels = NDArray[np.uint8]
Latents = NDArray[np.float32]

_WIDTHS = (32, 64, 128, 256, 512)
_LATENT_SIZE = 128
_KL_WEIGHT = 0.00025
_BATCH_SIZE = 64


def _down(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1)
    return [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU()]


def _up(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
    return [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU()]


class PlainVAE(nn.Module):
    """The network of the description, for 64 × 64 RGB."""

    def __init__(self) -> None:
        super().__init__()
        down = [layer for a, b in pairwise((3, *_WIDTHS)) for layer in _down(a, b)]
        self.encoder = nn.Sequential(*down, nn.Flatten())  # (B, 2048)
        self.mu = nn.Linear(4 * _WIDTHS[-1], _LATENT_SIZE)
        self.logvar = nn.Linear(4 * _WIDTHS[-1], _LATENT_SIZE)
        widths = _WIDTHS[::-1]
        up = [layer for a, b in pairwise((*widths, widths[-1])) for layer in _up(a, b)]
        last = nn.Conv2d(widths[-1], 3, kernel_size=3, padding=1)
        begin = nn.Linear(_LATENT_SIZE, 4 * widths[0])
        unflatten = nn.Unflatten(1, (widths[0], 2, 2))
        self.decoder = nn.Sequential(begin, unflatten, *up, last, nn.Tanh())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct (B, 3, 64, 64) in [-1, 1]; means and logarithms of variances besides."""
        features = self.encoder(x)
        mu, logvar = self.mu(features), self.logvar(features)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.decoder(z), mu, logvar

    @torch.no_grad()
    def encode(self, pixels: Pixels) -> Latents:
        """The means of posteriors, (N, Z), of pictures (N, H, W, C)."""
        batches = torch.split(torch.from_numpy(pixels), _BATCH_SIZE)
        return torch.cat([self.mu(self.encoder(_to_input(b))) for b in batches]).numpy()

    @torch.no_grad()
    def decode(self, latents: Latents) -> Pixels:
        """Pictures (N, H, W, C) of latents (N, Z)."""
        batches = torch.split(torch.from_numpy(latents), _BATCH_SIZE)
        x = torch.cat([self.decoder(z) for z in batches])
        pixels: Pixels = ((x + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return pixels


@dataclass(frozen=True, slots=True)
class PlainTraining:
    """A trained model, the seconds it took, and the epochs."""

    model: PlainVAE
    seconds: float
    epochs: float


def train_plain_vae(train: Pixels, *, minutes: float) -> PlainTraining:
    """Train for so long, in whole steps."""
    torch.manual_seed(0)
    model = PlainVAE().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
    began, steps, per_epoch = time.monotonic(), 0, len(train) // _BATCH_SIZE
    for x in _batches(train):
        reconstruction, mu, logvar = model(x)
        kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean()
        loss = functional.mse_loss(reconstruction, x) + _KL_WEIGHT * kl
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        steps += 1
        if steps % per_epoch == 0:
            scheduler.step()
        if time.monotonic() - began > 60 * minutes:
            break
    return PlainTraining(model.eval(), time.monotonic() - began, steps / per_epoch)


def _batches(train: Pixels) -> Iterator[Tensor]:
    pixels = torch.from_numpy(train)
    while True:
        for rows in torch.split(torch.randperm(len(train)), _BATCH_SIZE):
            if len(rows) == _BATCH_SIZE:
                mirrored = torch.rand(len(rows)) < 0.5
                batch = pixels[rows]
                yield _to_input(torch.where(mirrored[:, None, None, None], batch.flip(2), batch))


def _to_input(pictures: Tensor) -> Tensor:
    return pictures.permute(0, 3, 1, 2).float().div(127.5).sub(1)

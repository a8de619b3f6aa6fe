"""Trains one of pythae's models, with our network, in an environment of pythae's own.

    python pythae_peer.py PICTURES.npz OUT.npz --model vae --minutes 10 --threads 1

Reads `train` and `validation`, (N, H, W, C) uint8; writes `reconstruction`, `mixture`, `normal`,
`seconds` and `epochs`. It imports nothing of ours: the layers are written down again.
"""

import argparse
import tempfile
import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import RAE_L2, VAE, RAE_L2_Config, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.samplers import (
    GaussianMixtureSampler,
    GaussianMixtureSamplerConfig,
    NormalSampler,
)
from pythae.trainers import (
    BaseTrainer,
    BaseTrainerConfig,
    CoupledOptimizerTrainer,
    CoupledOptimizerTrainerConfig,
)
from torch import nn

WIDTHS = (32, 64, 128, 256, 512)
LATENT_SIZE = 128
COMPONENTS = 10
BATCH_SIZE = 64


class Encoder(BaseEncoder):  # type: ignore[misc]  # pythae has no types
    """Our encoder, as pythae wants it."""

    def __init__(self, *, variational: bool) -> None:
        super().__init__()
        self.latent_dim = LATENT_SIZE
        stages = []
        for a, b in pairwise((3, *WIDTHS)):
            convolution = nn.Conv2d(a, b, kernel_size=4, stride=2, padding=2, bias=False)
            stages += [convolution, nn.BatchNorm2d(b), nn.SiLU()]
        self.stages = nn.Sequential(*stages, nn.Flatten())
        self.mu = nn.Linear(WIDTHS[-1] * 9, LATENT_SIZE)
        self.logvar = nn.Linear(WIDTHS[-1] * 9, LATENT_SIZE) if variational else None

    def forward(self, x: Any) -> Any:
        """Encode (B, 3, 64, 64) in [0, 1]."""
        features = self.stages(x - 0.5)
        output = ModelOutput(embedding=self.mu(features))
        if self.logvar is not None:
            output["log_covariance"] = self.logvar(features)
        return output


class Decoder(BaseDecoder):  # type: ignore[misc]  # pythae has no types
    """Our decoder, as pythae wants it."""

    def __init__(self) -> None:
        super().__init__()
        widths = WIDTHS[::-1]
        stages: list[nn.Module] = [nn.Linear(LATENT_SIZE, widths[0] * 4)]
        stages.append(nn.Unflatten(1, (widths[0], 2, 2)))
        for a, b in pairwise((*widths, 3)):
            stages.append(nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1))
            stages.append(nn.SiLU())
        self.stages = nn.Sequential(*stages[:-1])

    def forward(self, z: Any) -> Any:
        """Decode (B, Z)."""
        return ModelOutput(reconstruction=self.stages(z) + 0.5)


def build(kind: str) -> Any:
    """One of pythae's models around our network."""
    options = {"input_dim": (3, 64, 64), "latent_dim": LATENT_SIZE}
    if kind == "vae":
        return VAE(VAEConfig(**options), encoder=Encoder(variational=True), decoder=Decoder())
    return RAE_L2(RAE_L2_Config(**options), encoder=Encoder(variational=False), decoder=Decoder())


def train(model: Any, kind: str, pictures: Any, *, epochs: int) -> float:
    """Train in pythae's own loop, and give the seconds it took."""
    dataset = BaseDataset(pictures, torch.zeros(len(pictures)))
    with tempfile.TemporaryDirectory() as folder:
        common = {
            "output_dir": folder,
            "num_epochs": epochs,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": BATCH_SIZE,
            "no_cuda": True,
        }
        if kind == "vae":
            trainer = BaseTrainer(model, dataset, training_config=BaseTrainerConfig(**common))
        else:
            config = CoupledOptimizerTrainerConfig(
                **common, decoder_optimizer_params={"weight_decay": 1e-4}
            )
            trainer = CoupledOptimizerTrainer(model, dataset, training_config=config)
        began = time.monotonic()
        trainer.train()
        return time.monotonic() - began


def to_input(pixels: Any) -> Any:
    """Turn (N, H, W, C) uint8 into (N, C, H, W) in [0, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)


def to_pixels(x: Any) -> Any:
    """Turn (N, C, H, W) back into (N, H, W, C) uint8."""
    pixels = x.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def main() -> None:
    """Train, reconstruct and sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures")
    parser.add_argument("out")
    parser.add_argument("--model", choices=["vae", "rae"], required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with np.load(options.pictures) as file:
        train_pictures, validation = to_input(file["train"]), to_input(file["validation"])
    epoch_seconds = train(build(options.model), options.model, train_pictures, epochs=1)
    epochs = max(1, round(60 * options.minutes / epoch_seconds))
    model = build(options.model)
    seconds = train(model, options.model, train_pictures, epochs=epochs)
    model.eval()
    mixture = GaussianMixtureSampler(model, GaussianMixtureSamplerConfig(n_components=COMPONENTS))
    mixture.fit(train_pictures)
    count = len(validation)
    with torch.no_grad():
        rebuilt = torch.cat(
            [
                model.decoder(model.encoder(x).embedding).reconstruction
                for x in validation.split(100)
            ]
        )
        drawn = mixture.sample(num_samples=count, batch_size=100, return_gen=True)
        normal = NormalSampler(model).sample(num_samples=count, batch_size=100, return_gen=True)
    np.savez(
        options.out,
        reconstruction=to_pixels(rebuilt),
        mixture=to_pixels(drawn),
        normal=to_pixels(normal),
        seconds=seconds,
        epochs=epochs,
    )


if __name__ == "__main__":
    main()

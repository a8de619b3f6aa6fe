"""The training loops that are raced, each in a process of its own: one line a step on stdout.

    python -m benchmarks.training_loops CONTESTANT --data data/celeba --out FOLDER

All train the network of facegen's `celeba-vae` preset on the same pictures, 64 a step, by squared
error and KL divergence. A line has the step's number; `benchmarks.training` starts, stops and times
these processes.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook

from facegen.training.autoencoder import Autoencoder, AutoencoderConfig
from facegen.training.convolutions import Convolution

BATCH_SIZE = 64
EPOCHS = 1000
"""More than a race takes."""


def facegen_loop(data: Path, out: Path, *changes: str, keep_memory: bool = True) -> None:
    """Ours as `facegen train` runs it: cached pictures, augmentation, EMA, guards, logs.

    Args:
        data: CelebA's folder.
        out: For the run folder.
        changes: Of the recipe.
        keep_memory: Keep the memory of one step for the next.
    """
    from facegen.training import load_config, train_run, trainer

    if not keep_memory:
        trainer.keep_freed_memory = lambda: False  # type: ignore[attr-defined]  # for the race alone

    settings = [
        f"data.root='{data}'",
        "loss.reconstruction=fixed",
        "loss.ssim_weight=0",
        "data.shift_px=0",
        f"batch_size={BATCH_SIZE}",
        f"epochs={EPOCHS}",
        *changes,
    ]
    config = load_config("celeba-vae", settings)
    train_run(config, out / "run", device="cpu", threads=torch.get_num_threads())


def _network() -> Autoencoder:
    """Our default network of PyTorch's own layers, for the others."""
    network = Autoencoder(AutoencoderConfig())
    for layer in network.modules():
        if isinstance(layer, Convolution):
            layer.__class__ = nn.Conv2d  # type: ignore[assignment]  # it adds no state
    return network


def pytorch_vae_loop(data: Path, out: Path, *, decoded: bool = False) -> None:
    """After PyTorch-VAE's description: Lightning, torchvision, four workers, Adam.

    https://github.com/AntixK/PyTorch-VAE: `VAEXperiment`, `VAEDataset` and `configs/vae.yaml`.

    Args:
        data: CelebA's folder.
        out: For logs and checkpoints.
        decoded: Take pictures that are decoded and of the right size already.
    """
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
    from lightning.pytorch.loggers import TensorBoardLogger
    from torch.utils.data import DataLoader

    class Experiment(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = _network()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            pictures, _ = batch
            outputs = self.model(pictures, torch.randn(len(pictures), 128))
            mu, logvar = outputs.posterior
            assert logvar is not None
            error = functional.mse_loss(outputs.reconstruction, pictures)
            kl = torch.mean(-0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp(), dim=1), dim=0)
            losses = {
                "loss": error + 0.00025 * kl,
                "Reconstruction_Loss": error.detach(),
                "KLD": -kl.detach(),
            }
            self.log_dict({name: value.item() for name, value in losses.items()}, sync_dist=True)
            return losses["loss"]

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.model.parameters(), lr=0.005, weight_decay=0.0)
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)]

    pictures = _DecodedPictures(data) if decoded else _JpegPictures(data)
    loader = DataLoader(pictures, batch_size=BATCH_SIZE, num_workers=4, shuffle=True)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        logger=TensorBoardLogger(out, name="VanillaVAE"),
        callbacks=[LearningRateMonitor(), ModelCheckpoint(save_top_k=2, monitor="loss")],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Experiment(), loader)


class _JpegPictures(torch.utils.data.Dataset[tuple[Tensor, float]]):
    """CelebA's files, decoded each time; crop and resize are for the size that they have."""

    def __init__(self, data: Path) -> None:
        from PIL import Image
        from torchvision import transforms  # type: ignore[import-untyped]  # it has no types

        self.files = sorted((data / "img_align_celeba").glob("*.jpg"))
        with Image.open(self.files[0]) as first:
            side = round(148 * first.width / 178)
        self.transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.CenterCrop(side),
                transforms.Resize(64),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        from torchvision.datasets.folder import (  # type: ignore[import-untyped]  # likewise
            default_loader,
        )

        return self.transform(default_loader(self.files[index])), 0.0


class _DecodedPictures(torch.utils.data.Dataset[tuple[Tensor, float]]):
    """Pictures from the array that facegen caches."""

    def __init__(self, data: Path) -> None:
        from torchvision import transforms

        self.pixels = _decoded(data)
        self.transform = transforms.Compose(
            [transforms.ToPILImage(), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        return self.transform(self.pixels[index]), 0.0


def pythae_loop(data: Path, out: Path) -> None:
    """BaseTrainer of pythae on its VAE, whose encoder and decoder are ours; pictures in memory."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    network = _network()

    class Encoder(BaseEncoder):  # type: ignore[misc]  # no types
        def __init__(self) -> None:
            super().__init__()
            self.network = network.encoder

        def forward(self, x: Tensor) -> Any:
            mu, logvar = self.network(x)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Decoder(BaseDecoder):  # type: ignore[misc]  # no types
        def __init__(self) -> None:
            super().__init__()
            self.network = network.decoder

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.network(z))

    pixels = torch.from_numpy(_decoded(data)).permute(0, 3, 1, 2).contiguous().float() / 255
    config = VAEConfig(input_dim=(3, 64, 64), latent_dim=128, reconstruction_loss="mse")
    BaseTrainer(
        model=VAE(config, encoder=Encoder(), decoder=Decoder()),
        train_dataset=BaseDataset(pixels, torch.zeros(len(pixels))),
        training_config=BaseTrainerConfig(
            output_dir=str(out),
            num_epochs=EPOCHS,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=1e-4,
            no_cuda=True,
        ),
    ).train()


def _decoded(data: Path) -> NDArray[np.uint8]:
    """The training pictures of facegen's cache, (N, 64, 64, 3)."""
    arrays = sorted((data / ".facegen-cache").glob("celeba-64x64x3-*.npy"))
    if not arrays:
        sys.exit(f"no decoded pictures in {data}: train facegen once")
    pixels: NDArray[np.uint8] = np.load(arrays[0], mmap_mode="c")
    return pixels[: 8 * len(pixels) // 9]  # the last ninth is for validation


CONTESTANTS: Mapping[str, Callable[[Path, Path], None]] = {
    "facegen": facegen_loop,
    "facegen-32": lambda data, out: facegen_loop(data, out, "precision='32'"),
    "facegen-channels-first": lambda data, out: facegen_loop(data, out, "channels_last=false"),
    "facegen-freeing": lambda data, out: facegen_loop(data, out, keep_memory=False),
    "pytorch-vae": pytorch_vae_loop,
    "pytorch-vae-decoded": lambda data, out: pytorch_vae_loop(data, out, decoded=True),
    "pythae": pythae_loop,
}


def main() -> None:
    """Train until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    steps = iter(range(sys.maxsize))

    def stepped(*_: Any) -> None:
        print(f"step {next(steps)}", flush=True)

    register_optimizer_step_post_hook(stepped)
    CONTESTANTS[arguments.contestant](arguments.data, arguments.out)


if __name__ == "__main__":
    main()

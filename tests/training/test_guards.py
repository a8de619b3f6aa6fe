import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from facegen.training import TrainConfig, load_config, train_run
from facegen.training.callbacks import FiniteGuard
from facegen.training.errors import DivergedError
from facegen.training.run import RunPaths

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


class Parabola(LightningModule):
    """Gradient descent on w² from w = 1: it diverges at rates above 1."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.weight = nn.Parameter(torch.ones(1))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight.square().sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def descend(folder: Path, guard: FiniteGuard, *, rate: float, steps: int) -> Parabola:
    model = Parabola(rate)
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[guard],
    )
    trainer.fit(model, DataLoader(TensorDataset(torch.zeros(steps))))
    return model


def test_run_whose_loss_runs_away_stops_with_epoch_values_and_remedy(tmp_path: Path) -> None:
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.touch()

    with pytest.raises(DivergedError) as caught:
        descend(tmp_path, FiniteGuard(checkpoint), rate=1.2, steps=10)

    losses = [1.4 ** (2 * step) for step in range(10)]
    assert caught.value.epoch == 0
    assert caught.value.first == 1.0
    assert caught.value.value == pytest.approx(sum(losses) / 10, rel=1e-4)
    assert f"optimizer.gradient_clip_norm goes on from {checkpoint}" in str(caught.value)


def test_run_whose_loss_falls_goes_on(tmp_path: Path) -> None:
    guard = FiniteGuard(tmp_path / "last.ckpt")

    model = descend(tmp_path, guard, rate=0.1, steps=5)

    assert model.weight.item() == pytest.approx(0.8**10)
    assert guard.first == 1.0


def test_loss_far_above_that_before_a_resume_stops_the_run(tmp_path: Path) -> None:
    guard = FiniteGuard(tmp_path / "last.ckpt")
    guard.load_state_dict({"first": -9.0})

    assert guard.state_dict() == {"first": -9.0}
    descend(tmp_path, guard, rate=0.1, steps=3)
    guard.load_state_dict({"first": -4.0})
    with pytest.raises(DivergedError, match=r"is [\d.]+, far above the -4 it .* starts anew"):
        descend(tmp_path, guard, rate=1.9, steps=6)


def test_long_gradient_is_shortened_to_the_clip_norm(tmp_path: Path) -> None:
    guard = FiniteGuard(tmp_path / "last.ckpt", clip_norm=0.5)

    model = descend(tmp_path, guard, rate=0.1, steps=1)

    assert model.weight.item() == pytest.approx(1 - 2 * 0.1 * 0.5, abs=1e-5)


@pytest.fixture
def unfinished(celeba: Path, tmp_path: Path) -> RunPaths:
    """A run that was cut off after its first epoch of two."""
    config = recipe(celeba, "epochs=1")
    paths = RunPaths(tmp_path / "run")
    train_run(config, paths.folder, device="cpu", threads=1)
    paths.weights.unlink()
    paths.config.write_text(paths.config.read_text("utf-8").replace("epochs = 1", "epochs = 2"))
    return paths


def recipe(celeba: Path, *changes: str) -> TrainConfig:
    settings = [
        "model.image_size=16",
        "model.widths=[4,6,8]",
        "model.latent_size=4",
        "batch_size=8",
        "epochs=2",
        "picture_count=4",
        "prior.components=2",
        "optimizer.schedule=constant",
        "optimizer.warmup_steps=0",
    ]
    return load_config("celeba-vae", [f"data.root='{celeba}'", *settings, *changes])


def rates(paths: RunPaths) -> set[float]:
    state = torch.load(paths.checkpoint, weights_only=True)
    return {group["lr"] for group in state["optimizer_states"][0]["param_groups"]}


def test_unfinished_run_goes_on_at_another_learning_rate(
    unfinished: RunPaths, celeba: Path
) -> None:
    assert rates(unfinished) == {1e-3}
    slower = recipe(celeba, "optimizer.learning_rate=1e-4")

    train_run(slower, unfinished.folder, device="cpu", threads=1)

    (rate,) = rates(unfinished)
    assert math.isclose(rate, 1e-4)

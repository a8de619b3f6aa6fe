"""Stops a run before a NaN reaches the weights, or when its loss has run away."""

import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from facegen.training.errors import DivergedError, NonFiniteError

__all__ = ["FiniteGuard"]

_FAR = 3.0
"""How far above the first step's loss an epoch's mean may lie, in multiples of that loss or of 1,
whichever is more. Losses are nats or squared intensities for each value of an image, or nats: an
untrained model's is under 3, and one that guesses at random stays near it."""


class FiniteGuard(Callback):
    """Checks the loss before it goes backward and the gradient before the optimiser uses it.

    It clips the gradient too: both need its length, and Lightning would measure it again.

    At the end of an epoch, before its checkpoint is written, it compares the mean loss with that of
    the run's first step.

    Args:
        checkpoint: Where the last good checkpoint lies, for the message.
        clip_norm: The longest gradient; 0 never clips.

    Attributes:
        first: The loss of the run's first step; None before it.
    """

    def __init__(self, checkpoint: Path, *, clip_norm: float = 0.0) -> None:
        self.checkpoint = checkpoint
        self.clip_norm = clip_norm
        self.first: float | None = None
        self._sum, self._count = 0.0, 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a new mean."""
        self._sum, self._count = 0.0, 0

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Refuse a loss that is not finite."""
        value = float(loss.detach())
        self._check("loss", value, trainer)
        self.first = value if self.first is None else self.first
        self._sum, self._count = self._sum + value, self._count + 1

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Refuse a gradient that is not finite, log its length, and shorten it if need be."""
        trained = [p for p in pl_module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        length = float(norm)
        self._check("gradient norm", length, trainer)
        pl_module.log("train/gradient_norm", length, on_step=False, on_epoch=True)
        if self.clip_norm and length > self.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(trained, self.clip_norm, norm)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse an epoch that made the model much worse than an untrained one."""
        if self.first is None or not self._count:
            return
        mean = self._sum / self._count
        if mean - self.first > _FAR * max(1.0, abs(self.first)):
            raise DivergedError(
                mean, self.first, epoch=trainer.current_epoch, checkpoint=self._last_good()
            )

    def state_dict(self) -> dict[str, Any]:
        """The first loss, for the checkpoint."""
        return {"first": self.first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back from a checkpoint."""
        self.first = state_dict["first"]

    def _check(self, what: str, value: float, trainer: Trainer) -> None:
        if not math.isfinite(value):
            raise NonFiniteError(
                what,
                value,
                epoch=trainer.current_epoch,
                step=trainer.global_step,
                checkpoint=self._last_good(),
            )

    def _last_good(self) -> Path | None:
        return self.checkpoint if self.checkpoint.is_file() else None

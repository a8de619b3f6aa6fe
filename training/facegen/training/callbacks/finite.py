"""Stops a run before a NaN reaches the weights."""

import math
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from facegen.training.errors import NonFiniteError

__all__ = ["FiniteGuard"]


class FiniteGuard(Callback):
    """Checks the loss before it goes backward and the gradient before the optimiser uses it.

    Args:
        checkpoint: Where the last good checkpoint lies, for the message.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Refuse a loss that is not finite."""
        self._check("loss", float(loss.detach()), trainer)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Refuse a gradient that is not finite, and log its length."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        self._check("gradient norm", norm, trainer)
        pl_module.log("train/gradient_norm", norm, on_step=False, on_epoch=True)

    def _check(self, what: str, value: float, trainer: Trainer) -> None:
        if not math.isfinite(value):
            raise NonFiniteError(
                what,
                value,
                epoch=trainer.current_epoch,
                step=trainer.global_step,
                checkpoint=self.checkpoint if self.checkpoint.is_file() else None,
            )

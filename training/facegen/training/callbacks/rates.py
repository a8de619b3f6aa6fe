"""Lets a run go on at another learning rate than its checkpoint was written with."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["LearningRate"]

_KEYS = ("lr", "initial_lr", "max_lr", "min_lr")
"""Where optimisers and OneCycleLR keep a group's rates."""


class LearningRate(Callback):
    """Keeps the recipe's learning rate in the checkpoint, and applies a change of it on a resume.

    Without it optimiser and schedule would go on at the checkpoint's rates. All groups' rates are
    changed in proportion, and the schedule keeps its shape.

    Args:
        rate: The recipe's highest learning rate.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._change = 1.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Change what was restored."""
        if self._change == 1.0:
            return
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group |= {key: group[key] * self._change for key in _KEYS if key in group}
        for config in trainer.lr_scheduler_configs:
            rates = getattr(config.scheduler, "base_lrs", [])
            config.scheduler.base_lrs = [rate * self._change for rate in rates]
        self._change = 1.0

    def state_dict(self) -> dict[str, Any]:
        """The rate, for the checkpoint."""
        return {"rate": self.rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Learn the rate that the checkpoint was written with."""
        self._change = self.rate / state_dict["rate"]

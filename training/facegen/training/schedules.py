"""What optimisers have in common: which weights decay, and how the learning rate goes."""

import math
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from facegen.training.recipes import OptimizerConfig

__all__ = ["learning_rate_schedule", "weight_groups"]


def learning_rate_schedule(
    optimizer: Optimizer, recipe: OptimizerConfig, total_steps: int
) -> LRScheduler:
    """Schedule every group's learning rate.

    Args:
        optimizer: At its highest learning rates.
        recipe: The schedule and the length of its warm-up, cut to half of the run.
        total_steps: Of the run.

    Returns:
        To be stepped once an optimiser step.
    """
    warmup = min(recipe.warmup_steps, total_steps // 2)
    if recipe.schedule == "one-cycle":
        # PyTorch counts the way up from step 0 to one less and divides by it.
        return OneCycleLR(
            optimizer,
            [group["lr"] for group in optimizer.param_groups],
            total_steps,
            pct_start=min(max(warmup, 2), total_steps) / total_steps,
        )

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if recipe.schedule == "constant":
            return 1.0
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def weight_groups(model: nn.Module) -> list[dict[str, Any]]:
    """A model's parameters for AdamW: biases, normalisations and grain do not decay."""
    return [
        {"params": [p for p in model.parameters() if p.squeeze().ndim > 1]},
        {"params": [p for p in model.parameters() if p.squeeze().ndim <= 1], "weight_decay": 0.0},
    ]

"""The Lightning module of the aligner."""

import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from facegen.training.expression.aligner import Aligner, point_loss
from facegen.training.expression.aligner_training import AlignerRecipe as Examples
from facegen.training.expression.aligner_training import draw_example
from facegen.training.processes import SharedModule
from facegen.training.randomness import generator
from facegen.training.recipes import AlignerRecipe
from facegen.training.schedules import learning_rate_schedule, weight_groups

__all__ = ["AlignerModule"]


class AlignerModule(SharedModule):
    """Trains an aligner on batches of `squares` (B, 128, 128) uint8 and `points` (B, 5, 2).

    Its random numbers depend on (seed, step) alone.

    Args:
        config: The recipe.
    """

    def __init__(self, config: AlignerRecipe) -> None:
        super().__init__()
        self.config = config
        self.model = Aligner(config.model)
        self.examples = Examples(**config.examples.model_dump())

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of examples cut out of the squares."""
        x, points = self._draw(batch, "train", self.global_step)
        loss = point_loss(self.model(x), points)
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(x))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Loss and mean distance, as a fraction of the square's side; the same examples always."""
        x, points = self._draw(batch, "validation", batch_idx)
        found = self.model(x).float()
        values = {
            "validation/loss": point_loss(found, points),
            "validation/distance": (found - points).norm(dim=2).mean(),
        }
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(x))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, its schedule stepped once an optimiser step."""
        recipe = self.config.optimizer
        optimizer = torch.optim.AdamW(
            weight_groups(self.model), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = learning_rate_schedule(optimizer, recipe, total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _draw(self, batch: dict[str, Tensor], purpose: str, step: int) -> tuple[Tensor, Tensor]:
        seed = generator(self.config.seed, purpose, step, apart=True).initial_seed()
        random = np.random.default_rng(seed)
        faces = zip(batch["squares"].cpu().numpy(), batch["points"].cpu().numpy(), strict=True)
        drawn = [draw_example(square, points, random, self.examples) for square, points in faces]
        x = torch.from_numpy(np.stack([picture for picture, _ in drawn]))[:, None].float() / 255
        points = torch.from_numpy(np.stack([points for _, points in drawn]))
        return x.to(self.device), points.to(self.device)

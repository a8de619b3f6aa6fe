"""The Lightning module of classifiers: guides and the judge."""

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy, MulticlassRecall

from facegen.training.expression.classifier import Classifier, adversarial, vary
from facegen.training.module import to_input
from facegen.training.processes import SharedModule
from facegen.training.randomness import generator
from facegen.training.recipes import ClassifierRecipe
from facegen.training.schedules import learning_rate_schedule, weight_groups

__all__ = ["ClassifierModule"]


class ClassifierModule(SharedModule):
    """Trains a classifier on batches of `images` (B, 48, 48, 1) uint8 and `votes` (B, K).

    Its random numbers depend on (seed, step) alone.

    Args:
        config: The recipe.
    """

    def __init__(self, config: ClassifierRecipe) -> None:
        super().__init__()
        self.config = config
        self.model = Classifier(config.model)
        count = len(config.model.expressions)
        self.accuracy = MulticlassAccuracy(count, average="micro")
        self.recall = MulticlassRecall(count, average="none")

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy against the votes on varied, perhaps adversarial, pictures."""
        seed, step = self.config.seed, self.global_step
        device = batch["images"].device
        random = generator(seed, "train", step, device=device, apart=True)
        x = vary(to_input(batch["images"], channels_last=self.config.channels_last), random)
        targets = self._targets(batch["votes"])
        if self.config.adversarial_radius > 0:
            x = self._mistaken(x, targets, random)
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            # Dropout takes no generator of ours.
            torch.manual_seed(generator(seed, "dropout", step, apart=True).initial_seed())
            loss = functional.cross_entropy(self.model(x), targets)
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(x))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Loss, accuracy and recall of the labels on pictures as they are."""
        x = to_input(batch["images"], channels_last=self.config.channels_last)
        logits = self.model(x).float()
        loss = functional.cross_entropy(logits, self._targets(batch["votes"]))
        self.log("validation/loss", loss, on_step=False, on_epoch=True, batch_size=len(x))
        self.accuracy(logits, batch["labels"])
        self.log("validation/accuracy", self.accuracy, on_step=False, on_epoch=True, prog_bar=True)
        self.recall.update(logits, batch["labels"])

    def on_validation_epoch_end(self) -> None:
        """Log every expression's recall."""
        recalls = self.recall.compute()
        self.recall.reset()
        for name, recall in zip(self.config.model.expressions, recalls, strict=True):
            self.log(f"validation/recall_{name}", recall)

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

    def _targets(self, votes: Tensor) -> Tensor:
        spread = self.config.label_smoothing
        return (1 - spread) * votes + spread / votes.shape[1]

    def _mistaken(self, x: Tensor, targets: Tensor, random: torch.Generator) -> Tensor:
        self.model.eval()
        x = adversarial(
            self.model,
            x,
            targets,
            radius=self.config.adversarial_radius,
            steps=self.config.adversarial_steps,
            random=random,
        )
        self.model.train()
        return x

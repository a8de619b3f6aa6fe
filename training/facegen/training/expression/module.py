"""The Lightning module of expression training: model, teacher, guides and one optimiser."""

from collections.abc import Mapping, Sequence

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional

from facegen.training.expression.appearance import AppearanceTransport
from facegen.training.expression.classifier import Classifier
from facegen.training.expression.model import ExpressionModel, apply_edit
from facegen.training.expression.objective import Batch, edit_losses, model_losses
from facegen.training.expression.shapes import mirror_shapes
from facegen.training.losses import squared_error
from facegen.training.module import to_input
from facegen.training.processes import SharedModule
from facegen.training.randomness import generator
from facegen.training.recipes import ExpressionRecipe
from facegen.training.schedules import learning_rate_schedule

__all__ = ["ExpressionModule"]

_BETAS = (0.5, 0.99)
_MOST_TURN = 0.12
"""Radians."""
_MOST_GROWTH = 0.06
_MOST_SHIFT = 0.04
"""In sides."""


class ExpressionModule(SharedModule):
    """Trains an expression model on balanced batches; its random numbers depend on (seed, step).

    Args:
        config: The recipe.
        guides: Finished classifiers; frozen here, and no part of the checkpoint.
        teacher: Says what faces would look like with another expression.
    """

    def __init__(
        self, config: ExpressionRecipe, guides: Sequence[Classifier], teacher: AppearanceTransport
    ) -> None:
        super().__init__()
        self.config = config
        self.model = ExpressionModel(config.model)
        # In a tuple they are no submodules: not trained, averaged or saved.
        self.guides = tuple(guide.eval().requires_grad_(requires_grad=False) for guide in guides)
        self.teacher = teacher

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """One step's loss, of `images` (K · n, 48, 48, 1) uint8 in equal runs, one an expression.

        The first `unguided_steps` follow the teacher alone.

        Args:
            batch: `images` and the faces' `shapes` (K · n, 68, 2).
            batch_idx: Its number.
        """
        random = generator(
            self.config.seed, "train", self.global_step, device=batch["images"].device, apart=True
        )
        x = batch["images"].permute(0, 3, 1, 2).float() / 255
        x, shapes = mirror(x, batch["shapes"], random)
        x, shapes = move(x, shapes, random)
        x = shade(x, random)
        if self.config.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        pairs = Batch.of(x, shapes, len(self.config.model.expressions))
        losses, z, features = model_losses(self.model, pairs, self.config.loss, random)
        guided = self.global_step >= self.config.unguided_steps
        edits = edit_losses(
            self.model,
            self.guides if guided else (),
            self.teacher,
            pairs,
            (z, features),
            self.config.loss,
            random,
        )
        parts = {name: getattr(losses, name) for name in ("nll", "kl", "own")}
        parts |= {name: getattr(edits, name) for name in ("taught", "flow", "mask")}
        if guided:
            parts["guidance"] = edits.guidance
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in parts.items()},
            on_step=False,
            on_epoch=True,
            batch_size=len(x),
        )
        return losses.total + edits.total

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """How faithful the plain VAE is, how much the own decoders change, what the guides believe.

        Args:
            batch: `images` (B, 48, 48, 1) uint8 and their `labels` (B,).
            batch_idx: Its number.
        """
        x = to_input(batch["images"], channels_last=self.config.channels_last)
        posterior, features = self.model.encoder(x)
        values: dict[str, list[Tensor]] = {"error": [], "own": [], "convinced": []}
        for index, decoder in enumerate(self.model.decoders.values()):
            own = batch["labels"] == index
            edited = apply_edit(x, decoder(posterior.mu, features))
            plain = decoder(posterior.mu, torch.zeros_like(features)).content
            values["error"].append(squared_error(plain[own], x[own]) / x[0].numel())
            values["own"].append((edited - x)[own].abs().mean(dim=(1, 2, 3)))
            values["convinced"] += [
                (guide(edited[~own]).argmax(1) == index).float()
                for guide in self.guides
                if index < len(guide.config.expressions)
            ]
        for name, parts in values.items():
            if parts and (count := sum(len(part) for part in parts)):
                mean = torch.cat(parts).mean()
                self.log(f"validation/{name}", mean, batch_size=count)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW over the model, its schedule stepped once an optimiser step."""
        recipe = self.config.optimizer
        optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=recipe.learning_rate,
            betas=_BETAS,
            weight_decay=recipe.weight_decay,
        )
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = learning_rate_schedule(optimizer, recipe, total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def mirror(x: Tensor, shapes: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror half of the pictures (B, 1, H, W), and their shapes (B, 68, 2) with them."""
    chosen = torch.rand(len(x), generator=random, device=x.device) < 0.5
    pictures = torch.where(chosen[:, None, None, None], x.flip(3), x)
    return pictures, torch.where(chosen[:, None, None], mirror_shapes(shapes), shapes)


def move(x: Tensor, shapes: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn, scale and shift pictures (B, 1, H, W) and their shapes (B, 68, 2) with them.

    As far as points that were found may be off; and no face comes twice in the same way.
    """
    turn, grow, right, down = 2 * torch.rand(4, len(x), generator=random, device=x.device) - 1
    scale, angle = 1 + _MOST_GROWTH * grow, _MOST_TURN * turn
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([cosine, -sine, sine, cosine], 1).view(-1, 2, 2)
    shift = _MOST_SHIFT * torch.stack([right, down], 1)[:, None]
    moved = (shapes - 0.5) @ matrix.mT + 0.5 + shift
    place = (torch.arange(x.shape[-1], device=x.device) + 0.5) / x.shape[-1]
    grid = torch.stack([*torch.meshgrid(place, place, indexing="xy")], -1).view(1, -1, 2)
    source = (grid - 0.5 - shift) @ matrix.inverse().mT + 0.5
    pictures = functional.grid_sample(
        x,
        2 * source.view(len(x), *x.shape[-2:], 2) - 1,
        mode="bicubic",
        padding_mode="border",
        align_corners=False,
    )
    return pictures.clamp(0, 1), moved


def shade(x: Tensor, random: torch.Generator) -> Tensor:
    """Change contrast and brightness of pictures (B, 1, H, W) in [0, 1]."""
    contrast, shift = torch.rand(2, len(x), 1, 1, 1, generator=random, device=x.device)
    shaded: Tensor = ((x - 0.5) * (0.85 + 0.3 * contrast) + 0.42 + 0.16 * shift).clamp(0, 1)
    return shaded

"""The Lightning module of mesh autoencoders."""

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from facegen.training.losses import kl_divergence
from facegen.training.mesh.model import MeshAutoencoder, MeshOutput
from facegen.training.processes import SharedModule, mean_over_processes
from facegen.training.randomness import generator, normal
from facegen.training.recipes import MeshRecipe
from facegen.training.schedules import learning_rate_schedule, weight_groups

__all__ = ["MeshModule"]


def _vertex_errors(reconstruction: Tensor, vertices: Tensor) -> Tensor:
    """How far each vertex lies from where it should, (…, V), of (…, V, 3)."""
    errors: Tensor = torch.linalg.vector_norm(reconstruction - vertices, dim=-1)
    return errors


class MeshModule(SharedModule):
    """Trains a mesh autoencoder on batches of `vertices` (B, V, 3) float32 in millimetres.

    Its random numbers depend on (seed, step) alone. The loss of an autoencoder is its error in
    the network's unit, the data's deviation. A VAE's is the evidence bound divided by the number of
    a mesh's coordinates, of Laplace's distribution with the scale that is likeliest for the batch:
    its logarithm is the reconstruction's term.

    Args:
        config: The recipe.
        model: The model, with the levels and the scale of its data.
    """

    def __init__(self, config: MeshRecipe, model: MeshAutoencoder) -> None:
        super().__init__()
        self.config = config
        self.model = model

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step's loss, from posterior samples where there are posteriors."""
        vertices = batch["vertices"]
        random = generator(self.config.seed, "train", self.global_step, device=vertices.device)
        noise, seen = self._noise(vertices, random), vertices
        if self.config.data.noise_mm:
            seen = vertices + self.config.data.noise_mm * normal(*vertices.shape, random=random)
        outputs = self.model(seen, noise)
        loss = self._loss("train", outputs, vertices)
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The loss and the error of posterior means."""
        vertices = batch["vertices"]
        outputs = self.model(vertices)
        loss = self._loss("validation", outputs, vertices)
        values = {
            "validation/loss": loss,
            "validation/vertex_error": _vertex_errors(outputs.reconstruction, vertices).mean(),
        }
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(vertices), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, its schedule stepped once an optimiser step."""
        recipe = self.config.optimizer
        optimizer = torch.optim.AdamW(
            weight_groups(self.model),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = learning_rate_schedule(optimizer, recipe, total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _loss(self, split: str, outputs: MeshOutput, vertices: Tensor) -> Tensor:
        difference = outputs.reconstruction - vertices
        if self.config.loss.reconstruction == "l1":
            error = difference.abs().mean()
        else:
            error = _vertex_errors(outputs.reconstruction, vertices).mean()
        error = error / self.model.encoder.deviation
        mu, logvar = outputs.posterior
        if logvar is None:
            return error
        scale = mean_over_processes(error, rows=len(vertices))
        kl = kl_divergence(mu, logvar).mean()
        self.log(f"{split}/kl", kl.detach(), on_step=False, on_epoch=True)
        return scale.log() + self.config.loss.beta * kl / vertices[0].numel()

    def _noise(self, vertices: Tensor, random: torch.Generator) -> Tensor | None:
        if not self.config.model.variational:
            return None
        return normal(len(vertices), self.config.model.latent_size, random=random)

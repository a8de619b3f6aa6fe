"""The Lightning module: a model, its objective and its optimiser."""

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics.image import PeakSignalNoiseRatio

from facegen.training.alterations import alter
from facegen.training.autoencoder import Autoencoder
from facegen.training.batches import augment
from facegen.training.critic import Critic, adversarial_losses
from facegen.training.losses import feature_distance, spectral_distance
from facegen.training.objective import LossTerms, objective
from facegen.training.perception import FeatureMaps
from facegen.training.prior import MixturePrior
from facegen.training.processes import SharedModule
from facegen.training.randomness import generator, normal, uniform
from facegen.training.recipes import TrainConfig
from facegen.training.schedules import learning_rate_schedule, weight_groups

__all__ = ["AutoencoderModule", "to_input"]

_ADVERSARIAL_BETAS = (0.5, 0.99)
_CRITIC_BETAS = (0.0, 0.99)
_CRITIC_LOSS_SCALE = 0.1
"""Adam does not see it; it leaves the norm that gradients are clipped to for the model."""


def to_input(pictures: Tensor, *, channels_last: bool = True) -> Tensor:
    """Turn (B, H, W, C) uint8 into (B, C, H, W) float32 in [0, 1]."""
    x = pictures.permute(0, 3, 1, 2).float().div_(255)
    order = torch.channels_last if channels_last else torch.contiguous_format
    return x.contiguous(memory_format=order)


class AutoencoderModule(SharedModule):
    """Trains an autoencoder on batches (B, H, W, C) uint8.

    Its random numbers depend on (seed, step) alone. The loss is divided by the number of an image's
    values before it goes backward: no optimum changes, and gradient clipping means the same at
    every size.

    With an adversarial loss the decoder alone is trained, and a critic judges what it makes of the
    posteriors' latents and of the prior's alike. The encoder stays as it is, and with it the prior.

    Args:
        config: The recipe.
        maps: Where reconstructions are compared and judged by their features; needed for a feature
            or an adversarial loss. No part of the module's state.
        prior: Of the run that this one starts from; needed for an adversarial loss.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        maps: FeatureMaps | None = None,
        prior: MixturePrior | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.model = Autoencoder(config.model)
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.critic = Critic() if config.loss.adversarial_weight else None
        if self.critic is not None:
            self.model.encoder.requires_grad_(requires_grad=False)
        self._maps = (maps,)  # in a tuple, so that it is no submodule
        self.prior = prior
        self.psnr = PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """One step's loss, from augmented pictures and posterior samples."""
        data = self.config.data
        random = generator(self.config.seed, "train", self.global_step, device=batch.device)
        batch = augment(batch, flip=data.flip, shift_px=data.shift_px, random=random)
        x = to_input(batch, channels_last=self.config.channels_last)
        noise = self._noise(x, random)
        outputs = self.model(x, noise)
        terms = objective(outputs, x, self.config.loss, noise=noise, step=self.global_step)
        self._log_terms("train", terms, len(x))
        loss = terms.total / x[0].numel()
        decoded = outputs.reconstruction
        if self.critic is not None:
            decoded = torch.cat([decoded, self.model.decoder(self._drawn(x, random))])
        if self.config.loss.spectrum_weight:
            loss = loss + self._spectral_loss(x, decoded)
        if self.config.loss.perceptual:
            loss = loss + self._perceptual_loss(x, decoded)
        return loss

    def on_train_epoch_start(self) -> None:
        """Keep a frozen encoder's normalisations as they are."""
        if self.critic is not None:
            self.model.encoder.eval()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """The loss of posterior samples, with the same noise every epoch, and the PSNR of means."""
        x = to_input(batch, channels_last=self.config.channels_last)
        random = generator(self.config.seed, "validation", batch_idx, device=batch.device)
        noise = self._noise(x, random)
        outputs = self.model(x, noise)
        terms = objective(outputs, x, self.config.loss, noise=noise)
        self._log_terms("validation", terms, len(x))
        mean = self.model.decoder(outputs.posterior.mu)
        self.psnr(mean.float().clamp(0, 1), x)
        self.log("validation/psnr", self.psnr, on_step=False, on_epoch=True, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, its schedule stepped once an optimiser step."""
        recipe = self.config.optimizer
        groups = weight_groups(self.model)
        if self.critic is not None:
            groups = [
                *(
                    {**group, "betas": _ADVERSARIAL_BETAS}
                    for group in weight_groups(self.model.decoder)
                ),
                {
                    "params": list(self.critic.parameters()),
                    "betas": _CRITIC_BETAS,
                    "weight_decay": 0.0,
                },
            ]
        optimizer = torch.optim.AdamW(
            groups,
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

    def _spectral_loss(self, x: Tensor, decoded: Tensor) -> Tensor:
        distance = spectral_distance(decoded.clamp(0, 1), x)  # as it is seen
        self.log("train/spectrum", distance.detach(), on_step=False, on_epoch=True)
        return self.config.loss.spectrum_weight * distance

    def _perceptual_loss(self, x: Tensor, decoded: Tensor) -> Tensor:
        (maps,) = self._maps
        assert maps is not None, "a recipe with these losses brings its maps"
        maps.to(x.device)
        seed, step, weights = self.config.seed, self.global_step, self.config.loss

        def altered(pictures: Tensor, purpose: str) -> Tensor:
            return alter(pictures, generator(seed, purpose, step, device=x.device))

        reconstruction, *samples = torch.split(decoded, len(x))
        fake = altered(reconstruction, "alter")  # as the pictures are: the two are compared
        fake = torch.cat([fake, *(altered(drawn, "alter-samples") for drawn in samples)])
        with torch.no_grad():
            real_maps = maps(altered(x, "alter"))
        fake_maps = maps(fake)
        distance = feature_distance([m[: len(x)] for m in fake_maps], real_maps).mean()
        logged, loss = {"train/features": distance.detach()}, weights.feature_weight * distance
        if self.critic is not None:
            critic_loss, judged = adversarial_losses(self.critic, real_maps, fake_maps)
            logged |= {"train/critic": critic_loss.detach(), "train/judged": judged.detach()}
            loss = loss + weights.adversarial_weight * judged + _CRITIC_LOSS_SCALE * critic_loss
        self.log_dict(logged, on_step=False, on_epoch=True)
        return loss

    def _drawn(self, x: Tensor, random: torch.Generator) -> Tensor:
        """As many latents from the prior as there are pictures."""
        assert self.prior is not None, "an adversarial recipe starts from a run with a prior"
        shape = (len(x), self.config.model.latent_size)
        noise = normal(*shape, random=random)
        chosen = uniform(len(x), random=random)
        latents = self.prior.sample(noise.cpu().numpy(), chosen.cpu().numpy())
        return torch.from_numpy(latents).to(x.device)

    def _noise(self, x: Tensor, random: torch.Generator) -> Tensor | None:
        if self.config.model.kind != "vae" and not self.config.loss.mmd_weight:
            return None
        shape = (len(x), self.config.model.latent_size)
        return normal(*shape, random=random)

    def _log_terms(self, split: str, terms: LossTerms, count: int) -> None:
        values = {
            "loss": terms.total,
            "reconstruction": terms.reconstruction,
            "kl": terms.kl,
            "sigma": terms.sigma,
        }
        self.log_dict(
            {f"{split}/{name}": value.detach() for name, value in values.items()},
            on_step=False,
            on_epoch=True,
            batch_size=count,
        )

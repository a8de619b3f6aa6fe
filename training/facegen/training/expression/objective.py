"""What expression training minimises: a VAE per expression, and edits like those taught."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from facegen.training.autoencoder import reparameterize
from facegen.training.expression.appearance import AppearanceTransport
from facegen.training.expression.classifier import Classifier, vary
from facegen.training.expression.model import ExpressionModel, apply_edit, fields, warp
from facegen.training.losses import gaussian_nll, optimal_log_sigma, structural_dissimilarity

__all__ = ["Batch", "EditLosses", "ExpressionLossConfig", "edit_losses", "model_losses"]

_MOUTH_WEIGHT = 3.0
"""How much more a mouth's pixels count in the likeness than others."""


class ExpressionLossConfig(BaseModel):
    """The terms of the objective and their weights; intensities are in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    beta: float = Field(default=1.0, ge=0)
    """Weight of the KL; 1 is the evidence lower bound, the variance being learned."""
    free_nats: float = Field(default=0.05, ge=0)
    """Nats of each latent value's mean KL that cost nothing."""
    ssim: float = Field(default=0.3, ge=0)
    """Of 1 − SSIM of the content on the own expression, for every value of an image."""
    own: float = Field(default=10.0, ge=0)
    """Of the change that a face's own decoder makes, mean absolute."""
    taught: float = Field(default=20.0, ge=0)
    """Of the distance from the picture taught, mean absolute; mouths count four times."""
    taught_ssim: float = Field(default=1.0, ge=0)
    """Of 1 − SSIM of the edited face and the picture taught."""
    flow: float = Field(default=0.3, ge=0)
    """Of the distance in pixels between the flow and that taught."""
    mask: float = Field(default=0.1, ge=0)
    """Of the mask away from the mouth, where the photo's own detail should stay."""
    guidance: float = Field(default=0.2, ge=0)
    """Of the guides' cross-entropy on varied copies of the edited faces."""
    guidance_margin: float = Field(default=0.4, ge=0)
    """Cross-entropy in nats at which an edit is convincing enough."""
    roughness: float = Field(default=10.0, ge=0)
    """Of how much farther pixels lie from their neighbours' mean than in the picture taught."""


class Batch(NamedTuple):
    """Faces in equal runs, one an expression, in the model's order.

    Attributes:
        x: (K · n, 1, 48, 48) in [0, 1].
        shapes: (K · n, 68, 2): their points, in the square's sides.
        labels: (K · n,): 0 n times, 1 n times …
        sources: (K · n,): which face to edit in place i, so that run k gets expression k.
    """

    x: Tensor
    shapes: Tensor
    labels: Tensor
    sources: Tensor

    @classmethod
    def of(cls, x: Tensor, shapes: Tensor, count: int) -> "Batch":
        """Pair every face with another expression; each decoder gets as many of every class.

        Args:
            x: (K · n, 1, 48, 48) in equal runs.
            shapes: (K · n, 68, 2).
            count: K.
        """
        per_class = len(x) // count
        labels = torch.arange(count, device=x.device).repeat_interleave(per_class)
        sources = torch.empty(count, per_class, dtype=torch.long, device=x.device)
        taken = [0] * count
        for i in range(per_class):
            step = 1 + i % (count - 1)
            for target in range(count):
                source = (target + step) % count
                sources[target, i] = source * per_class + taken[source]
                taken[source] += 1
        return cls(x, shapes, labels, sources.flatten())


class ModelLosses(NamedTuple):
    """The VAE's part.

    Attributes:
        total: Weighted, per value of an image.
        nll: Of the content, nats an image.
        kl: Nats an image.
        own: Mean absolute change by the own decoder.
    """

    total: Tensor
    nll: Tensor
    kl: Tensor
    own: Tensor


class EditLosses(NamedTuple):
    """The edits' part.

    Attributes:
        total: Weighted.
        taught: Mean absolute distance from the pictures taught.
        flow: Mean distance from the flow taught, in pixels.
        mask: Mean of the masks away from mouths.
        guidance: Mean cross-entropy of the guides.
    """

    total: Tensor
    taught: Tensor
    flow: Tensor
    mask: Tensor
    guidance: Tensor


def model_losses(
    model: ExpressionModel, batch: Batch, config: ExpressionLossConfig, random: torch.Generator
) -> tuple[ModelLosses, Tensor, Tensor]:
    """The losses of faces under their own expression.

    Half of the faces are decoded without their features: those are a plain VAE.

    Returns:
        The losses, the latents drawn (B, Z), and the features (B, F, 12, 12): what an edit of other
        faces is made from too, or decoders would know their own by the latents' noise.
    """
    x = batch.x
    posterior, features = model.encoder(x)
    noise = torch.randn(posterior.mu.shape, generator=random, device=x.device)
    z = reparameterize(posterior, noise)
    seen = torch.rand(len(x), 1, 1, 1, generator=random, device=x.device) < 0.5
    edit = model.decode_runs(z, features * seen)
    assert posterior.logvar is not None
    kl = 0.5 * (posterior.mu.square() + posterior.logvar.exp() - 1 - posterior.logvar)
    kl = kl.mean(0).clamp(min=config.free_nats).sum()
    plain = ~seen.flatten()
    log_sigma = optimal_log_sigma(edit.content[plain], x[plain])
    nll = gaussian_nll(edit.content, x, log_sigma).mean()
    ssim = structural_dissimilarity(edit.content, x).mean()
    own = ((apply_edit(x, edit) - x).abs() * seen).mean()
    total = (nll + config.beta * kl) / x[0].numel() + config.ssim * ssim + config.own * own
    return ModelLosses(total, nll, kl, own), z, features


def edit_losses(
    model: ExpressionModel,
    guides: Sequence[Classifier],
    teacher: AppearanceTransport,
    batch: Batch,
    encoding: tuple[Tensor, Tensor],
    config: ExpressionLossConfig,
    random: torch.Generator,
) -> EditLosses:
    """The losses of faces given another expression.

    Args:
        model: The model.
        guides: Frozen classifiers in evaluation mode, which see varied copies only; none at first.
        teacher: Says what edits should do.
        batch: The faces.
        encoding: Latents and features from `model_losses`.
        config: Weights.
        random: Decides.

    Returns:
        The losses.
    """
    x, labels, size = batch.x[batch.sources], batch.labels, batch.x.shape[-1]
    taught = teacher(x, batch.shapes[batch.sources], labels[batch.sources], labels)
    edit = model.decode_runs(*(part[batch.sources] for part in encoding))
    mask, flow = fields(edit, size)
    warped = warp(x, flow)
    y = warped + mask * (edit.content - warped)
    distance = (y - taught.picture).abs()
    missed = size * ((flow - taught.flow).square().sum(1) + 1e-6).sqrt()
    spread = (mask * (1 - taught.lips)).mean()
    entropy = _entropy(guides, y, labels, random)
    total = (
        config.taught * ((1 + _MOUTH_WEIGHT * taught.lips) * distance).mean()
        + config.taught_ssim * structural_dissimilarity(y, taught.picture).mean()
        + config.flow * missed.mean()
        + config.mask * spread
        + config.roughness * functional.relu(_roughness(y) - _roughness(taught.picture)).mean()
        + config.guidance * functional.relu(entropy - config.guidance_margin).mean()
    )
    return EditLosses(total, distance.mean(), missed.mean(), spread, entropy.mean())


def _entropy(
    guides: Sequence[Classifier], y: Tensor, labels: Tensor, random: torch.Generator
) -> Tensor:
    """Mean cross-entropy (B,) of guides that each see a copy varied in its own way; 0 unknown."""
    entropy = y.new_zeros(len(y))
    for guide in guides:
        logits = guide(vary(y, random))
        unknown = labels >= logits.shape[1]
        targets = labels.masked_fill(unknown, -100)
        entropy = entropy + functional.cross_entropy(logits, targets, reduction="none")
    return entropy / max(1, len(guides))


def _roughness(x: Tensor) -> Tensor:
    """How far pixels lie from the mean of 3 × 3 around them, in 8 × 8 parts of a picture."""
    away = (x - functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)).abs()
    return functional.avg_pool2d(away, x.shape[-1] // 8)

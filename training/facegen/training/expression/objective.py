"""What expression training minimises: a VAE per expression, and edits that look real."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from facegen.training.autoencoder import reparameterize
from facegen.training.expression.classifier import Classifier, vary
from facegen.training.expression.critic import ExpressionCritic, jitter
from facegen.training.expression.model import Edit, ExpressionModel, apply_edit
from facegen.training.losses import gaussian_nll, optimal_log_sigma, structural_dissimilarity

__all__ = ["Batch", "ExpressionLossConfig", "edit_losses", "model_losses"]


class ExpressionLossConfig(BaseModel):
    """The terms of the objective and their weights; intensities are in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    beta: float = Field(default=1.0, ge=0)
    """Weight of the KL; 1 is the evidence lower bound, the variance being learned."""
    free_nats: float = Field(default=0.05, ge=0)
    """Nats of each latent value's mean KL that cost nothing."""
    ssim: float = Field(default=0.3, ge=0)
    """Of 1 − SSIM of the content on the own expression, for every value of an image."""
    own: float = Field(default=1.0, ge=0)
    """Of the change that a face's own decoder makes, mean absolute."""
    guidance: float = Field(default=0.5, ge=0)
    """Of the guides' cross-entropy on varied copies of the edited faces."""
    guidance_margin: float = Field(default=0.4, ge=0)
    """Cross-entropy in nats at which an edit is convincing enough."""
    adversarial: float = Field(default=0.25, ge=0)
    """Of the critic's judgement."""
    low_pass: float = Field(default=0.5, ge=0)
    """Of the change that is left after reduction to 8 x 8, mean absolute."""
    mask: float = Field(default=1.0, ge=0)
    """Of the mask's mean above its limit."""
    mask_limit: float = Field(default=0.3, ge=0, le=1)
    """How much of the face a mask may cover for nothing."""
    roughness: float = Field(default=10.0, ge=0)
    """Of how much farther pixels lie from their neighbours' mean than in the face edited."""
    flow_variation: float = Field(default=3.0, ge=0)
    """Of the flow's mean absolute difference between neighbours, a fraction of the side."""
    latent: float = Field(default=0.0, ge=0)
    """Of the squared distance of the edited face's latent to the face's."""


class Batch(NamedTuple):
    """Faces in equal runs, one an expression, in the model's order.

    Attributes:
        x: (K · n, 1, 48, 48) in [0, 1].
        labels: (K · n,): 0 n times, 1 n times …
        sources: (K · n,): which face to edit in place i, so that run k gets expression k.
    """

    x: Tensor
    labels: Tensor
    sources: Tensor

    @classmethod
    def of(cls, x: Tensor, count: int, random: torch.Generator) -> "Batch":
        """Pair every face with another expression; each decoder gets as many of every class.

        Args:
            x: (K · n, 1, 48, 48) in equal runs.
            count: K.
            random: Decides.
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
        return cls(x, labels, sources.flatten())


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
    """The edits' part, and the critic's own loss.

    Attributes:
        total: Weighted.
        guidance: Mean cross-entropy of the guides.
        judged: Mean score by the critics of features and of pixels, added and negated.
        mask: Mean of the masks.
        flow: Mean length of the flow, in pixels.
        critic: The critics' mean hinge loss.
    """

    total: Tensor
    guidance: Tensor
    judged: Tensor
    mask: Tensor
    flow: Tensor
    critic: Tensor


def model_losses(
    model: ExpressionModel, batch: Batch, config: ExpressionLossConfig, random: torch.Generator
) -> tuple[ModelLosses, Tensor, Tensor]:
    """The losses of faces under their own expression.

    Half of the faces are decoded without their features: those are a plain VAE.

    Returns:
        The losses, the posteriors' means (B, Z), and the features (B, F, 12, 12).
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
    return ModelLosses(total, nll, kl, own), posterior.mu, features


def edit_losses(
    model: ExpressionModel,
    critic: ExpressionCritic,
    guides: Sequence[Classifier],
    batch: Batch,
    encoding: tuple[Tensor, Tensor],
    config: ExpressionLossConfig,
    random: torch.Generator,
) -> EditLosses:
    """The losses of faces given another expression.

    Choi et al. (2018), https://arxiv.org/abs/1711.09020, with frozen guides besides the critic.

    Args:
        model: The model.
        critic: Learns beside it; the total does not reach its weights.
        guides: Frozen classifiers in evaluation mode, which see varied copies only.
        batch: The faces.
        encoding: Means and features from `model_losses`.
        config: Weights.
        random: Decides.

    Returns:
        The losses.
    """
    x = batch.x[batch.sources]
    edit = model.decode_runs(*(part[batch.sources] for part in encoding))
    y = apply_edit(x, edit)
    looks = [guide.look(vary(y, random)) for guide in guides]
    entropies = [
        functional.cross_entropy(look.logits, batch.labels, reduction="none") for look in looks
    ]
    entropy = torch.stack(entropies).mean(0)
    with torch.no_grad():
        real = [some for guide in guides for some in guide.look(vary(batch.x, random)).features]
    fake = [some for look in looks for some in look.features]
    critic_loss, judged = _adversarial(
        critic, (jitter(batch.x, random), real), (jitter(y, random), fake), batch.labels
    )
    low_pass = functional.avg_pool2d(y - x, y.shape[-1] // 8).abs().mean()
    covered = edit.mask.mean(dim=(1, 2, 3))
    total = (
        config.guidance * functional.relu(entropy - config.guidance_margin).mean()
        + config.adversarial * judged
        + config.low_pass * low_pass
        + config.mask * functional.relu(covered - config.mask_limit).mean()
        + config.roughness * functional.relu(_roughness(y) - _roughness(x)).mean()
        + config.flow_variation * _variation(edit)
    )
    if config.latent:
        moved = model.encoder(y).posterior.mu - encoding[0][batch.sources].detach()
        total = total + config.latent * moved.square().mean()
    flow_px = edit.flow.norm(dim=1).mean() * x.shape[-1]
    return EditLosses(total, entropy.mean(), judged, covered.mean(), flow_px, critic_loss)


def _roughness(x: Tensor) -> Tensor:
    """How far pixels lie from the mean of their 3 × 3 neighbourhood, mean absolute, (B,)."""
    return (x - functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)).abs().mean((1, 2, 3))


def _variation(edit: Edit) -> Tensor:
    down = edit.flow.diff(dim=2).abs().mean()
    return (down + edit.flow.diff(dim=3).abs().mean()) / 2


def _adversarial(
    critic: ExpressionCritic,
    real: tuple[Tensor, Sequence[Tensor]],
    fake: tuple[Tensor, Sequence[Tensor]],
    labels: Tensor,
) -> tuple[Tensor, Tensor]:
    """Hinge losses of critic and edits, for one backward pass: neither reaches the other.

    Lim & Ye (2017), https://arxiv.org/abs/1705.02894. The critics of features weigh together as
    much as that of the pixels.
    """
    seen, features = fake
    both = [torch.cat([a, b.detach()]) for a, b in zip(real[1], features, strict=True)]
    scores = critic(torch.cat([real[0], seen.detach()]), both, labels.repeat(2))
    critic_loss = torch.stack(
        [
            functional.relu(1 - good).mean() + functional.relu(1 + bad).mean()
            for good, bad in (some.chunk(2) for some in scores)
        ]
    ).mean()
    frozen = {name: value.detach() for name, value in critic.named_parameters()}
    *heads, pixels = functional_call(critic, frozen, (seen, features, labels))
    return critic_loss, -torch.stack([some.mean() for some in heads]).mean() - pixels.mean()

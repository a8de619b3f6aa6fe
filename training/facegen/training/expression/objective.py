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
from facegen.training.expression.model import ExpressionModel, apply_edit, fields, warp
from facegen.training.expression.shapes import FEATURES, LIPS, ShapeTransport
from facegen.training.losses import gaussian_nll, optimal_log_sigma, structural_dissimilarity

__all__ = ["Batch", "ExpressionLossConfig", "edit_losses", "model_losses", "motion_losses"]

_NEAR, _FAR = 0.05, 0.15
"""Distances from brows, eyes and mouth, in the square's sides."""
_EYES_COST = 0.4


class ExpressionLossConfig(BaseModel):
    """The terms of the objective and their weights; intensities are in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    beta: float = Field(default=1.0, ge=0)
    """Weight of the KL; 1 is the evidence lower bound, the variance being learned."""
    free_nats: float = Field(default=0.05, ge=0)
    """Nats of each latent value's mean KL that cost nothing."""
    ssim: float = Field(default=0.3, ge=0)
    """Of 1 − SSIM of the content on the own expression, for every value of an image."""
    own: float = Field(default=4.0, ge=0)
    """Of the change that a face's own decoder makes, mean absolute."""
    guidance: float = Field(default=0.5, ge=0)
    """Of the guides' cross-entropy on varied copies of the edited faces."""
    guidance_steps: int = Field(default=1500, ge=0)
    """Steps over which guidance grows from nothing, while the critics learn."""
    guidance_margin: float = Field(default=0.4, ge=0)
    """Cross-entropy in nats at which an edit is convincing enough."""
    adversarial: float = Field(default=0.3, ge=0)
    """Of each critic's judgement."""
    low_pass: float = Field(default=0.25, ge=0)
    """Of the change that is left after reduction to 8 x 8, mean absolute."""
    roughness: float = Field(default=30.0, ge=0)
    """Of how much farther pixels lie from their neighbours' mean than there in the face edited."""
    shape: float = Field(default=0.2, ge=0)
    """Of the squared distance in pixels between where the flow takes a face's points and where
    faces with the expression have them."""
    shape_gain: float = Field(default=1.5, ge=0)
    """How far points should go, as a multiple of what turns one expression into the other."""
    outside: float = Field(default=10.0, ge=0)
    """Of the change that content makes away from brows, eyes and mouth, mean absolute; brows and
    eyes, which the flow moves without blurring them, cost two fifths of that."""
    outside_flow: float = Field(default=0.2, ge=0)
    """Of the flow away from brows, eyes and mouth, in pixels."""


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
    """The edits' part, and the critic's own loss.

    Attributes:
        total: Weighted.
        shape: Root mean square distance of points from where they should go, in pixels.
        outside: Mean absolute change by content away from brows, eyes and mouth, weighted.
        flow: Mean length of the flow, in pixels.
        guidance: Mean cross-entropy of the guides.
        judged: Mean scores by the critics of features, of face, mouth and eyes, added, negated.
        mask: Mean of the masks.
        critic: The critics' mean hinge loss.
    """

    total: Tensor
    shape: Tensor
    outside: Tensor
    flow: Tensor
    guidance: Tensor
    judged: Tensor
    mask: Tensor
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
    transport: ShapeTransport,
    batch: Batch,
    encoding: tuple[Tensor, Tensor],
    config: ExpressionLossConfig,
    random: torch.Generator,
) -> EditLosses:
    """The losses of faces given another expression.

    Choi et al. (2018), https://arxiv.org/abs/1711.09020, with frozen guides besides the critic,
    and a flow that is told where points of the face go.

    Args:
        model: The model.
        critic: Learns beside it; the total does not reach its weights.
        guides: Frozen classifiers in evaluation mode, which see varied copies only.
        transport: Where points should go.
        batch: The faces.
        encoding: Means and features from `model_losses`.
        config: Weights.
        random: Decides.

    Returns:
        The losses.
    """
    x, labels = batch.x[batch.sources], batch.labels
    edit = model.decode_runs(*(part[batch.sources] for part in encoding))
    mask, flow = fields(edit, x.shape[-1])
    warped = warp(x, flow)
    y = warped + mask * (edit.content - warped)
    motion = _motion(flow, batch, transport, config)
    looks = [guide.look(vary(y, random)) for guide in guides]
    entropies = [functional.cross_entropy(look.logits, labels, reduction="none") for look in looks]
    entropy = torch.stack(entropies).mean(0)
    with torch.no_grad():
        real = [some for guide in guides for some in guide.look(vary(batch.x, random)).features]
    fake = [some for look in looks for some in look.features]
    critic_loss, judged = _adversarial(
        critic, (jitter(batch.x, random), real), (jitter(y, random), fake), labels
    )
    low_pass = functional.avg_pool2d(y - x, y.shape[-1] // 8).abs().mean()
    outside = (motion.costs * (y - warped).abs()).mean()
    total = (
        motion.total
        + config.guidance * functional.relu(entropy - config.guidance_margin).mean()
        + config.adversarial * judged
        + config.low_pass * low_pass
        + config.outside * outside
        + config.roughness * functional.relu(_roughness(y) - _roughness(x)).mean()
    )
    return EditLosses(
        total,
        motion.error,
        outside,
        motion.length,
        entropy.mean(),
        judged,
        mask.mean(),
        critic_loss,
    )


def motion_losses(
    model: ExpressionModel,
    transport: ShapeTransport,
    batch: Batch,
    encoding: tuple[Tensor, Tensor],
    config: ExpressionLossConfig,
) -> "Motion":
    """The losses of faces given another expression by the flow alone; see `edit_losses`."""
    edit = model.decode_runs(*(part[batch.sources] for part in encoding))
    return _motion(fields(edit, batch.x.shape[-1]).flow, batch, transport, config)


class Motion(NamedTuple):
    """What the flow costs.

    Attributes:
        total: Weighted.
        error: Root mean square distance of points from where they should go, in pixels.
        length: Mean length of the flow, in pixels.
        costs: (B, 1, H, W) in [0, 1]: what it costs to change pixels otherwise.
    """

    total: Tensor
    error: Tensor
    length: Tensor
    costs: Tensor


def _motion(
    flow: Tensor, batch: Batch, transport: ShapeTransport, config: ExpressionLossConfig
) -> Motion:
    size = flow.shape[-1]
    shapes = batch.shapes[batch.sources]
    moved = transport(shapes, batch.labels[batch.sources], batch.labels)
    moved = shapes + config.shape_gain * (moved - shapes)
    there = functional.grid_sample(
        flow, (2 * moved - 1)[:, None], padding_mode="border", align_corners=False
    )  # (B, 2, 1, 68)
    error = size * (there[:, :, 0].mT - (shapes - moved)).norm(dim=2)  # (B, 68)
    square = error.square().mean()
    length = size * (flow.square().sum(1, keepdim=True) + 1e-10).sqrt()  # (B, 1, H, W)
    both = torch.stack([shapes, moved], 1)  # (B, 2, 68, 2)
    away = _away(both[:, :, FEATURES].flatten(1, 2), size)
    costs = away.lerp(_away(both[:, :, LIPS].flatten(1, 2), size), _EYES_COST)
    total = config.shape * square + config.outside_flow * (away * length).mean()
    return Motion(total, square.detach().sqrt(), length.mean(), costs)


def _away(points: Tensor, size: int) -> Tensor:
    """How far pixels are from the nearest of points (B, P, 2): 0 up to _NEAR, 1 from _FAR on."""
    cells = size // 2
    place = (torch.arange(cells, device=points.device, dtype=points.dtype) + 0.5) / cells
    grid = torch.cartesian_prod(place, place).flip(1)  # (cells², 2), x first
    distance = torch.cdist(grid.expand(len(points), -1, -1), points).amin(2)
    ramp = ((distance - _NEAR) / (_FAR - _NEAR)).clamp(0, 1)
    return functional.interpolate(
        ramp.view(-1, 1, cells, cells), scale_factor=2, mode="bilinear", align_corners=False
    )


def _roughness(x: Tensor) -> Tensor:
    """How far pixels lie from the mean of 3 × 3 around them, in 8 × 8 parts of a picture."""
    away = (x - functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)).abs()
    return functional.avg_pool2d(away, x.shape[-1] // 8)


def _adversarial(
    critic: ExpressionCritic,
    real: tuple[Tensor, Sequence[Tensor]],
    fake: tuple[Tensor, Sequence[Tensor]],
    labels: Tensor,
) -> tuple[Tensor, Tensor]:
    """Hinge losses of critic and edits, for one backward pass: neither reaches the other.

    Lim & Ye (2017), https://arxiv.org/abs/1705.02894. The critics of features weigh together as
    much as each of those of pixels.
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
    judged = [some.mean() for some in functional_call(critic, frozen, (seen, features, labels))]
    heads, pixels = judged[: len(features)], judged[len(features) :]
    return critic_loss, -torch.stack(heads).mean() - torch.stack(pixels).sum()

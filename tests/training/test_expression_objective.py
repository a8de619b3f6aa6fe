"""The objective of expression training: fair pairs, and gradients that reach what they should."""

import numpy as np
import pytest
import torch
from torch import Tensor

from facegen.training.expression.classifier import Classifier, ClassifierConfig, adversarial, vary
from facegen.training.expression.critic import ExpressionCritic, jitter
from facegen.training.expression.model import ExpressionConfig, ExpressionModel
from facegen.training.expression.objective import (
    Batch,
    ExpressionLossConfig,
    edit_losses,
    model_losses,
    motion_losses,
)
from facegen.training.expression.shapes import ShapeTransport

_MODEL = ExpressionConfig(latent_size=8, widths=(4, 8, 8, 8, 8), feature_channels=4)
_LOSS = ExpressionLossConfig()


def _random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def guides() -> list[Classifier]:
    """Two frozen classifiers, not trained."""
    configs = (
        ClassifierConfig(width=4),
        ClassifierConfig(architecture="residual", width=4, input_size=32),
    )
    guides = [Classifier(config).eval().requires_grad_(requires_grad=False) for config in configs]
    for guide in guides:
        guide.head.weight *= 100  # as sure of themselves as trained ones
    return guides


@pytest.fixture
def shapes() -> Tensor:
    """Four shapes for each of five expressions, each expression a little lower than the last."""
    some = 0.3 + 0.3 * torch.rand(1, 68, 2) + 0.01 * torch.randn(20, 1, 2)
    return some + torch.tensor([0.0, 0.02]) * torch.arange(5).repeat_interleave(4)[:, None, None]


@pytest.fixture
def transport(shapes: Tensor) -> ShapeTransport:
    """From each of the five expressions to the others."""
    return ShapeTransport(shapes.numpy(), np.arange(5).repeat(4), 5)


@pytest.fixture
def batch(shapes: Tensor) -> Batch:
    """Four faces of noise for each of five expressions."""
    return Batch.of(torch.rand(20, 1, 48, 48), shapes, 5)


def test_every_decoder_edits_as_many_faces_of_every_other_expression(batch: Batch) -> None:
    targets = batch.labels
    sources = batch.labels[batch.sources]

    pairs = sorted(zip(sources.tolist(), targets.tolist(), strict=True))
    assert pairs == [(a, b) for a in range(5) for b in range(5) if a != b]
    assert sorted(batch.sources.tolist()) == list(range(20))


def test_critic_and_model_learn_from_one_backward_pass_without_reaching_each_other(
    batch: Batch, guides: list[Classifier], transport: ShapeTransport
) -> None:
    model = ExpressionModel(_MODEL)
    critic = ExpressionCritic(5, [w for guide in guides for w in guide.feature_widths()])
    encoding = model_losses(model, batch, _LOSS, _random())[1:]
    losses = edit_losses(model, critic, guides, transport, batch, encoding, _LOSS, _random())

    of_model = torch.autograd.grad(
        losses.total, [*critic.parameters()], retain_graph=True, allow_unused=True
    )
    of_critic = torch.autograd.grad(
        losses.critic, [*model.parameters()], retain_graph=True, allow_unused=True
    )
    assert all(gradient is None for gradient in (*of_model, *of_critic))
    (losses.total + losses.critic).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in critic.parameters())
    for name in (
        "encoder.mu.weight",
        "encoder.features.0.weight",
        "decoders.anger.motion.2.weight",
    ):
        gradient = dict(model.named_parameters())[name].grad
        assert gradient is not None
        assert gradient.abs().max() > 0


def test_vae_alone_leaves_the_motion_alone(batch: Batch) -> None:
    model = ExpressionModel(_MODEL)
    loss = _LOSS.model_copy(update={"own": 0.0})

    model_losses(model, batch, loss, _random())[0].total.backward()  # type: ignore[no-untyped-call]

    anger = model.decoders["anger"]
    assert any(p.grad is not None and p.grad.any() for p in anger.merge.parameters())
    motion = [p.grad for p in anger.motion.parameters()]
    assert all(gradient is None or not gradient.any() for gradient in motion)


def test_flow_learns_to_take_points_where_they_should_go(
    batch: Batch, transport: ShapeTransport
) -> None:
    model = ExpressionModel(_MODEL)
    loss = ExpressionLossConfig(shape=1, shape_gain=1, outside_flow=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    errors = []

    for step in range(40):
        encoding = model_losses(model, batch, loss, _random(step))[1:]
        losses = motion_losses(model, transport, batch, encoding, loss)
        optimizer.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        errors.append(losses.error.item())

    assert errors[-1] < 0.5 * errors[0]


def test_content_away_from_the_features_of_a_face_costs(
    batch: Batch, guides: list[Classifier], transport: ShapeTransport
) -> None:
    model = ExpressionModel(_MODEL)
    critic = ExpressionCritic(5, [w for guide in guides for w in guide.feature_widths()])
    encoding = model_losses(model, batch, _LOSS, _random())[1:]

    def outside(shapes: Tensor) -> float:
        moved = batch._replace(shapes=shapes)
        losses = edit_losses(model, critic, guides, transport, moved, encoding, _LOSS, _random())
        return losses.outside.item()

    assert outside(batch.shapes + 3.0) > 1.1 * outside(batch.shapes)


def test_edits_learn_to_convince_a_guide(
    batch: Batch, guides: list[Classifier], transport: ShapeTransport
) -> None:
    model = ExpressionModel(_MODEL)
    critic = ExpressionCritic(5, [w for guide in guides for w in guide.feature_widths()])
    loss = ExpressionLossConfig(
        **dict.fromkeys(("own", "adversarial", "low_pass", "shape", "outside", "outside_flow"), 0),
        guidance=1,
        guidance_margin=0,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    entropies = []

    for step in range(25):
        encoding = model_losses(model, batch, loss, _random(step))[1:]
        losses = edit_losses(model, critic, guides, transport, batch, encoding, loss, _random(step))
        optimizer.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        entropies.append(losses.guidance.item())

    assert sum(entropies[-5:]) / 5 < sum(entropies[:5]) / 5 - 0.05


@pytest.mark.parametrize("view", [vary, jitter])
def test_views_depend_on_the_generator_alone_and_pass_gradients(view: object) -> None:
    assert callable(view)
    x = torch.rand(6, 1, 48, 48, requires_grad=True)

    first: Tensor = view(x, _random(3))

    assert torch.equal(first, view(x, _random(3)))
    assert not torch.equal(first, view(x, _random(4)))
    first.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_adversary_stays_in_its_ball_and_raises_the_loss(guides: list[Classifier]) -> None:
    x, targets = torch.rand(8, 1, 48, 48), torch.eye(5)[torch.arange(8) % 5]

    attacked = adversarial(guides[0], x, targets, radius=0.5, steps=2, random=_random())

    assert (attacked - x).flatten(1).norm(dim=1).max() <= 0.5 + 1e-4
    before, after = (
        torch.nn.functional.cross_entropy(guides[0](some), targets) for some in (x, attacked)
    )
    assert after > before


@pytest.mark.parametrize("architecture", ["plain", "residual", "separable"])
def test_classifiers_do_not_mind_brightness(architecture: str) -> None:
    config = ClassifierConfig.model_validate({"architecture": architecture, "width": 4})
    model = Classifier(config).eval()
    x = 0.25 + 0.5 * torch.rand(4, 1, 48, 48)

    logits = model(x)

    assert logits.shape == (4, 5)
    assert torch.allclose(logits, model(x + 0.2), atol=1e-4)
    assert model.feature_widths() == tuple(f.shape[1] for f in model.look(x).features)

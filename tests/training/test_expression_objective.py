"""The objective of expression training: fair pairs, and gradients that reach what they should."""

import numpy as np
import pytest
import torch
from torch import Tensor

from facegen.training.expression.appearance import AppearanceTransport, ShapedFaces
from facegen.training.expression.classifier import Classifier, ClassifierConfig, adversarial, vary
from facegen.training.expression.model import ExpressionConfig, ExpressionModel
from facegen.training.expression.module import move
from facegen.training.expression.objective import (
    Batch,
    EditLosses,
    ExpressionLossConfig,
    edit_losses,
    model_losses,
)

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
def teacher(shapes: Tensor) -> AppearanceTransport:
    """From each of the five expressions to the others."""
    images = np.random.default_rng(0).integers(0, 256, (20, 48, 48, 1), np.uint8)
    labels, shares = np.arange(5).repeat(4), np.ones(20, np.float32)
    faces = ShapedFaces(images, shapes.numpy(), labels, shares)
    return AppearanceTransport(faces, _MODEL.expressions)


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


def test_guides_and_teacher_reach_encoder_and_motion(
    batch: Batch, guides: list[Classifier], teacher: AppearanceTransport
) -> None:
    model = ExpressionModel(_MODEL)
    encoding = model_losses(model, batch, _LOSS, _random())[1:]

    losses = edit_losses(model, guides, teacher, batch, encoding, _LOSS, _random())

    losses.total.backward()  # type: ignore[no-untyped-call]
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


def _learn(
    model: ExpressionModel,
    guides: list[Classifier],
    teacher: AppearanceTransport,
    batch: Batch,
    loss: ExpressionLossConfig,
) -> list[EditLosses]:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history = []
    for step in range(30):
        encoding = model_losses(model, batch, loss, _random(step))[1:]
        losses = edit_losses(model, guides, teacher, batch, encoding, loss, _random(step))
        optimizer.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append(losses)
    return history


def test_edits_learn_what_they_are_taught(batch: Batch, teacher: AppearanceTransport) -> None:
    history = _learn(ExpressionModel(_MODEL), [], teacher, batch, _LOSS)

    assert history[-1].flow < 0.9 * history[0].flow
    assert history[-1].taught < history[0].taught
    assert history[-1].guidance == 0


def test_masks_away_from_mouths_cost(batch: Batch, teacher: AppearanceTransport) -> None:
    only = dict.fromkeys(("own", "taught", "taught_ssim", "flow", "roughness"), 0)
    loss = ExpressionLossConfig(**only, mask=10)

    history = _learn(ExpressionModel(_MODEL), [], teacher, batch, loss)

    assert history[-1].mask < 0.8 * history[0].mask


def test_guides_say_nothing_of_expressions_that_they_do_not_know(
    batch: Batch, teacher: AppearanceTransport
) -> None:
    config = ClassifierConfig(width=4, expressions=_MODEL.expressions[:3])
    guide = Classifier(config).eval().requires_grad_(requires_grad=False)
    only = dict.fromkeys(("own", "taught", "taught_ssim", "flow", "mask", "roughness"), 0)
    loss = ExpressionLossConfig(**only, guidance=1, guidance_margin=0)
    model = ExpressionModel(_MODEL)
    encoding = model_losses(model, batch, loss, _random())[1:]

    edit_losses(model, [guide], teacher, batch, encoding, loss, _random()).total.backward()  # type: ignore[no-untyped-call]

    known, unknown = (
        [p.grad for p in model.decoders[name].motion.parameters() if p.grad is not None]
        for name in ("surprise", "anger")
    )
    assert any(gradient.any() for gradient in known)
    assert not any(gradient.any() for gradient in unknown)


def test_edits_learn_to_convince_a_guide(
    batch: Batch, guides: list[Classifier], teacher: AppearanceTransport
) -> None:
    only = dict.fromkeys(("own", "taught", "taught_ssim", "flow", "mask", "roughness"), 0)
    loss = ExpressionLossConfig(**only, guidance=1, guidance_margin=0)

    history = _learn(ExpressionModel(_MODEL), guides, teacher, batch, loss)

    entropies = [losses.guidance.item() for losses in history]
    assert sum(entropies[-5:]) / 5 < sum(entropies[:5]) / 5 - 0.05


def test_views_depend_on_the_generator_alone_and_pass_gradients() -> None:
    x = torch.rand(6, 1, 48, 48, requires_grad=True)

    first: Tensor = vary(x, _random(3))

    assert torch.equal(first, vary(x, _random(3)))
    assert not torch.equal(first, vary(x, _random(4)))
    first.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_points_move_with_their_pictures() -> None:
    shapes = 0.3 + 0.4 * torch.rand(8, 68, 2)
    place = (torch.arange(48) + 0.5) / 48
    away = torch.stack([*torch.meshgrid(place, place, indexing="xy")], -1) - shapes[:, :1, None]
    x = (-(away.square().sum(-1)) / 0.002).exp()[:, None]  # a spot on the first point

    pictures, moved = move(x, shapes, _random())

    total = pictures.sum((1, 2, 3))
    found = [(pictures[:, 0].sum(axis) * place).sum(1) / total for axis in (1, 2)]
    assert torch.allclose(torch.stack(found, 1), moved[:, 0], atol=0.01)
    assert (moved - shapes).abs().amax((1, 2)).min() > 0.01


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

"""The expression model: what an edit does to a picture, and what its parts promise."""

import numpy as np
import pytest
import torch
from torch import Tensor

from facegen.training.data.alignment import TEMPLATE, align, square_to_picture
from facegen.training.expression.model import (
    Edit,
    ExpressionConfig,
    ExpressionModel,
    apply_edit,
    spline_matrix,
    window,
)

_TINY = ExpressionConfig(latent_size=8, widths=(4, 8, 8, 8, 8), feature_channels=4)


@pytest.fixture
def model() -> ExpressionModel:
    """A tiny model, not trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ExpressionModel(_TINY).eval()


@pytest.fixture
def x() -> Tensor:
    """Ten pictures of noise."""
    return torch.rand(10, 1, 48, 48, generator=torch.Generator().manual_seed(1))


def _edit(
    *, mask: float = 0.0, flow: tuple[float, float] = (0.0, 0.0), content: float = 0.5
) -> Edit:
    """The same edit of ten pictures."""
    return Edit(
        torch.full((10, 1, 48, 48), content),
        torch.full((10, 1, 24, 24), mask),
        torch.tensor(flow)[:, None, None].expand(10, 2, 24, 24),
    )


def test_empty_edit_and_no_strength_change_nothing(x: Tensor) -> None:
    empty = apply_edit(x, _edit())
    weak = apply_edit(x, _edit(mask=1.0, flow=(0.05, 0.0)), strength=0.0)

    assert torch.allclose(empty, x, atol=1e-5)
    assert torch.allclose(weak, x, atol=1e-5)


def test_full_mask_shows_the_content_inside_and_the_picture_at_the_border(x: Tensor) -> None:
    y = apply_edit(x, _edit(mask=1.0, content=0.25))

    assert torch.allclose(y[:, :, 8:40, 8:40], torch.tensor(0.25), atol=1e-5)
    assert (y - x)[:, :, 0].abs().max() < 0.04


def test_flow_tells_where_a_pixel_comes_from(x: Tensor) -> None:
    y = apply_edit(x, _edit(flow=(3 / 48, -2 / 48)))

    assert torch.allclose(y[:, :, 8:40, 8:40], x[:, :, 6:38, 11:43], atol=1e-4)


def test_strength_scales_the_mask(x: Tensor) -> None:
    strengths = torch.tensor([0.25, 0.5]).repeat(5)[:, None, None, None]

    change = apply_edit(x, _edit(mask=0.8, content=1.0), strengths) - x

    quarter, half = change[0::2, :, 10:38, 10:38], change[1::2, :, 10:38, 10:38]
    room = 1 - x[:, :, 10:38, 10:38]
    assert torch.allclose(quarter / room[0::2], torch.tensor(0.2), atol=1e-3)
    assert torch.allclose(half / room[1::2], torch.tensor(0.4), atol=1e-3)


def test_spline_keeps_constants_and_bounds() -> None:
    matrix = spline_matrix(48)

    assert torch.allclose(matrix.sum(1), torch.ones(48))
    assert matrix.min() >= 0
    assert torch.allclose(matrix, matrix.flip(0, 1), atol=1e-6)


def test_window_is_one_inside_and_falls_to_nothing_at_the_edge() -> None:
    fade = window(480)

    assert torch.allclose(fade, fade.flip(0), atol=1e-5)
    assert torch.all(fade[40:440] == 1)
    assert fade[0] < 1e-3
    assert torch.all(fade[:40].diff() > 0)


def test_runs_are_decoded_by_their_own_decoders(model: ExpressionModel, x: Tensor) -> None:
    with torch.no_grad():
        posterior, features = model.encoder(x)
        together = model.decode_runs(posterior.mu, features)
        alone = [
            decoder(posterior.mu[2 * i : 2 * i + 2], features[2 * i : 2 * i + 2])
            for i, decoder in enumerate(model.decoders.values())
        ]

    for name in Edit._fields:
        expected = torch.cat([getattr(edit, name) for edit in alone])
        assert torch.allclose(getattr(together, name), expected, atol=1e-5)


def test_edits_have_the_shapes_and_bounds_they_promise(model: ExpressionModel, x: Tensor) -> None:
    with torch.no_grad():
        posterior, features = model.encoder(x)
        content, mask, flow = model.decoders["anger"](100 * posterior.mu, features)

    assert features.shape == (10, 4, 12, 12)
    assert (content.shape, mask.shape, flow.shape) == (
        (10, 1, 48, 48),
        (10, 1, 24, 24),
        (10, 2, 24, 24),
    )
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert flow.abs().max() <= _TINY.flow_limit


def test_decoders_share_their_first_layers_only(model: ExpressionModel) -> None:
    neutral, anger = model.decoders["neutral"], model.decoders["anger"]

    assert neutral.linear is anger.linear
    assert neutral.trunk is anger.trunk
    assert neutral.merge is not anger.merge


@pytest.mark.parametrize("degrees", [0, 17, -120])
@pytest.mark.parametrize("side_px", [30.0, 48.0, 700.0])
def test_alignment_finds_the_square_that_the_points_were_made_from(
    degrees: float, side_px: float
) -> None:
    k = side_px * np.exp(1j * np.radians(degrees))
    there = k * (TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]) + (5 - 3j)

    matrix = square_to_picture(np.stack([there.real, there.imag], 1))

    assert np.allclose(matrix, [[k.real, -k.imag, 5], [k.imag, k.real, -3]])


def test_align_cuts_out_what_the_matrix_says() -> None:
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8), (200, 200)).copy()

    small = align(ramp, np.array([[48.0, 0, 60], [0, 48, 20]]), size_px=48)
    large = align(ramp, np.array([[144.0, 0, 30], [0, 144, 20]]), size_px=48)
    turned = align(ramp, np.array([[0.0, 48, 60], [48, 0, 20]]), size_px=48)

    assert np.array_equal(small, np.broadcast_to(np.arange(60, 108), (48, 48)))
    assert np.abs(large.astype(int) - (30 + 3 * np.arange(48) + 1)).max() <= 1
    assert np.array_equal(turned, small.T)

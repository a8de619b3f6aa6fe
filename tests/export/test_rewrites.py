from typing import Literal

import pytest
import torch
from torch import nn

from facegen.export.onnx_export import to_onnx
from facegen.export.rewrites import decoder_forms, encoder_forms, fold_head
from facegen.training import Autoencoder, AutoencoderConfig
from facegen.training.autoencoder import Decoder, Grain


def trained_like(
    kind: Literal["vae", "autoencoder"] = "vae",
    *,
    widths: tuple[int, ...] = (8, 12, 16),
    head_width: int = 0,
    grain: bool = False,
) -> Autoencoder:
    """A model whose normalisations do something, as after training."""
    torch.manual_seed(0)
    model = Autoencoder(
        AutoencoderConfig(
            kind=kind,
            image_size=32,
            latent_size=6,
            widths=widths,
            head_width=head_width,
            grain=grain,
        )
    ).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
        if isinstance(module, Grain):
            nn.init.normal_(module.strength)
    return model


def refined_like(head_width: int, *, grain: bool = False) -> Decoder:
    return trained_like(head_width=head_width, grain=grain).decoder


@pytest.mark.parametrize("widths", [(8, 12, 16), (8,)])
def test_folded_head_equals_what_it_replaces_in_float64(widths: tuple[int, ...]) -> None:
    decoder = trained_like(widths=widths).decoder.double()
    z = torch.randn(16, 6, dtype=torch.float64)

    affine, count = fold_head(decoder)

    with torch.no_grad():
        expected = decoder.linear(z).unflatten(1, (decoder.width, decoder.side, decoder.side))
        expected = decoder.stages[:count](expected)
    folded = (z @ affine.weight + affine.bias).reshape(-1, *affine.shape)
    assert count == 1
    torch.testing.assert_close(folded, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("form", "head_width", "grain"),
    [
        (form, width, grain)
        for width in (0, 5)
        for grain in (False, True)
        for form in decoder_forms(refined_like(width))
    ],
)
def test_every_decoder_form_computes_the_same(form: str, head_width: int, grain: bool) -> None:
    decoder = refined_like(head_width, grain=grain)
    z = torch.randn(16, 6)

    with torch.no_grad():
        pixels = decoder_forms(decoder)[form]()(z)
        expected = decoder(z)

    torch.testing.assert_close(pixels, expected, atol=1e-4, rtol=1e-4)


def test_end_in_phases_is_of_decoders_that_end_at_full_size() -> None:
    def names(decoder: Decoder) -> list[str]:
        return [form for form in decoder_forms(decoder) if "end in phases" in form]

    assert len(names(refined_like(5))) == 1
    assert not names(refined_like(0))
    assert not names(trained_like(widths=(8,), head_width=5).decoder)


def test_folding_leaves_the_decoder_as_it_was() -> None:
    decoder = refined_like(5)
    before = {key: value.clone() for key, value in decoder.state_dict().items()}

    for build in decoder_forms(decoder).values():
        build()

    assert not decoder.training
    assert all(torch.equal(value, before[key]) for key, value in decoder.state_dict().items())


@pytest.mark.parametrize("form", encoder_forms(trained_like().encoder))
def test_every_encoder_form_computes_the_same(form: str) -> None:
    encoder = trained_like().encoder
    x = torch.rand(4, 3, 32, 32)

    with torch.no_grad():
        posterior = encoder_forms(encoder)[form]()(x)
        expected = encoder(x)

    torch.testing.assert_close(posterior.mu, expected.mu, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(posterior.logvar, expected.logvar, atol=1e-4, rtol=1e-4)


def test_autoencoder_has_the_plain_encoder_alone() -> None:
    assert list(encoder_forms(trained_like("autoencoder").encoder)) == ["plain"]


def test_exporter_folds_the_normalisations_that_are_left() -> None:
    decoder = trained_like().decoder

    model = to_onnx(decoder, {"latent": torch.randn(2, 6)}, outputs=["image"], name="decoder")

    operators = {node.op_type for node in model.graph.node}
    assert "ConvTranspose" in operators
    assert "BatchNormalization" not in operators


def test_module_that_draws_noise_is_refused() -> None:
    from facegen.export.errors import RandomOperatorError

    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.randn_like(x)

    with pytest.raises(RandomOperatorError, match="RandomNormalLike"):
        to_onnx(Noisy(), {"x": torch.zeros(2, 3)}, outputs=["y"], name="noisy")

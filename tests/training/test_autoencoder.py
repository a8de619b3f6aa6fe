import pytest
import torch
from torch import nn

from facegen.training.autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    Grain,
    Posterior,
    reparameterize,
)


def test_default_model_has_the_founding_layers() -> None:
    model = Autoencoder(AutoencoderConfig())
    down = [m for m in model.encoder.modules() if isinstance(m, nn.Conv2d)]
    up = [m for m in model.decoder.modules() if isinstance(m, nn.ConvTranspose2d)]

    assert [m.out_channels for m in down] == [32, 64, 128, 256, 512]
    assert {(m.kernel_size, m.stride, m.padding) for m in down} == {((4, 4), (2, 2), (2, 2))}
    assert [m.out_channels for m in up] == [256, 128, 64, 32, 3]
    assert {(m.kernel_size, m.stride) for m in up} == {((3, 3), (2, 2))}
    assert model.encoder.mu.in_features == 512 * 3 * 3
    assert model.decoder.linear.out_features == 512 * 2 * 2


@pytest.mark.parametrize(("channels", "image_size"), [(3, 64), (1, 64), (3, 32)])
def test_shapes_of_posterior_and_reconstruction(channels: int, image_size: int) -> None:
    config = AutoencoderConfig.model_validate(
        {"channels": channels, "image_size": image_size, "widths": (4, 4, 4), "latent_size": 5}
    )
    x = torch.rand(2, channels, image_size, image_size)

    outputs = Autoencoder(config)(x, torch.randn(2, 5))

    assert outputs.reconstruction.shape == x.shape
    assert outputs.posterior.mu.shape == outputs.posterior.logvar.shape == (2, 5)
    assert outputs.latent.shape == (2, 5)


def test_autoencoder_has_no_variances_and_ignores_noise() -> None:
    model = Autoencoder(AutoencoderConfig(kind="autoencoder", widths=(4, 4), latent_size=3)).eval()
    x = torch.rand(2, 3, 64, 64)

    outputs = model(x, torch.randn(2, 3))

    assert outputs.posterior.logvar is None
    assert torch.equal(outputs.latent, outputs.posterior.mu)


def test_reparameterized_latents_have_the_posteriors_moments() -> None:
    mu, logvar = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, -2.0]])
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))

    latents = reparameterize(Posterior(mu.expand(20_000, 2), logvar.expand(20_000, 2)), noise)

    torch.testing.assert_close(latents.mean(0), mu[0], atol=0.03, rtol=0)
    torch.testing.assert_close(latents.var(0), logvar[0].exp(), atol=0.03, rtol=0)


def test_without_noise_the_latent_is_the_mean() -> None:
    posterior = Posterior(torch.ones(1, 2), torch.ones(1, 2))

    assert reparameterize(posterior, None) is posterior.mu


def test_picture_size_that_the_widths_cannot_make_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size is 48, 5 widths need a multiple of 32"):
        Autoencoder(AutoencoderConfig(image_size=48))


def test_signal_neither_fades_nor_grows_through_an_untrained_decoder() -> None:
    torch.manual_seed(0)
    decoder = Autoencoder(AutoencoderConfig()).decoder
    deviations = []
    for stage in decoder.stages:
        if isinstance(stage, nn.ConvTranspose2d):
            stage.register_forward_hook(lambda *call: deviations.append(call[2].std().item()))

    picture = decoder(torch.randn(32, 128))

    assert all(0.01 < deviation < 2 for deviation in deviations)
    assert picture.mean().item() == pytest.approx(0.5, abs=0.05)


def test_grain_lies_in_maps_of_a_quarter_of_the_side_and_more() -> None:
    decoder = Autoencoder(AutoencoderConfig(head_width=24, grain=True)).decoder

    sides = [tuple(m.noise.shape) for m in decoder.modules() if isinstance(m, Grain)]

    assert sides == [(16, 16), (32, 32), (64, 64)]


def test_decoder_without_grain_begins_one_with_it() -> None:
    torch.manual_seed(0)
    plain = Autoencoder(AutoencoderConfig(head_width=24)).decoder.eval()
    grained = Autoencoder(AutoencoderConfig(head_width=24, grain=True)).decoder.eval()

    missing, unexpected = grained.load_state_dict(plain.state_dict(), strict=False)

    assert unexpected == []
    assert {name.split(".")[-1] for name in missing} == {"noise", "strength"}
    z = torch.randn(3, 128)
    torch.testing.assert_close(grained(z), plain(z))


def test_grain_is_the_same_for_every_picture_and_model() -> None:
    first, second = (Grain(4, 8, nn.Identity()) for _ in range(2))
    nn.init.ones_(first.strength)

    added = first(torch.zeros(2, 4, 8, 8))

    assert added[0].equal(added[1])
    assert added[0, 0].equal(second.noise)
    assert added.std() > 0.5

"""The convolutional autoencoder and its variational form, at any latent size and widths."""

import math
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from facegen.training.convolutions import Convolution

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "AutoencoderOutput",
    "Decoder",
    "Encoder",
    "Grain",
    "Posterior",
    "reparameterize",
]

_LOGVAR_LIMIT = 10.0
"""exp(±10) spans every posterior seen in training and keeps float16 and the KL finite."""

_GRAIN_SHARE = 0.25
"""Maps of at least this part of a picture's side have grain: 16, 32 and 64 of 64."""

_OUTPUT_GAIN = 0.2
"""Pictures deviate from grey by about this much: the first reconstructions do too."""


class AutoencoderConfig(BaseModel):
    """What a model is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["vae", "autoencoder"] = "vae"
    """vae: posteriors and a prior; autoencoder: one latent per picture."""
    image_size: int = Field(default=64, ge=4)
    """Height and width in pixels; a multiple of 2 to the number of widths."""
    channels: Literal[1, 3] = 3
    """3 for RGB, 1 for grey."""
    latent_size: int = Field(default=128, ge=1)
    """Values in a latent."""
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Channels of the encoder's stages; the decoder has the same in reverse."""
    head_width: int = Field(default=0, ge=0)
    """Channels at full size before a last convolution of the decoder; 0 has none."""
    grain: bool = False
    """Add fixed noise of learned strength in the decoder's last maps: hair and skin need chance."""
    activation: Literal["silu", "leaky-relu"] = "silu"
    """The nonlinearity after every normalisation."""


class Posterior(NamedTuple):
    """What the encoder says of a picture: N(mu, exp(logvar)), or mu alone."""

    mu: Tensor
    logvar: Tensor | None


class AutoencoderOutput(NamedTuple):
    """What one pass gives: reconstruction (B, C, H, W), unclamped, posterior, and latent (B, Z)."""

    reconstruction: Tensor
    posterior: Posterior
    latent: Tensor


def reparameterize(posterior: Posterior, noise: Tensor | None) -> Tensor:
    """Draw latents from posteriors: mu + sigma · noise.

    Kingma & Welling (2014), https://arxiv.org/abs/1312.6114, section 2.4.

    Args:
        posterior: Means and logarithms of variances, (B, Z).
        noise: Standard normal, (B, Z); None gives the means.

    Returns:
        (B, Z); the means where there are no variances.
    """
    if noise is None or posterior.logvar is None:
        return posterior.mu
    return posterior.mu + torch.exp(0.5 * posterior.logvar) * noise


def _activation(config: AutoencoderConfig) -> nn.Module:
    return nn.SiLU() if config.activation == "silu" else nn.LeakyReLU(0.2)


def _down(inputs: int, outputs: int, config: AutoencoderConfig) -> nn.Sequential:
    return nn.Sequential(
        Convolution(inputs, outputs, kernel_size=4, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(outputs),
        _activation(config),
    )


def _up_convolution(inputs: int, outputs: int, *, gain: float = 1.0) -> nn.ConvTranspose2d:
    convolution = nn.ConvTranspose2d(
        inputs, outputs, kernel_size=3, stride=2, padding=1, output_padding=1
    )
    # He et al. (2015), https://arxiv.org/abs/1502.01852, equation 10, with the inputs that reach an
    # output: a quarter of the kernel's at stride 2.
    reached = inputs * 9 / 4
    nn.init.normal_(convolution.weight, std=gain * math.sqrt(2 / reached))
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # it has one
    return convolution


class Grain(nn.Module):
    """Adds noise that is the same for every picture, as strong as learned, before a nonlinearity.

    A convolution that has to draw hair from smooth maps repeats a pattern: it has no source of
    chance. Karras et al. (2019), https://arxiv.org/abs/1812.04948, section 3.2, give it noise; here
    that is fixed, so that a latent has one picture.

    Args:
        channels: Of the maps, (B, C, H, H).
        side: Their H.
        activation: The nonlinearity.
    """

    noise: Tensor

    def __init__(self, channels: int, side: int, activation: nn.Module) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(side)
        self.register_buffer("noise", torch.randn(side, side, generator=random))  # (H, H)
        self.strength = nn.Parameter(torch.zeros(channels, 1, 1))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Add and bend: (B, C, H, H) to the same shape."""
        bent: Tensor = self.activation(x + self.strength * self.noise)
        return bent


def _bend(channels: int, side: int, config: AutoencoderConfig) -> nn.Module:
    """The nonlinearity after an up-convolution, with grain where maps are large."""
    if config.grain and side >= _GRAIN_SHARE * config.image_size:
        return Grain(channels, side, _activation(config))
    return _activation(config)


def _head(inputs: int, config: AutoencoderConfig) -> list[nn.Module]:
    if not config.head_width:
        return [_up_convolution(inputs, config.channels, gain=_OUTPUT_GAIN)]
    last = nn.Conv2d(config.head_width, config.channels, kernel_size=3, padding=1)
    nn.init.normal_(last.weight, std=_OUTPUT_GAIN * math.sqrt(2 / (config.head_width * 9)))
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]  # it has one
    bend = _bend(config.head_width, config.image_size, config)
    return [_up_convolution(inputs, config.head_width), bend, last]


class Encoder(nn.Module):
    """Pictures to posteriors: a strided convolution a width, then linear layers to mu and logvar.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        sizes = (config.channels, *config.widths)
        self.stages = nn.Sequential(*(_down(a, b, config) for a, b in pairwise(sizes)))
        side = config.image_size
        for _ in config.widths:
            side = side // 2 + 1  # kernel 4, stride 2, padding 2: 64 → 33 → 17 → 9 → 5 → 3
        features = config.widths[-1] * side * side
        self.mu = nn.Linear(features, config.latent_size)
        self.logvar = nn.Linear(features, config.latent_size) if config.kind == "vae" else None

    def forward(self, x: Tensor) -> Posterior:
        """Encode pictures.

        Args:
            x: (B, C, H, W) in [0, 1].

        Returns:
            Means and, for a VAE, logarithms of variances, (B, Z) each.
        """
        x = self.stages(x - 0.5)  # (B, 512, 3, 3)
        x = x.flatten(1)  # (B, 4608)
        mu = self.mu(x)  # (B, Z)
        if self.logvar is None:
            return Posterior(mu, None)
        return Posterior(mu, self.logvar(x).clamp(-_LOGVAR_LIMIT, _LOGVAR_LIMIT))


class Decoder(nn.Module):
    """Latents to pictures: a linear layer, then a strided transposed convolution a width.

    A kernel of 3 at stride 2 reaches pixels one, two or four times, and an adversarial loss makes
    that seen as hatching (Odena et al. 2016, https://distill.pub/2016/deconv-checkerboard); a last
    convolution of stride 1, `head_width`, can even it out.

    Nothing stands between the linear layer and the first convolution, so that an export can fold
    the two. Nothing is normalised: under batch normalisation the decoder grows one spike of
    activation that carries the scale of the rest, and leaves a patch of noise in the picture, as
    Karras et al. (2020), https://arxiv.org/abs/1912.04958, section 2, saw of instance
    normalisation.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.side = config.image_size // 2 ** len(config.widths)
        self.width = config.widths[-1]
        self.linear = nn.Linear(config.latent_size, self.width * self.side * self.side)
        widths = config.widths[::-1]
        stages: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise(widths), 1):
            bend = _bend(outputs, self.side * 2**index, config)
            stages += [_up_convolution(inputs, outputs), bend]
        self.stages = nn.Sequential(*stages, *_head(widths[-1], config))

    def forward(self, z: Tensor) -> Tensor:
        """Decode latents.

        Args:
            z: (B, Z).

        Returns:
            (B, C, H, W): about [0, 1], not clamped.
        """
        x = self.linear(z)  # (B, 512 · 2 · 2)
        x = x.unflatten(1, (self.width, self.side, self.side))  # (B, 512, 2, 2)
        x = self.stages(x)  # (B, C, H, W)
        return torch.add(x, 0.5)


class Autoencoder(nn.Module):
    """An encoder and a decoder.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        step = 2 ** len(config.widths)
        if config.image_size % step:
            raise ValueError(
                f"image_size is {config.image_size}, "
                f"{len(config.widths)} widths need a multiple of {step}"
            )
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> AutoencoderOutput:
        """Reconstruct pictures.

        Args:
            x: (B, C, H, W) in [0, 1].
            noise: Standard normal, (B, Z); None reconstructs from the means.

        Returns:
            Reconstructions, posteriors and the latents that were decoded.
        """
        posterior = self.encoder(x)
        z = reparameterize(posterior, noise)
        reconstruction: Tensor = self.decoder(z)
        return AutoencoderOutput(reconstruction, posterior, z)

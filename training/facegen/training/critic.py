"""The critic of adversarial refinement: it tells real faces from decoded ones by their features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from facegen.training.perception import FEATURE_CHANNELS

__all__ = ["Critic", "adversarial_losses"]

_WIDTH = 64
_HALVED_MAP_COUNT = 2
"""The first maps are halved before their places are scored: 8 × 8, 4 × 4, 4 × 4 at 64 pixels."""


class Critic(nn.Module):
    """A patch critic with spectral normalisation on each of several maps of features.

    Sauer et al. (2021), Projected GANs Converge Faster, https://arxiv.org/abs/2111.01007: a critic
    that need not learn to see teaches within minutes. Miyato et al. (2018),
    https://arxiv.org/abs/1802.05957.

    Args:
        channels: Of the maps.
    """

    def __init__(self, channels: Sequence[int] = FEATURE_CHANNELS) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            _head(count, halvings=int(index < _HALVED_MAP_COUNT))
            for index, count in enumerate(channels)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Score the places of maps.

        Args:
            maps: (B, C, H, W) each, in the order of `channels`.

        Returns:
            (B, 1, ·, ·) each; higher is more real.
        """
        return [head(x) for head, x in zip(self.heads, maps, strict=True)]


def _head(channels: int, *, halvings: int) -> nn.Sequential:
    layers: list[nn.Module] = [spectral_norm(nn.Conv2d(channels, _WIDTH, kernel_size=1))]
    for _ in range(halvings):
        strided = nn.Conv2d(_WIDTH, _WIDTH, kernel_size=4, stride=2, padding=1)
        layers += [nn.LeakyReLU(0.2), spectral_norm(strided)]
    layers += [nn.LeakyReLU(0.2), spectral_norm(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1))]
    layers += [nn.LeakyReLU(0.2), spectral_norm(nn.Conv2d(_WIDTH, 1, kernel_size=1))]
    return nn.Sequential(*layers)


def adversarial_losses(
    critic: Critic, real: Sequence[Tensor], fake: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Hinge losses of a critic and of what it judges, to be minimised in one backward pass.

    Lim & Ye (2017), https://arxiv.org/abs/1705.02894. The critic's loss does not reach `fake`, and
    the other does not reach the critic's weights, so one optimiser may hold both.

    Args:
        critic: The critic.
        real: Maps of pictures, (B, C, H, W) each.
        fake: Maps of decoded faces, (N, C, H, W) each, with gradients.

    Returns:
        The critic's loss and the decoded faces' loss, means over places, then over maps.
    """
    joined = [torch.cat([r, f.detach()]) for r, f in zip(real, fake, strict=True)]
    sizes = [len(real[0]), len(fake[0])]
    scores = [score.split(sizes) for score in critic(joined)]
    critic_losses = [
        functional.relu(1 - real_score).mean() + functional.relu(1 + fake_score).mean()
        for real_score, fake_score in scores
    ]
    frozen = {name: value.detach() for name, value in critic.named_parameters()}
    judged: list[Tensor] = functional_call(critic, frozen, (list(fake),))
    return (
        torch.stack(critic_losses).mean(),
        -torch.stack([score.mean() for score in judged]).mean(),
    )

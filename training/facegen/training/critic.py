"""The critic of adversarial fine-tuning: it tells real patches from reconstructed ones."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["Critic", "adversarial_losses"]

_WIDTHS = (32, 64, 128)


class Critic(nn.Module):
    """A patch critic with spectral normalisation.

    Isola et al. (2017), https://arxiv.org/abs/1611.07004, section 3.2.2; Miyato et al. (2018),
    https://arxiv.org/abs/1802.05957. A score sees 38 pixels: texture, not identity.

    Args:
        channels: Of the pictures.
        widths: Channels of the strided convolutions.
    """

    def __init__(self, channels: int, widths: Sequence[int] = _WIDTHS) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for width in widths:
            convolution = nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1)
            stages += [spectral_norm(convolution), nn.LeakyReLU(0.2)]
            channels = width
        stages.append(spectral_norm(nn.Conv2d(channels, 1, kernel_size=3, padding=1)))
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        """Score patches.

        Args:
            x: (B, C, H, W), about [0, 1].

        Returns:
            (B, 1, H/8, W/8); higher is more real.
        """
        scores: Tensor = self.stages(2 * x - 1)
        return scores


def adversarial_losses(critic: Critic, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Hinge losses of a critic and of what it judges, to be minimised in one backward pass.

    Lim & Ye (2017), https://arxiv.org/abs/1705.02894. The critic's loss does not reach `fake`, and
    the other does not reach the critic's weights, so one optimiser may hold both.

    Args:
        critic: The critic.
        real: Pictures, (B, C, H, W).
        fake: Their reconstructions, with gradients.

    Returns:
        The critic's loss and the reconstructions' loss, means over patches.
    """
    real_scores, fake_scores = critic(torch.cat([real, fake.detach()])).chunk(2)
    critic_loss = functional.relu(1 - real_scores).mean() + functional.relu(1 + fake_scores).mean()
    frozen = {name: value.detach() for name, value in critic.named_parameters()}
    judged: Tensor = functional_call(critic, frozen, (fake,))
    return critic_loss, -judged.mean()

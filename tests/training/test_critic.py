import torch
from torch import nn

from facegen.training.critic import Critic, adversarial_losses


def gradients(module: nn.Module) -> list[bool]:
    return [p.grad is not None and bool(p.grad.any()) for p in module.parameters()]


def test_critics_loss_leaves_the_reconstructions_alone() -> None:
    critic, fake = Critic(3), torch.rand(2, 3, 32, 32, requires_grad=True)

    torch.autograd.backward(adversarial_losses(critic, torch.rand(2, 3, 32, 32), fake)[0])

    assert fake.grad is None
    assert any(gradients(critic))


def test_reconstructions_loss_leaves_the_critic_alone() -> None:
    critic, fake = Critic(3), torch.rand(2, 3, 32, 32, requires_grad=True)

    torch.autograd.backward(adversarial_losses(critic, torch.rand(2, 3, 32, 32), fake)[1])

    assert fake.grad is not None
    assert not any(gradients(critic))


def test_critic_learns_to_tell_texture_from_blur() -> None:
    torch.manual_seed(0)
    critic = Critic(1)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    real, fake = torch.rand(16, 1, 16, 16), torch.full((16, 1, 16, 16), 0.5)
    losses = []

    for _ in range(60):
        loss, _ = adversarial_losses(critic, real, fake)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.7 * losses[0]
    assert critic(real).mean() > critic(fake).mean()

import torch
from torch import Tensor, nn

from facegen.training.alterations import alter
from facegen.training.critic import Critic, adversarial_losses
from facegen.training.randomness import generator

CHANNELS = (3, 5)


def tiny_critic() -> Critic:
    return Critic(CHANNELS)


def maps(*, count: int = 2) -> list[Tensor]:
    return [torch.rand(count, channels, 8, 8) for channels in CHANNELS]


def gradients(module: nn.Module) -> list[bool]:
    return [p.grad is not None and bool(p.grad.any()) for p in module.parameters()]


def test_critics_loss_leaves_the_decoded_faces_alone() -> None:
    critic, fake = tiny_critic(), [m.requires_grad_() for m in maps(count=4)]

    torch.autograd.backward(adversarial_losses(critic, maps(), fake)[0])

    assert all(m.grad is None for m in fake)
    assert any(gradients(critic))


def test_decoded_faces_loss_leaves_the_critic_alone() -> None:
    critic, fake = tiny_critic(), [m.requires_grad_() for m in maps(count=4)]

    torch.autograd.backward(adversarial_losses(critic, maps(), fake)[1])

    assert all(m.grad is not None and m.grad.any() for m in fake)
    assert not any(gradients(critic))


def test_critic_learns_to_tell_texture_from_blur() -> None:
    torch.manual_seed(0)
    critic = tiny_critic()
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    real, fake = maps(count=16), [torch.full_like(m, 0.5) for m in maps(count=16)]
    losses = []

    for _ in range(60):
        loss, _ = adversarial_losses(critic, real, fake)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.7 * losses[0]
    for real_scores, fake_scores in zip(critic(real), critic(fake), strict=True):
        assert real_scores.mean() > fake_scores.mean()


def test_equal_draws_alter_pictures_alike_and_let_gradients_through() -> None:
    x = torch.rand(8, 3, 32, 32)
    y = x.clone().requires_grad_()

    altered = alter(y, generator(3, "alter", 7))

    assert altered.equal(alter(x, generator(3, "alter", 7)))
    assert not altered.equal(alter(x, generator(3, "alter", 8)))
    torch.autograd.backward(altered.sum())
    assert y.grad is not None
    assert y.grad.any()


def test_an_altered_flat_grey_picture_stays_flat() -> None:
    altered = alter(torch.full((4, 1, 16, 16), 0.5), generator(0, "alter", 0))

    assert altered.shape == (4, 1, 16, 16)
    torch.testing.assert_close(altered.amax((1, 2, 3)), altered.amin((1, 2, 3)))
    assert (altered - 0.5).abs().max() <= 0.2

import pytest
import torch

from facegen.training.autoencoder import AutoencoderOutput, Posterior
from facegen.training.losses import kl_divergence
from facegen.training.objective import objective
from facegen.training.recipes import LossConfig


@pytest.fixture
def outputs() -> AutoencoderOutput:
    random = torch.Generator().manual_seed(0)
    mu, logvar = torch.randn(2, 4, 3, generator=random)
    return AutoencoderOutput(
        torch.rand(4, 1, 8, 8, generator=random), Posterior(mu, logvar), mu + 1.0
    )


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_fixed_weight_adds_beta_times_the_divergence(
    outputs: AutoencoderOutput, x: torch.Tensor
) -> None:
    terms = objective(outputs, x, LossConfig(reconstruction="fixed", beta=0.25))

    assert outputs.posterior.logvar is not None
    kl = kl_divergence(outputs.posterior.mu, outputs.posterior.logvar).mean()
    squared = (outputs.reconstruction - x).square().sum() / 4
    torch.testing.assert_close(terms.total, squared + 0.25 * kl)


def test_divergence_is_warmed_up_in_training_and_whole_in_validation(
    outputs: AutoencoderOutput, x: torch.Tensor
) -> None:
    config = LossConfig(beta_warmup_steps=10)

    begun, half, whole = (objective(outputs, x, config, step=step) for step in (0, 4, 99))
    validated = objective(outputs, x, config)

    torch.testing.assert_close(begun.total - begun.reconstruction, 0.1 * begun.kl)
    torch.testing.assert_close(half.total - half.reconstruction, 0.5 * half.kl)
    torch.testing.assert_close(whole.total, validated.total)


def test_free_nats_change_what_is_paid_and_not_what_is_told(
    outputs: AutoencoderOutput, x: torch.Tensor
) -> None:
    free = objective(outputs, x, LossConfig(free_nats=100.0))
    plain = objective(outputs, x, LossConfig())

    torch.testing.assert_close(free.kl, plain.kl)
    torch.testing.assert_close(free.total - free.reconstruction, torch.tensor(300.0))


def test_discrepancy_is_the_one_of_the_latents_that_are_decoded(
    outputs: AutoencoderOutput, x: torch.Tensor
) -> None:
    near = outputs._replace(latent=torch.zeros(4, 3), posterior=Posterior(outputs.latent, None))
    far = near._replace(latent=torch.full((4, 3), 9.0))
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    config = LossConfig(mmd_weight=5.0)

    totals = [objective(o, x, config, noise=noise).total for o in (near, far)]

    assert totals[1] > totals[0]


def test_plain_autoencoders_pay_for_the_picture_alone(
    outputs: AutoencoderOutput, x: torch.Tensor
) -> None:
    plain = outputs._replace(posterior=Posterior(outputs.latent, None))

    terms = objective(plain, x, LossConfig(reconstruction="mse"))

    torch.testing.assert_close(terms.total, terms.reconstruction)
    assert terms.kl == 0

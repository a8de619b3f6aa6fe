"""The rows of the study: what is trained, in which stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["PEERS", "ROWS", "Row", "Stage"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One training of a row.

    Attributes:
        preset: The recipe.
        settings: What differs from it.
        share: Of the row's minutes.
        cost: Stages whose steps cost the same have the same; it is measured once.
    """

    preset: str
    settings: Sequence[str] = ()
    share: float = 1.0
    cost: str = "plain"


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        title: For people.
        stages: Trained one after the other; each further one starts from the one before.
    """

    title: str
    stages: Sequence[Stage]


_NO_SSIM = "loss.ssim_weight=0"
_STRONG = ("loss.feature_weight=0.5", "loss.adversarial_weight=0.2", "loss.spectrum_weight=0.2")
_NO_SPECTRUM = "loss.spectrum_weight=0"
_CRITIC_ALONE = (_NO_SSIM, _NO_SPECTRUM, "loss.feature_weight=0")
_SIGMA = Stage("celeba-vae", (_NO_SSIM,))


def _refined(kind: str, *settings: str, first: Sequence[str], share: float) -> tuple[Stage, Stage]:
    return (
        Stage(f"celeba-{kind}", first, 1 - share, "plain" if _NO_SSIM in first else "ssim"),
        Stage(f"celeba-{kind}-sharp", settings, share, "refined"),
    )


ROWS: Mapping[str, Row] = {
    "ae": Row("AE, squared error", (Stage("celeba-ae", (_NO_SSIM,)),)),
    "vae-fixed": Row(
        "VAE of fixed weight: squared error + KL",
        (Stage("celeba-vae", (_NO_SSIM, "loss.reconstruction=fixed")),),
    ),
    "vae-warmup": Row(
        "VAE of fixed weight, warmed up",
        (
            Stage(
                "celeba-vae",
                (_NO_SSIM, "loss.reconstruction=fixed", "loss.beta_warmup_steps=500"),
            ),
        ),
    ),
    "sigma-vae": Row("sigma-VAE", (_SIGMA,)),
    "sigma-vae-free-bits": Row(
        "sigma-VAE, ¼ nat free a value",
        (Stage("celeba-vae", (_NO_SSIM, "loss.free_nats=0.25")),),
    ),
    "sigma-vae-no-ema": Row(
        "sigma-VAE without averaged weights", (Stage("celeba-vae", (_NO_SSIM, "ema_decay=0")),)
    ),
    "sigma-vae-bf16": Row(
        "sigma-VAE in bf16", (Stage("celeba-vae", (_NO_SSIM, "precision=bf16"), cost="bf16"),)
    ),
    "sigma-vae-ssim": Row("sigma-VAE + SSIM", (Stage("celeba-vae", cost="ssim"),)),
    "sigma-vae-features": Row(
        "sigma-VAE + features",
        (Stage("celeba-vae", (_NO_SSIM, "loss.feature_weight=0.5"), cost="features"),),
    ),
    "sigma-vae-critic": Row(
        "sigma-VAE, critic for the last fifth",
        _refined("vae", *_CRITIC_ALONE, first=(_NO_SSIM,), share=0.2),
    ),
    "wae-mmd": Row("WAE-MMD", (Stage("celeba-ae", (_NO_SSIM, "loss.mmd_weight=1000.0")),)),
    "vae-all": Row(
        "sigma-VAE with all: SSIM, features, critic, spectrum",
        _refined("vae", first=(), share=0.4),
    ),
    "vae-all-again": Row(
        "sigma-VAE with all, seed 1",
        _refined("vae", "seed=1", first=("seed=1",), share=0.4),
    ),
    "vae-no-spectrum": Row(
        "sigma-VAE with all but the spectrum",
        _refined("vae", _NO_SPECTRUM, first=(), share=0.4),
    ),
    "ae-all": Row(
        "AE with all, weaker",
        _refined("ae", first=(), share=0.4),
    ),
    "ae-all-strong": Row(
        "AE with all: SSIM, features, critic, spectrum",
        _refined("ae", *_STRONG, first=(), share=0.4),
    ),
    "ae-all-strong-again": Row(
        "AE with all, seed 1",
        _refined("ae", *_STRONG, "seed=1", first=("seed=1",), share=0.4),
    ),
}
"""Rows of our own, by name."""

PEERS: Mapping[str, str] = {
    "pythae-vae": "pythae's VAE",
    "pythae-rae": "pythae's RAE-L2",
    "pytorch-vae": "plain VAE after PyTorch-VAE's description",
}
"""Rows of others, by name."""

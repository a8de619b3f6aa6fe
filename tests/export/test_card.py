from pathlib import Path

import numpy as np
import pytest

from facegen.export.card import family_card
from facegen.export.config import FamilyFacts
from facegen.training import Autoencoder, MixturePrior, Run, RunPaths, load_config


def card(preset: str, *overrides: str) -> str:
    config = load_config(preset, [*overrides, "model.widths=[4, 4]", "model.latent_size=2"])
    eye = np.eye(2, dtype=np.float32)
    prior = MixturePrior(np.ones(1, np.float32), np.zeros((1, 2), np.float32), eye[None])
    facts = FamilyFacts(
        family="faces",
        kind=config.model.kind,
        latent_size=2,
        image_size=(64, 64, config.model.channels),
        crop=0.5,
        dataset=config.data.reader,
        data_license="",
        metrics={},
        protocol="",
        commit="c0ffee",
    )
    run = Run(RunPaths(Path("runs/faces")), config, Autoencoder(config.model), {}, {}, prior)
    return family_card(run, facts, version=1, graphs=[])


def test_preset_as_it_is_needs_no_settings() -> None:
    text = card("celeba-vae")

    assert "facegen train celeba-vae" in text
    assert "--set epochs" not in text


def test_settings_that_differ_from_the_preset_are_in_the_command() -> None:
    assert "--set epochs=3" in card("lfw-vae", "epochs=3")


def test_where_the_data_lies_is_not_told() -> None:
    assert "/secret" not in card("celeba-vae", 'data.root="/secret"')


@pytest.mark.parametrize(
    ("preset", "overrides", "words"),
    [
        ("celeba-vae", ("loss.ssim_weight=0.0",), "learned variance + 1 · KL |"),
        ("celeba-vae", ("loss.ssim_weight=0.5",), "+ 1 · KL + 0.5 · (1 − SSIM)"),
        ("celeba-vae", ("loss.reconstruction=fixed", "loss.beta=4.0"), "squared error + 4 · KL"),
        ("celeba-ae", ("loss.reconstruction=sigma", "loss.ssim_weight=0.0"), "learned variance |"),
    ],
)
def test_loss_is_the_recipes(preset: str, overrides: tuple[str, ...], words: str) -> None:
    assert words in card(preset, *overrides)


@pytest.mark.parametrize(
    ("preset", "title"), [("celeba-vae", "CelebA"), ("lfw-vae", "LFW"), ("fer-vae", "FER2013")]
)
def test_data_set_is_told_with_its_terms(preset: str, title: str) -> None:
    text = card(preset)

    assert f"({title})" in text
    assert "Terms: " in text
    assert ("pixels, grey" in text) == (preset == "fer-vae")

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from facegen.training import load_run
from facegen.training.evaluation import evaluate_run
from facegen.training.features import FeatureNetwork


@pytest.fixture(scope="module")
def measured(tiny_runs: Mapping[str, Path]) -> dict[str, float | str]:
    run = load_run(tiny_runs["vae"])
    return evaluate_run(run.paths.folder, Path(run.config.data.root), count=6)


def test_evaluation_writes_what_it_returns(
    tiny_runs: Mapping[str, Path], measured: dict[str, float | str]
) -> None:
    written = json.loads((tiny_runs["vae"] / "metrics.json").read_text("utf-8"))

    assert written == measured


def test_evaluation_measures_every_set_and_states_its_protocol(
    measured: dict[str, float | str],
) -> None:
    sets = ["floor", "reconstruction", "mixture", "normal", "pca_reconstruction", "pca_gaussian"]

    assert {f"{kind}_{name}" for kind in ("frechet", "kernel") for name in sets} <= set(measured)
    assert all(np.isfinite(v) for v in measured.values() if isinstance(v, float))
    assert "EfficientNet-Lite0" in str(measured["protocol"])


def test_psnr_is_that_of_the_models_reconstructions(
    tiny_runs: Mapping[str, Path], measured: dict[str, float | str]
) -> None:
    from facegen.training.latents import decode_latents, encode_pictures

    run = load_run(tiny_runs["vae"])
    real = run.validation_images(6)
    rebuilt = decode_latents(run.model, encode_pictures(run.model, real))

    error = ((real / 255.0 - rebuilt / 255.0) ** 2).reshape(len(real), -1).mean(1)
    assert measured["psnr_db"] == pytest.approx((-10 * np.log10(error)).mean())


def test_features_of_grey_pictures_are_those_of_the_same_picture_in_rgb() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1), dtype=np.uint8)

    network = FeatureNetwork()

    features, expected = (network.of_images(p) for p in (grey, grey.repeat(3, axis=3)))
    assert features == pytest.approx(expected, abs=1e-4)

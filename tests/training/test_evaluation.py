"""`facegen evaluate` on runs of autoencoders: what it writes, and the page that it leaves."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from facegen.client.cli import app
from facegen.training import load_run
from facegen.training.errors import ConfigurationError, DatasetError
from facegen.training.evaluation import EvaluationOptions, evaluate_run
from facegen.training.evaluation.explanations import GROUPS, explain
from facegen.training.latents import decode_latents, encode_pictures
from facegen.training.pages import picture

OPTIONS = EvaluationOptions(
    count=6, second_count=4, embedded_count=3, label_minimum=2, timing_seconds=0.0
)
SETS = ["floor", "reconstruction", "mixture", "normal", "pca_reconstruction", "pca_gaussian"]


def facegen(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="facegen")


def data_of(folder: Path) -> Path:
    return Path(load_run(folder).config.data.root)


@pytest.fixture(scope="module")
def folder(tiny_runs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the VAE's run."""
    copy = tmp_path_factory.mktemp("evaluation") / "tiny-vae"
    shutil.copytree(tiny_runs["vae"], copy)
    return copy


@pytest.fixture(scope="module")
def measured(folder: Path) -> dict[str, Any]:
    return evaluate_run(folder, data_of(folder), options=OPTIONS)


@pytest.fixture(scope="module")
def page(folder: Path, measured: dict[str, Any]) -> str:
    return (folder / "evaluation.html").read_text("utf-8")


def test_evaluation_writes_what_it_returns(folder: Path, measured: dict[str, Any]) -> None:
    written = json.loads((folder / "metrics.json").read_text("utf-8"))

    assert written == measured


def test_evaluation_measures_every_set_with_every_network(measured: dict[str, Any]) -> None:
    judged = ["floor", "reconstruction", "mixture", "normal", "pca_gaussian"]
    expected = {f"{kind}_{name}" for kind in ("frechet", "kernel") for name in SETS}
    for network in ("lite2", "dlib"):
        expected |= {f"{kind}_{it}_{network}" for kind in ("frechet", "kernel") for it in judged}
    expected |= {f"frechet_mixture_to_pca_gaussian{it}" for it in ("", "_lite2", "_dlib")}
    expected |= {f"{kind}_{name}" for kind in ("sharpness", "spectrum", "weave") for name in SETS}
    kinds = ("precision", "recall", "density", "coverage")
    expected |= {f"{kind}_{name}" for kind in kinds for name in ("floor", "mixture", "normal")}
    expected |= {f"found_{name}" for name in judged}
    expected |= {f"frechet_mixture_temperature_{it}" for it in ("0.7", "0.85")}
    expected |= {"psnr_db", "ssim", "bits_per_dimension", "kl_nats", "active_units"}
    expected |= {f"{way}_ms_batch_{it}" for way in ("encode", "decode") for it in (1, 64)}

    assert expected <= set(measured)
    numbers = {name: it for name, it in measured.items() if isinstance(it, int | float)}
    assert [name for name, it in numbers.items() if not np.isfinite(it)] == []
    assert measured["left_out"] == {"inception_fid_…": "not asked for: --inception"}


def test_public_page_shows_nobody_of_the_data_set(folder: Path, page: str) -> None:
    public = (folder / "evaluation-public.html").read_text("utf-8")
    run = load_run(folder)
    real = run.validation_images(6)
    rebuilt = decode_latents(run.model, encode_pictures(run.model, real))

    for images in (real, rebuilt):
        urls = [picture(image, "").split('"')[3] for image in images]
        assert all(url in page for url in urls)
        assert not any(url in public for url in urls)
    assert all(
        f"<h2>{title}</h2>" in public for title in ("Samples", "Between two faces", "Protocol")
    )
    assert "do not publish it" not in public


def test_protocol_names_everything_that_decides_the_numbers(measured: dict[str, Any]) -> None:
    fields = measured["protocol_fields"]

    assert "EfficientNet-Lite0" in measured["protocol"]
    assert fields["data"]["count"] == 6
    assert fields["data"]["split"] == "validation"
    assert fields["data"]["antialias"] is True
    assert fields["samples"]["temperatures"] == [1.0, 0.7, 0.85]
    assert {name: it["count"] for name, it in fields["feature_networks"].items()} == {
        "lite0": 6,
        "lite2": 4,
        "dlib": 3,
    }
    for network in fields["feature_networks"].values():
        assert re.fullmatch(r"[0-9a-f]{64}", network["sha256"])
        assert network["batch_norm"] == "eval"
    assert fields["samples"]["seed"] == fields["pca"]["seed"]
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", fields["commit"])
    assert fields["threads"] >= 1
    assert {"python", "torch", "numpy"} <= set(fields["versions"])


def test_every_number_has_a_meaning_and_a_place(measured: dict[str, Any]) -> None:
    for name, value in measured.items():
        if isinstance(value, int | float):
            group, meaning = explain(name)
            assert group in GROUPS
            assert len(meaning) > 10, name


def test_psnr_is_that_of_the_models_reconstructions(folder: Path, measured: dict[str, Any]) -> None:
    run = load_run(folder)
    real = run.validation_images(6)
    rebuilt = decode_latents(run.model, encode_pictures(run.model, real))

    error = ((real / 255.0 - rebuilt / 255.0) ** 2).reshape(len(real), -1).mean(1)
    assert measured["psnr_db"] == pytest.approx((-10 * np.log10(error)).mean())


def test_a_second_evaluation_has_the_same_numbers(folder: Path, measured: dict[str, Any]) -> None:
    again = evaluate_run(folder, data_of(folder), options=OPTIONS)

    numbers = {name for name in measured if "_ms_" not in name}
    assert {it: again[it] for it in numbers} == {it: measured[it] for it in numbers}


def test_features_of_real_pictures_are_kept_with_the_data(
    folder: Path, measured: dict[str, Any]
) -> None:
    kept = sorted(it.name for it in (data_of(folder) / ".facegen-cache").glob("*features*"))

    assert {name.split("-features-")[1].split("-")[0] for name in kept} == {
        "lite0",
        "lite2",
        "dlib",
    }


def test_autoencoder_has_no_likelihood_and_the_reason_is_given(
    tiny_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "tiny-ae"
    shutil.copytree(tiny_runs["autoencoder"], folder)

    measured = evaluate_run(folder, data_of(folder), options=OPTIONS, report=tmp_path / "it.html")

    for name in ("bits_per_dimension", "kl_nats", "active_units"):
        assert name not in measured
        assert "no posterior" in measured["left_out"][name]
    assert "no posterior" in (tmp_path / "it.html").read_text("utf-8")


def test_page_needs_nothing_but_itself_and_minds_the_terms(page: str) -> None:
    sources = re.findall(r'src="([^"]*)"', page)

    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"<script|<link|@import|url\(", page)
    assert "mind its terms" in page
    assert "prefers-color-scheme: dark" in page


def test_page_shows_what_people_ask_for(page: str) -> None:
    for title in (
        "Reconstructions",
        "Samples",
        "How far from real faces?",
        "Realism and variety",
        "Temperature",
        "From best to worst",
        "What the latent space holds",
        "Between two faces",
        "Does it remember?",
        "Training",
        "All numbers",
        "Protocol",
    ):
        assert f"<h2>{title}</h2>" in page
    assert page.count('<path class="line') >= 6  # train and validation of three charts
    assert page.count('alt="sample, mixture"') == page.count('alt="sample, normal"') == 24


def test_command_prints_json_for_machines(folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "page.html"

    done = facegen(
        "evaluate", folder, "--data", data_of(folder), "--count", "2", "--json", "--report", report
    )

    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["protocol_fields"]["data"]["count"] == 2
    assert report.is_file()


def test_inception_is_refused_in_words_where_it_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    options = EvaluationOptions(count=2, inception=True)

    with pytest.raises(ConfigurationError, match=r"pip install torch-fidelity|weights are not at"):
        evaluate_run(folder, data_of(folder), options=options)


def test_one_validation_picture_is_not_enough(folder: Path) -> None:
    with pytest.raises(DatasetError, match="at least 2 validation pictures"):
        evaluate_run(folder, data_of(folder), options=EvaluationOptions(count=1))

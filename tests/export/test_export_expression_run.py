"""Exports of expression runs that differ from the tiny repository's, and those refused."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from facegen.errors import FacegenError
from facegen.export import ExportOptions, Measurement, export_run
from facegen.export.checks import check_values
from facegen.export.cli import export
from facegen.export.config import GraphRole, parse_config
from facegen.export.errors import OptionError, RunError, ValueParityError
from facegen.export.expression_rewrites import expression_decoder_forms, expression_encoder_forms
from facegen.training.expression.model import (
    ExpressionConfig,
    ExpressionDecoder,
    ExpressionEncoder,
)

CONFIG = ExpressionConfig(latent_size=6, widths=(4, 6, 8, 10, 12), feature_channels=3)


def quick(aligner: Path | None) -> ExportOptions:
    return ExportOptions(
        storage="float32",
        aligner=aligner,
        picture_count=2,
        measurement=Measurement(repetitions=0),
    )


def test_classifier_is_not_exported(
    tiny_classifier_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match='of kind "classifier", which no family is made of'):
        export_run(tiny_classifier_runs["judge"], tmp_path / "models")

    assert not (tmp_path / "models").exists()


def test_expressions_without_an_aligner_are_refused(
    tiny_expression_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match="--aligner is ''; expected the finished run"):
        export_run(tiny_expression_run, tmp_path / "models", options=quick(None))


def test_aligner_for_an_autoencoder_is_refused(
    tiny_runs: Mapping[str, Path], tiny_aligner_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=r"--aligner is .*only families of expressions"):
        export_run(tiny_runs["vae"], tmp_path / "models", options=quick(tiny_aligner_run))


def test_what_is_no_aligner_is_refused(tiny_expression_run: Path, tmp_path: Path) -> None:
    with pytest.raises(FacegenError, match='of kind "expression"; give one of an aligner'):
        export_run(tiny_expression_run, tmp_path / "models", options=quick(tiny_expression_run))


def test_measured_rates_are_in_the_card_and_in_every_graph(
    tiny_expression_run: Path, tiny_aligner_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(tiny_expression_run, tmp_path / "run")
    metrics = {"target_rate": 0.5, "target_rate_anger": 0.25, "target_rate_at_0.5": 0.4}
    (run / "metrics.json").write_text(json.dumps({**metrics, "protocol": "Twenty drawn faces."}))
    arguments = [str(run), "--to", str(tmp_path / "models"), "--family", "faces", "--json"]
    arguments += ["--aligner", str(tiny_aligner_run), "--repetitions", "0", "--pictures", "2"]
    app = typer.Typer()
    app.command()(export)

    result = CliRunner().invoke(app, arguments, catch_exceptions=False)

    graphs = json.loads(result.stdout)["graphs"]
    card = (tmp_path / "models/faces.md").read_text()
    assert len(graphs) == 9
    assert "| anger | 25.0% |" in card
    assert "| target_rate | 0.5 |" in card
    assert "| target_rate_at_0.5 | 0.4 |" in card
    assert "Twenty drawn faces." in card
    for graph in graphs:
        config = parse_config((tmp_path / "models" / graph["name"] / "config.pbtxt").read_text())
        assert json.loads(config.parameters["facegen.metrics"].string_value) == metrics


def test_weights_that_are_no_numbers_write_nothing(
    tiny_expression_run: Path, tiny_aligner_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(tiny_expression_run, tmp_path / "run")
    weights = load_file(run / "model.safetensors")
    weights["decoders.anger.motion.0.weight"][:] = float("nan")
    save_file(weights, run / "model.safetensors")

    with pytest.raises(FacegenError, match="in mask by nan"):
        export_run(run, tmp_path / "models", options=quick(tiny_aligner_run))

    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("wrong", [0.02, float("nan")])
def test_values_beyond_their_limit_or_no_numbers_are_refused(wrong: float) -> None:
    expected = torch.rand(4, 5, 2).numpy()
    points = expected.copy()
    points[1, 2, 0] += wrong

    with pytest.raises(ValueParityError, match=r"in points by .*, allowed 0\.01"):
        check_values("tested", {"points": points}, {"points": expected}, limits={"points": 0.01})


def test_experimental_expressions_say_so_in_their_name_and_role() -> None:
    role = GraphRole("decoder", expression="fear", experimental=True)

    assert role.model_name("faces") == "faces-decoder-fear"


def trained_like(module: nn.Module) -> nn.Module:
    """Normalisations and biases that do something, as after training."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
        if getattr(part, "bias", None) is not None:
            nn.init.normal_(part.bias)  # type: ignore[arg-type]  # a tensor in every such layer
    return module.eval()


@pytest.mark.parametrize("form", expression_decoder_forms(ExpressionDecoder(CONFIG)))
def test_every_decoder_form_computes_the_same(form: str) -> None:
    decoder = ExpressionDecoder(CONFIG)
    trained_like(decoder)
    z, features = torch.randn(7, 6), torch.randn(7, 3, 12, 12)

    with torch.no_grad():
        edit = expression_decoder_forms(decoder)[form]()(z, features)
        expected = decoder(z, features)

    for found, wanted in zip(edit, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", expression_encoder_forms(ExpressionEncoder(CONFIG)))
def test_every_encoder_form_computes_the_same(form: str) -> None:
    encoder = ExpressionEncoder(CONFIG)
    trained_like(encoder)
    x = torch.rand(4, 1, 48, 48)

    with torch.no_grad():
        found = expression_encoder_forms(encoder)[form]()(x)
        expected = encoder(x)

    torch.testing.assert_close(found.posterior.mu, expected.posterior.mu, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        found.posterior.logvar, expected.posterior.logvar, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(found.features, expected.features, atol=1e-4, rtol=1e-4)

import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from facegen.errors import FacegenError
from facegen.export import ExportOptions, Measurement, export_run
from facegen.export.config import parse_config
from facegen.export.errors import OptionError, WeightRangeError
from facegen.export.report import report_table

QUICK = ExportOptions(storage="float32", measurement=Measurement(repetitions=0))


def parameters(repository: Path, name: str) -> dict[str, str]:
    config = parse_config((repository / name / "config.pbtxt").read_text())
    return {key: value.string_value for key, value in config.parameters.items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def copy_run(source: Path, target: Path, *, scale: float = 1, key: str = "") -> Path:
    """Copy what export reads of a run, with one of its weights multiplied."""
    target.mkdir()
    for name in ("config.toml", "prior.npz", "run.json"):
        (target / name).write_bytes((source / name).read_bytes())
    weights = load_file(source / "model.safetensors")
    if key:
        weights[key] = weights[key] * scale
    save_file(weights, target / "model.safetensors")
    return target


def test_exporting_again_gives_the_same_bytes(
    tiny_runs: Mapping[str, Path], tiny_repository: Path, tmp_path: Path
) -> None:
    report = export_run(tiny_runs["autoencoder"], tmp_path, options=QUICK)

    again = contents(tmp_path)
    assert report.family == "tiny-ae"  # after the run folder
    assert {str(path.relative_to(tmp_path)) for path in report.written} < again.keys()
    assert again == {
        name: content
        for name, content in contents(tiny_repository).items()
        if name.startswith("tiny-ae")
    }


@pytest.mark.parametrize("family", ["Faces", "../faces", "a--b", "tiny_ae", "-a"])
def test_family_that_is_no_folder_name_is_refused(family: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--family is"):
        export_run(tmp_path, tmp_path / "models", family=family)

    assert not (tmp_path / "models").exists()


def test_version_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--version is 0; expected 1 or more"):
        export_run(tmp_path, tmp_path / "models", family="faces", version=0)


def test_folder_that_is_no_run_is_refused_with_its_path(tmp_path: Path) -> None:
    run = tmp_path / "empty"
    run.mkdir()

    with pytest.raises(FacegenError, match=r"empty.*config\.toml"):
        export_run(run, tmp_path / "models")

    assert not (tmp_path / "models").exists()


def test_repository_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")

    with pytest.raises(OptionError, match=r"--to is .*expected a folder"):
        export_run(tmp_path, tmp_path / "models", family="faces")


def test_graph_that_cannot_be_stored_writes_nothing(
    tiny_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    run = copy_run(
        tiny_runs["autoencoder"], tmp_path / "run", scale=1e7, key="encoder.stages.3.0.weight"
    )
    options = ExportOptions(storage="float16", measurement=Measurement(repetitions=0))

    with pytest.raises(WeightRangeError, match="--weights float32"):
        export_run(run, tmp_path / "models", options=options)

    assert not (tmp_path / "models").exists()


def test_measured_export_times_every_form_and_takes_one(
    tiny_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    options = ExportOptions(measurement=Measurement(repetitions=1, batch_sizes=(1, 3)))

    report = export_run(tiny_runs["vae"], tmp_path / "models", options=options)

    graphs = {graph.name: graph for graph in report.graphs}
    decoder = graphs["tiny-vae-decoder"]
    assert decoder.form in decoder.forms_ms
    assert {"plain", "plain, float32", "folded head as Gemm"} <= set(decoder.forms_ms)
    assert all(set(times) == {1, 3} for times in decoder.forms_ms.values())
    assert graphs["tiny-vae-encoder"].size < graphs["tiny-vae-encoder"].plain_size
    assert decoder.largest_error is not None
    assert decoder.largest_error <= 1
    assert "ms at 3" in (tmp_path / "models/tiny-vae.md").read_text()
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report_table(report))
    table = console.export_text()
    assert all(graph.name in table and graph.form in table for graph in report.graphs)


def test_card_tells_the_metrics_and_the_command(
    tiny_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    run = copy_run(tiny_runs["autoencoder"], tmp_path / "run")
    (run / "metrics.json").write_text('{"psnr_db": 21.5, "protocol": "Six drawn faces."}')

    export_run(run, tmp_path / "models", family="carded", options=QUICK)

    card = (tmp_path / "models/carded.md").read_text()
    said = parameters(tmp_path / "models", "carded-encoder")
    assert "| psnr_db | 21.5 |" in card
    assert "Six drawn faces." in card
    assert "facegen train" in card
    assert "--set model.latent_size=8" in card
    assert str(tmp_path) not in card
    assert said["facegen.metrics"] == '{"psnr_db": 21.5}'
    assert said["facegen.protocol"] == "Six drawn faces."


def test_page_of_the_evaluation_comes_along_and_goes(
    tiny_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    run, models = copy_run(tiny_runs["autoencoder"], tmp_path / "run"), tmp_path / "models"
    (run / "metrics.json").write_text('{"frechet_mixture": 30.5, "protocol": "9 pictures."}')
    (run / "evaluation-public.html").write_text("<p>nobody")

    export_run(run, models, family="paged", options=QUICK)

    assert (models / "paged.html").read_text() == "<p>nobody"
    assert "[paged.html](paged.html)" in (models / "paged.md").read_text()

    (run / "evaluation-public.html").unlink()
    export_run(run, models, family="paged", options=QUICK)

    assert not (models / "paged.html").exists()
    assert "paged.html" not in (models / "paged.md").read_text()

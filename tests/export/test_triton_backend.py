"""The flavour of a repository for Triton's Python backend; a real Triton serves it elsewhere."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from facegen.export.cli import export
from facegen.export.config import parse_config
from facegen.export.conversion import convert_repository
from facegen.export.errors import OptionError


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(export)
    return app


def _models(repository: Path) -> list[str]:
    return sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))


def test_every_graph_gets_a_script_and_stays_as_it_is(
    tiny_repository: Path, tmp_path: Path
) -> None:
    convert_repository(tiny_repository, tmp_path, backend="python")

    assert _models(tmp_path) == _models(tiny_repository)
    for graph in tiny_repository.glob("*/*/model.onnx"):
        copy = tmp_path / graph.relative_to(tiny_repository)
        assert copy.read_bytes() == graph.read_bytes()
        assert "class TritonPythonModel" in copy.with_name("model.py").read_text()


def test_configuration_differs_in_the_backend_alone(tiny_repository: Path, tmp_path: Path) -> None:
    convert_repository(tiny_repository, tmp_path, backend="python")

    for name in _models(tiny_repository):
        before, after = (
            parse_config((folder / name / "config.pbtxt").read_text())
            for folder in (tiny_repository, tmp_path)
        )
        assert after.backend == "python"
        assert after.instance_group[0].count == 1
        after.backend = before.backend
        after.ClearField("instance_group")
        assert after == before


def test_converting_back_leaves_no_script(tiny_repository: Path, tmp_path: Path) -> None:
    python, back = tmp_path / "python", tmp_path / "back"

    convert_repository(tiny_repository, python, backend="python")
    convert_repository(python, back, backend="onnxruntime")

    assert _models(back) == _models(tiny_repository)
    assert not list(back.rglob("model.py"))
    assert all('backend: "onnxruntime"' in p.read_text() for p in back.glob("*/config.pbtxt"))


def test_converting_again_replaces_the_models(tiny_repository: Path, tmp_path: Path) -> None:
    convert_repository(tiny_repository, tmp_path, backend="python")
    script = next(tmp_path.rglob("model.py"))
    script.write_text("broken")

    convert_repository(tiny_repository, tmp_path, backend="python")

    assert script.read_text() != "broken"
    assert not list(tmp_path.glob(".export-*"))


def test_a_repository_is_not_converted_in_place(tiny_repository: Path) -> None:
    with pytest.raises(OptionError, match="another folder"):
        convert_repository(tiny_repository, tiny_repository / ".", backend="python")


def test_a_broken_configuration_leaves_the_target_as_it_was(
    tiny_repository: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    convert_repository(tiny_repository, source, backend="onnxruntime")
    (source / "tiny-vae-encoder" / "config.pbtxt").write_text("nonsense {")

    with pytest.raises(OptionError, match="tiny-vae-encoder"):
        convert_repository(source, target, backend="python")

    assert list(target.iterdir()) == []


def test_command_converts_a_repository(
    app: typer.Typer, tiny_repository: Path, tmp_path: Path
) -> None:
    arguments = [str(tiny_repository), "--to", str(tmp_path), "--triton-backend", "python"]

    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)

    written = json.loads(result.stdout)["written"]
    assert [Path(path).name for path in written] == _models(tiny_repository)


def test_a_run_is_exported_for_the_python_backend(
    app: typer.Typer, tiny_runs: dict[str, Path], tmp_path: Path
) -> None:
    run = str(tiny_runs["autoencoder"])
    options = ["--to", str(tmp_path), "--family", "faces", "--repetitions", "0"]

    for version in ("1", "2"):
        CliRunner().invoke(
            app,
            [run, *options, "--version", version, "--triton-backend", "python"],
            catch_exceptions=False,
        )

    assert (tmp_path / "faces-decoder" / "1" / "model.py").is_file()
    assert (tmp_path / "faces-decoder" / "2" / "model.py").is_file()
    assert 'backend: "python"' in (tmp_path / "faces-decoder" / "config.pbtxt").read_text()

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from facegen.errors import FacegenError
from facegen.export.cli import export


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(export)
    return app


def test_help_names_every_option(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})

    assert result.exit_code == 0
    for option in ("--to", "--family", "--version", "--weights", "--data", "--json"):
        assert option in result.output


def test_json_lists_the_graphs_on_stdout(
    app: typer.Typer, tiny_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    arguments = [str(tiny_runs["vae"]), "--to", str(tmp_path), "--family", "faces"]
    arguments += ["--repetitions", "0", "--weights", "float32", "--json"]

    result = CliRunner().invoke(app, arguments, catch_exceptions=False)

    report = json.loads(result.stdout)
    assert report["family"] == "faces"
    assert report["version"] == "1"
    assert [graph["name"] for graph in report["graphs"]] == [
        "faces-encoder",
        "faces-decoder",
        "faces-prior-mixture",
        "faces-prior-normal",
        "faces-directions",
    ]
    assert all(Path(path).is_file() for path in report["written"])


def test_missing_run_is_an_error_of_ours(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "nothing")])

    assert isinstance(result.exception, FacegenError)


def test_unknown_storage_is_misuse(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["run", "--weights", "int8"])

    assert result.exit_code == 2

"""`facegen evaluate` on finished runs, and the page that it leaves."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from facegen.client.cli import app
from facegen.training.errors import RunError
from facegen.training.expression.evaluation import Protocol, headline
from facegen.training.expression.model import EXPRESSIONS
from facegen.training.expression.report import confusions
from facegen.training.expression.run_evaluation import evaluate_expression_run

PROTOCOL = Protocol(source_count=10, identity_count=5)


def facegen(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="facegen")


@pytest.fixture(scope="module")
def measured(
    tiny_expression_run: Path,
    tiny_classifier_runs: Mapping[str, Path],
    tiny_fer: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path, dict[str, Any]]:
    """A run's folder, the page and the results."""
    folder = tmp_path_factory.mktemp("report")
    run, page = folder / "run", folder / "page.html"
    shutil.copytree(tiny_expression_run, run)
    results = evaluate_expression_run(
        run,
        judge=tiny_classifier_runs["judge"],
        data=tiny_fer,
        report=page,
        protocol=PROTOCOL,
    )
    return run, page, results


def test_evaluation_leaves_its_headline_and_everything(
    measured: tuple[Path, Path, dict[str, Any]],
) -> None:
    folder, _, results = measured

    assert json.loads((folder / "evaluation.json").read_text("utf-8")) == results
    assert json.loads((folder / "metrics.json").read_text("utf-8")) == headline(results)
    assert results["expressions"] == list(EXPRESSIONS)
    assert results["counts"]["sources"] == 10
    assert results["counts"]["edited_by_expression"] == dict.fromkeys(EXPRESSIONS, 8)
    assert set(results["target_rate"]) == {"0.5", "1", "1.25"}
    assert results["identity"]["count"] == 20
    assert results["exact_at_strength_0"] is True


def test_evaluation_names_its_judge_networks_and_seed(
    measured: tuple[Path, Path, dict[str, Any]],
) -> None:
    _, _, results = measured

    assert "separable classifier" in results["networks"]["judge"]
    for network in ("features", "identity"):
        assert re.fullmatch("[0-9a-f]{64}", results["networks"][network]["sha256"])
    assert str(PROTOCOL.seed) in results["protocol"]
    assert "10 validation faces of fer" in results["protocol"]
    assert "FID" not in json.dumps(results)


def test_report_needs_nothing_but_itself(measured: tuple[Path, Path, dict[str, Any]]) -> None:
    _, page, results = measured
    html = page.read_text("utf-8")

    sources = re.findall(r'(?:src|href)="([^"]{0,30})', html)
    # Ten rows of a source and five expressions, ten of six strengths, three maps an expression.
    assert len(sources) == 10 * 6 + 10 * 6 + 5 * 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "url(" not in html
    assert f"{results['target_rate']['1']['mean']:.2f}" in html
    assert results["protocol"].partition(";")[0] in html


def test_report_shows_a_target_that_no_source_has(
    measured: tuple[Path, Path, dict[str, Any]],
) -> None:
    *_, results = measured
    fear: dict[str, Any] = {"expressions": [*EXPRESSIONS, "fear"]}
    for key in ("confusion", "by_source"):
        fear[key] = {**results[key], "fear": dict.fromkeys(EXPRESSIONS, 0.25)}

    html = confusions({**results, **fear})

    assert html.count("fear") == 2
    assert html.count("0.25") >= 2 * len(EXPRESSIONS)


def test_a_guide_is_refused_as_judge(
    tiny_expression_run: Path, tiny_classifier_runs: Mapping[str, Path], tiny_fer: Path
) -> None:
    with pytest.raises(RunError, match="it guided the training"):
        evaluate_expression_run(
            tiny_expression_run, judge=tiny_classifier_runs["guide"], data=tiny_fer
        )


def test_command_measures_expressions_and_prints_json(
    measured: tuple[Path, Path, dict[str, Any]],
    tiny_classifier_runs: Mapping[str, Path],
    tiny_fer: Path,
    tmp_path: Path,
) -> None:
    folder, _, results = measured
    report = tmp_path / "new" / "report.html"
    counts = ("--count", "10", "--recognised-count", "5")
    places = ("--judge", tiny_classifier_runs["judge"], "--data", tiny_fer, "--report", report)

    done = facegen("evaluate", "expression", folder, *places, *counts, "--json")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == results
    assert report.is_file()


def test_a_run_alone_is_one_of_faces(tiny_expression_run: Path) -> None:
    named = facegen("evaluate", "face", tiny_expression_run)
    alone = facegen("evaluate", tiny_expression_run)
    options_first = facegen("evaluate", "--count", "5", tiny_expression_run)

    for done in (named, alone, options_first):
        assert isinstance(done.exception, RunError)
        assert 'a run of kind "expression"; give one of an autoencoder' in str(done.exception)


def test_help_lists_both_and_loads_no_torch() -> None:
    program = (
        "import sys\nfrom facegen.client.cli import main\n"
        "sys.argv = ['facegen', 'evaluate', '--help']\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules, 'torch was loaded'\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=250
    )

    assert "torch was loaded" not in done.stderr
    assert re.search(r"face +Measure a VAE", done.stdout)
    assert re.search(r"expression +Measure an expression model", done.stdout)

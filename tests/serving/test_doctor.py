import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from facegen.serving.doctor.examination import examine
from facegen.serving.doctor.printing import print_report
from facegen.serving.doctor.report import GraphReport, Report

# `write_model` of conftest.py: writes a model, returns its repository.
WriteModel = Callable[..., Path]


def _examine(repository: Path, *, probe_s: float = 0.03, **environment: str) -> Report:
    return examine(
        {"engine": f"onnx:{repository}"},
        probe_s=probe_s,
        say=lambda _: None,
        environment={"FACEGEN_SERVE_ADDRESS": "127.0.0.1:0", **environment},
    )


def _by_name(report: Report) -> dict[str, GraphReport]:
    return {graph.name: graph for graph in report.graphs}


def test_every_version_is_told_and_timed(write_model: WriteModel) -> None:
    write_model("single")
    repository = write_model(
        "double", versions=("1", "2", "3"), extra="version_policy { latest { num_versions: 2 } }"
    )

    report = _examine(repository)

    assert report.healthy, report.findings
    assert [(graph.name, graph.version, graph.state) for graph in report.graphs] == [
        ("double", "2", "READY"),
        ("double", "3", "READY"),
        ("single", "1", "READY"),
    ]
    for graph in report.graphs:
        assert [speed.rows for speed in graph.speeds] == [1, 8, 16]
        assert all(speed.rows_per_s > 0 for speed in graph.speeds)
        assert 1 <= graph.max_batch_rows <= 16


def test_model_that_cannot_be_read_is_told_and_the_others_still_timed(
    write_model: WriteModel,
) -> None:
    write_model("broken", config="this is no config")
    repository = write_model("whole")

    report = _examine(repository)

    assert not report.healthy
    graphs = _by_name(report)
    assert graphs["broken"].state == "UNAVAILABLE"
    assert graphs["whole"].speeds
    (finding,) = report.findings
    assert 'model "broken" does not serve' in finding.problem


def test_models_of_other_backends_are_no_fault(write_model: WriteModel) -> None:
    write_model("theirs", config='backend: "python"')
    repository = write_model("ours")

    report = _examine(repository)

    assert report.healthy
    assert _by_name(report)["theirs"].state == "PASSED OVER"


def test_missing_repository_is_told_with_a_remedy(tmp_path: Path) -> None:
    report = _examine(tmp_path / "nowhere")

    assert not report.healthy
    (finding,) = report.findings
    assert finding.problem.endswith("nowhere: does not exist")
    assert "facegen export" in finding.remedy


def test_probing_can_be_left_out(write_model: WriteModel) -> None:
    report = _examine(write_model(), probe_s=0)

    assert report.healthy
    assert [graph.speeds for graph in report.graphs] == [()]


def test_what_is_about_to_happen_is_said(write_model: WriteModel) -> None:
    said: list[str] = []

    examine({"engine": f"onnx:{write_model()}"}, probe_s=0.03, say=said.append, environment={})

    assert said == ["timing 1 model, one after the other: 0.03 s and loading"]


@pytest.mark.parametrize("width", [80, 120])
def test_report_fits_the_terminal(write_model: WriteModel, width: int) -> None:
    write_model("broken-with-a-name-of-some-length", config="this is no config")
    repository = write_model("double")
    report = _examine(repository, FACEGEN_SERVE_THREADS="1", FACEGEN_SERVE_ALLOW_ADMIN="1")
    stream = io.StringIO()

    print_report(report, Console(file=stream, width=width, highlight=False))

    text = stream.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    for word in ("CPUs", "CPUExecutionProvider", "--max-queue-rows", "--allow-admin", "double",
                 "UNAVAILABLE", "rows/s", "✗", "→ "):  # fmt: skip
        assert word in text


def test_command_exits_1_and_prints_json_where_something_is_wrong(
    write_model: WriteModel, tmp_path: Path
) -> None:
    repository = write_model()
    command = [str(Path(sys.executable).with_name("facegen")), "doctor", "--json"]
    environment = {**os.environ, "FACEGEN_SERVE_ADDRESS": "127.0.0.1:0"}

    def run(*flags: str) -> tuple[int, dict[str, object]]:
        answer = subprocess.run(
            [*command, *flags], env=environment, capture_output=True, text=True, check=False
        )
        return answer.returncode, json.loads(answer.stdout)

    status, report = run("--engine", f"onnx:{repository}", "--probe-s", "0.03")
    assert (status, report["healthy"]) == (0, True)
    status, report = run("--engine", f"onnx:{tmp_path / 'nowhere'}")
    assert (status, report["healthy"]) == (1, False)

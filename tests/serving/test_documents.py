"""What the documentation says of the server is so."""

import inspect
import re
from pathlib import Path

import pytest

from facegen.serving import telemetry
from facegen.serving.rpc import status
from tests.serving import flags

_ROOT = Path(__file__).parents[2]
_SERVING = (_ROOT / "docs" / "serving.md").read_text("utf-8")
_COMMAND = "python -m tests.serving.flags"


def test_page_of_flags_is_that_of_the_command() -> None:
    assert flags.PAGE.read_text("utf-8") == flags.page(), f"write it with `{_COMMAND}`"


@pytest.mark.parametrize(
    "page", ["docs/serving.md", "serving/README.md", "clients/README.md", "docker-compose.yml"]
)
def test_flags_and_variables_that_are_named_exist(page: str) -> None:
    text = (_ROOT / page).read_text("utf-8")
    known = flags.page()

    variables = set(re.findall(r"FACEGEN_SERVE_([A-Z_]+[A-Z])\b", text))
    assert {name for name in variables if f"--{name.lower().replace('_', '-')}`" not in known} == (
        set()
    )
    served = re.findall(r"facegen serve (--[^\n`]*)", text)
    named = {flag for line in served for flag in re.findall(r"--[a-z-]+", line)} - {"--help"}
    assert {flag for flag in named if f"`{flag}`" not in known} == set()


def test_every_flag_is_explained() -> None:
    names = re.findall(r"^\| `(--[a-z-]+)`", flags.page(), re.MULTILINE)

    assert len(names) > 30
    assert {name for name in names if name not in _SERVING} == set()


def test_every_code_is_told_with_its_reasons() -> None:
    reasons = re.findall(r"_Code\.([A-Z_]+), \"([A-Z_]+)\"", inspect.getsource(status))
    rows = [line.split("|") for line in _SERVING.splitlines() if line.startswith("| ")]
    told = {(row[1].strip(), reason.strip()) for row in rows for reason in row[2].split(",")}

    assert len(reasons) > 15
    assert set(reasons) - told == set()


def test_every_metric_is_told() -> None:
    folder = Path(telemetry.__file__).parent
    sources = "".join(path.read_text("utf-8") for path in folder.glob("*metrics.py"))
    names = set(re.findall(r'"((?:nv|facegen)_[a-z_]+)"', sources))

    assert len(names) > 15
    assert {name for name in names if f"`{name}" not in _SERVING} == set()


def test_tests_that_are_named_exist() -> None:
    named = re.findall(r"`((?:[a-z_0-9]+/)*test_[a-z_0-9]+\.py)(?:::(\w+))?`", _SERVING)

    assert len(named) > 80
    for path, name in named:
        file = _ROOT / path if path.startswith("tests/") else _ROOT / "tests" / "serving" / path
        assert file.exists(), path
        assert not name or f"def {name}(" in file.read_text("utf-8"), f"{path}::{name}"

"""What holds the project together across its parts."""

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = distribution("facegen").entry_points.select(group="facegen.commands")


def test_facegen_stays_a_namespace_package() -> None:
    markers = [path for path in ROOT.glob("*/facegen/__init__.py") if ".venv" not in path.parts]

    assert markers == []


def test_generated_code_matches_the_protos() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "protos" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", sorted(COMMANDS.names))
def test_every_command_is_in_the_documents(command: str) -> None:
    pages = [ROOT / "README.md", *ROOT.glob("*/README.md")]

    assert any(f"facegen {command}" in page.read_text("utf-8") for page in pages)


def test_links_of_the_readmes_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("docs/**/*.md")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)} links to {link}"


def test_bundled_models_stay_under_60_megabytes() -> None:
    sizes = [file.stat().st_size for file in (ROOT / "models").rglob("*") if file.is_file()]

    assert 0 < sum(sizes) < 60e6

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deploy.dockerfile import copied_files, environment_of, read_stages
from tests.deploy.compose_files import ROOT

_DOCKERFILE = ROOT / "serving" / "Dockerfile"
_IGNORED = ROOT / "serving" / "Dockerfile.dockerignore"
_STAGES = read_stages(_DOCKERFILE)
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def _copied(source: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in copied_files(ROOT, source, _IGNORED)}


def _install(stage: str) -> str:
    """What an image's packages are installed with."""
    return _STAGES[stage].last("RUN").arguments


def test_hadolint_finds_no_fault() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")

    done = subprocess.run([hadolint, _DOCKERFILE], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


def test_every_source_is_copied_and_nothing_else_of_weight() -> None:
    sources = _PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"]
    words = [it.arguments.split() for it in _STAGES["source"].instructions if it.name == "COPY"]
    copied = {source for *sources, _ in words for source in sources}

    assert copied == {*sources, "pyproject.toml", "README.md", "LICENSE"}
    for source in copied:
        files = _copied(source)
        assert files, source
        assert not [file for file in files if "__pycache__" in file]


def test_models_come_without_the_reports_for_people() -> None:
    files = _copied("models")

    assert "models/celeba-vae-decoder/config.pbtxt" in files
    assert "models/celeba-vae-decoder/1/model.onnx" in files
    assert "models/celeba-vae.md" in files  # with the licence of the data
    assert {Path(file).suffix for file in files} <= {".md", ".onnx", ".pbtxt"}


@pytest.mark.parametrize("name", ["data", "runs", ".git", ".venv", "tests", "docs", "secrets"])
def test_folder_stays_out_of_the_install(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "file").touch()

    assert list(copied_files(tmp_path, name, _IGNORED)) == []


def test_each_image_is_built_with_an_extra_that_exists_and_its_own_command() -> None:
    extras = _PROJECT["project"]["optional-dependencies"]
    default = environment_of(_STAGES["build-server"].instructions, {})["EXTRA"]

    assert default in extras
    assert '".[${EXTRA}]"' in _install("build-server")
    assert '".[web]"' in _install("build-studio")
    assert _STAGES["server"].last("CMD").command == ["facegen", "serve"]
    assert _STAGES["studio"].last("CMD").command == ["facegen", "studio"]


@pytest.mark.parametrize("target", ["server", "studio"])
def test_image_runs_as_nobody_in_particular_and_says_what_it_is(target: str) -> None:
    stage = _STAGES[target]
    labels = {it.text.partition("=")[0]: it.text for it in stage.instructions if it.name == "LABEL"}

    assert stage.parent == "base"
    assert stage.last("USER").text == "10001:10001"
    assert "--gid 10001" in _STAGES["base"].last("RUN").text
    assert "org.opencontainers.image.licenses" in "".join(labels.values())


def test_image_that_is_built_without_a_target_is_the_server() -> None:
    assert list(_STAGES)[-1] == "server"


def test_bases_are_one_version_of_python_that_the_project_takes() -> None:
    bases = {stage.parent for stage in _STAGES.values()} - _STAGES.keys()

    [base] = bases
    name, _, tag = base.partition(":")
    assert name == "python"
    assert len(tag.split("-")[0].split(".")) == 3
    assert tuple(map(int, tag.split("-")[0].split(".")[:2])) >= (3, 11)


def test_instruction_that_is_not_known_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM a AS b\nSHELL ["sh"]\n', "utf-8")

    with pytest.raises(ValueError, match="SHELL"):
        read_stages(tmp_path / "Dockerfile")

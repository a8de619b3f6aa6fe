import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import typer

from deploy.release import EXTRAS, changes_of

_ROOT = Path(__file__).parents[2]


def _run(*command: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(part) for part in command],
        input=stdin,
        capture_output=True,
        check=False,
        cwd=_ROOT,
        env=os.environ | {"TERMINAL_WIDTH": "400"},  # messages are told in one line
    )


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen here")
    path = tmp_path_factory.mktemp("key") / "key"
    assert _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path).returncode == 0
    return path


@pytest.fixture(scope="module")
def release(key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a release of what is here, with the base install tried."""
    if _run("git", "rev-parse", "HEAD").returncode:
        pytest.skip("this is no clone")
    out = tmp_path_factory.mktemp("release") / "dist"
    command = (sys.executable, "-m", "deploy.release", "--extras", "base")

    done = _run(*command, "--out", out, "--key", key)

    assert done.returncode == 0, done.stderr.decode()
    return out


def _only(folder: Path, pattern: str) -> Path:
    [path] = folder.glob(pattern)
    return path


def test_every_extra_that_people_install_is_tried() -> None:
    declared = set(distribution("facegen").metadata.get_all("Provides-Extra") or ())

    # Parts of others, and what works on facegen itself.
    assert EXTRAS.keys() - {"base"} == declared - {"serving-base", "render-base", "docs", "dev"}


@pytest.mark.slow
def test_wheel_has_all_parts_and_nothing_else(release: Path) -> None:
    names = zipfile.ZipFile(_only(release, "*.whl")).namelist()

    parts = {name.split("/")[1] for name in names if name.endswith("/py.typed")}
    assert parts == {"client", "export", "serving", "studio", "training", "v1"}
    assert "facegen/training/configs/faces.toml" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"facegen"}


@pytest.mark.slow
def test_sdist_has_the_sources_without_models(release: Path) -> None:
    sdist = _only(release, "facegen-[0-9]*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]

    assert "pyproject.toml" in names
    assert "tests/deploy/test_release.py" in names
    assert not [name for name in names if name.startswith(("models/", ".hypothesis/", ".venv"))]


@pytest.mark.slow
def test_model_repository_is_what_is_committed(release: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(_only(release, "facegen-models-*.tar.gz"), tmp_path, filter="data")

    unpacked = _only(tmp_path, "facegen-models-*")
    committed = _run("git", "ls-files", "models").stdout.decode().split()
    files = {path.relative_to(unpacked) for path in unpacked.rglob("*") if path.is_file()}
    assert files == {Path(name).relative_to("models") for name in committed}


@pytest.mark.slow
def test_what_an_extra_brings_is_told(release: Path) -> None:
    bill = json.loads(_only(release, "*-base.cdx.json").read_text("utf-8"))
    licences = _only(release, "*-base-licences.md").read_text("utf-8")

    names = {component["name"] for component in bill["components"]}
    assert bill["metadata"]["component"]["name"] == "facegen"
    assert {"grpcio", "protobuf", "typer"} <= names
    assert "torch" not in names
    assert "| grpcio " in licences
    for line in licences.splitlines()[2:]:
        assert line.split("|")[3].strip() != "UNKNOWN", line


@pytest.mark.slow
def test_hashes_and_their_signature_hold_and_a_changed_file_does_not(
    release: Path, key: Path, tmp_path: Path
) -> None:
    public = key.with_suffix(".pub").read_text("ascii")
    (tmp_path / "signers").write_text(f"release {public}", "ascii")
    sums = release / "SHA256SUMS"
    who = ("-f", tmp_path / "signers", "-I", "release", "-n", "facegen", "-s", f"{sums}.sig")
    verify = ("ssh-keygen", "-Y", "verify", *who)

    told = {line.split()[1] for line in sums.read_text("utf-8").splitlines()}

    assert told == {path.name for path in release.iterdir()} - {"SHA256SUMS", "SHA256SUMS.sig"}
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=release, check=False
    )
    assert checked.returncode == 0
    assert _run(*verify, stdin=sums.read_bytes()).returncode == 0
    assert _run(*verify, stdin=sums.read_bytes() + b"0  other\n").returncode != 0


@pytest.mark.slow
def test_folder_that_has_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"")

    done = _run(sys.executable, "-m", "deploy.release", "--out", tmp_path)

    assert done.returncode == 2
    assert b"is not empty; remove it" in done.stderr


def test_release_without_a_word_in_the_changelog_is_refused() -> None:
    assert "Studio" in changes_of("0.0.1.dev3+g1234567")

    with pytest.raises(typer.BadParameter, match=r'nothing under "## 99\.0\.0"; write it'):
        changes_of("99.0.0")

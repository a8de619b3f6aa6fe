"""Every command and code block of the documentation does what a reader expects: it works."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facegen.client.cli import app
from tests.docs.changes import CHANGES, NOT_RUN
from tests.docs.code_blocks import ROOT, blocks_of, changed, commands_in, pages, script_of

_TIME_LIMIT_S = 1500
_RUNNABLE = ("sh", "console", "python")
_OPERATORS = {"&&", "||", "|", "&", ";", ">", ">>"}

_WITH_CODE = [page for page in pages() if any(it.language in _RUNNABLE for it in blocks_of(page))]


@pytest.fixture(scope="session")
def address() -> str:
    """A free address of this machine, in place of the one that the pages name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def environment(address: str) -> Mapping[str, str]:
    """What a reader's shell has, and where servers listen here."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # More threads than CPUs only spin where several tests share them.
    ours = {"PATH": path, "OMP_NUM_THREADS": "1"}
    return os.environ | ours | {"FACEGEN_SERVE_ADDRESS": address, "FACEGEN_SERVER": address}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures of faces that nobody minds."""
    folder = tmp_path_factory.mktemp("faces") / "photos"
    _render("--family", "celeba-vae", "--count", "80", "--seed", "3", "--out", str(folder))
    return folder


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of the bundled family's topology, as OBJ."""
    folder = tmp_path_factory.mktemp("heads")
    _render("--family", "ict-mesh", "--count", "1", "--format", "obj", "--out", str(folder / "set"))
    [file] = folder.rglob("*.obj")
    return file


@pytest.fixture
def clone(tmp_path: Path, photos: Path, mesh: Path) -> Path:
    """A folder that has what the pages presume: what is in a clone, and a reader's photos."""
    for name in ("models", "protos"):
        shutil.copytree(ROOT / name, tmp_path / name)
    selfie = ROOT / "docs" / "pictures" / "astronaut.jpg"
    for name in (
        "docs/pictures/astronaut.jpg",
        "selfie.jpg",
        "photo.jpg",
        "holidays/2026/beach.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(selfie, tmp_path / name)
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(ROOT / "models" / "ict-mesh.ply", tmp_path / "face.ply")
    shutil.copy(mesh, tmp_path / "other.obj")
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(_TIME_LIMIT_S + 60)
@pytest.mark.parametrize("page", [page for page in _WITH_CODE if page not in NOT_RUN])
def test_page_works_from_its_first_line_to_its_last(
    page: str, clone: Path, address: str, environment: Mapping[str, str]
) -> None:
    script = script_of(page, CHANGES.get(page, {}), clone, address)
    if "--out photos" in script:
        shutil.rmtree(clone / "photos")  # the page makes them

    code, output = _run(script, folder=clone, environment=environment)

    assert code == 0, output[-6000:]


@pytest.mark.parametrize("page", CHANGES)
def test_what_is_left_out_or_shortened_is_still_in_its_page(page: str) -> None:
    changes = CHANGES[page]

    used = set().union(*(changed(block, changes) for block in blocks_of(page)))

    assert set(changes) - used == set()


def test_pages_that_are_not_run_are_there() -> None:
    assert set(NOT_RUN) - set(_WITH_CODE) == set()


@pytest.mark.parametrize("page", pages())
def test_every_facegen_command_of_a_page_is_understood(page: str) -> None:
    blocks = [*blocks_of(page), *blocks_of(page, indented=True)]
    commands = [
        line for block in blocks for command in commands_in(block) for line in _facegen(command)
    ]

    for command in commands:
        # The parser refuses what it does not know before it sees that only help is wanted.
        shown = CliRunner().invoke(app, [*command, "--help"])
        assert shown.exit_code == 0, f"facegen {shlex.join(command)}\n{shown.output}"


def _render(*options: str) -> None:
    facegen = Path(sys.executable).with_name("facegen")
    subprocess.run([facegen, "render", "generate", *options], cwd=ROOT, check=True)


def _facegen(command: str) -> Iterator[list[str]]:
    """Give the arguments of each `facegen` in a command line."""
    words: list[str] = []
    for word in [*shlex.split(command, comments=True), ";"]:
        if word not in _OPERATORS:
            words.append(word)
            continue
        while words and "=" in words[0]:
            words.pop(0)  # a variable
        if words and words[0] == "facegen":
            yield words[1:]
        words = []


def _run(script: str, *, folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a script to its end, or to the time limit; nothing that it started stays."""
    log = folder / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        ) as process,
    ):
        try:
            code = process.wait(_TIME_LIMIT_S)
        finally:
            _end(process.pid)
    return code, log.read_text("utf-8", "replace")


def _end(session: int) -> None:
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        return

"""Commands, servers and studios that run for real, each in a process of its own."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from facegen.client import Client

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "docs" / "pictures" / "astronaut.jpg"

_FACEGEN = [sys.executable, "-c", "from facegen.client.cli import main; main()"]
_START_S = 90


@dataclass(frozen=True)
class RunningStudio:
    """A studio that answers.

    Attributes:
        url: Its page.
        process: What runs it.
        folder: Where its temporary files go.
    """

    url: str
    process: subprocess.Popen[str]
    folder: Path


def run_command(
    *arguments: str, folder: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a `facegen` command in a folder."""
    return _run([*_FACEGEN, *arguments], folder, variables)


def run_python(program: str, *, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a folder."""
    return _run([sys.executable, "-c", program], folder, {})


def _run(
    command: list[str], folder: Path, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"COLUMNS": "100"} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


@contextmanager
def run_server(repository: Path, address: str, *, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real `facegen serve` that is ready; it does not outlive the block."""
    flags = ["--engine", f"onnx:{repository}", "--address", address]
    with (
        log.open("wb") as lines,
        subprocess.Popen([*_FACEGEN, "serve", *flags], stdout=lines, stderr=lines) as process,
    ):
        try:
            with Client(address, timeout_s=_START_S) as client:
                client.wait_until_serving()
            yield process
        finally:
            process.kill()


@contextmanager
def run_studio(server: str, *flags: str, folder: Path) -> Iterator[RunningStudio]:
    """Run a real `facegen studio` that is ready; it does not outlive the block."""
    command = ["studio", "--server", server, "--address", "127.0.0.1:0", *flags]
    temporary = folder / "temporary"
    temporary.mkdir()
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [*_FACEGEN, *command],
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | {"TMPDIR": str(temporary)},
            text=True,
        ) as process,
    ):
        try:
            yield RunningStudio(_announced(process), process, temporary)
        finally:
            process.kill()


def _announced(process: subprocess.Popen[str]) -> str:
    """Wait for the line that tells the page's address, and give this."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _START_S)
    assert ready, f"the studio told nothing in {_START_S} s"
    line = process.stdout.readline()
    assert line.startswith("facegen studio: http"), line
    return line.partition(": ")[2].strip()


def wait_until(holds: Callable[[], bool], *, timeout_s: float) -> None:
    """Poll until something holds."""
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, f"not within {timeout_s:g} s"
        time.sleep(0.05)

"""A real server of the bundled models, a real studio, and a real browser to visit it with."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.studio.running import ROOT, RunningStudio, run_server, run_studio

RunStudio = Callable[..., AbstractContextManager[RunningStudio]]


@pytest.fixture(scope="session")
def free_address() -> Callable[[], str]:
    """Find an address that nobody listens on."""

    def find() -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{free.getsockname()[1]}"

    return find


@pytest.fixture(scope="session")
def bundled_server(
    free_address: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server of the bundled models."""
    address = free_address()
    with run_server(ROOT / "models", address, log=tmp_path_factory.mktemp("server") / "log"):
        yield address


@pytest.fixture
def start_studio(tmp_path: Path) -> RunStudio:
    """Run a real `facegen studio` for a server until the block ends."""
    return partial(run_studio, folder=tmp_path)


@pytest.fixture(scope="session")
def studio(
    bundled_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStudio]:
    """A studio for the bundled models."""
    with run_studio(bundled_server, folder=tmp_path_factory.mktemp("studio")) as running:
        yield running
